"""`run.py verify`, as a stranger over HTTP: what is right is verified, each attack is detected and named."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from actors.ledger.log_key import read_key
from actors.ledger.log_writer import LogWriter
from actors.records.entries import AnyEntry, encode
from actors.tlog.notes import Checkpoint, Signer
from actors.tlog.tiles import Tile
from actors.tlog.tree import leaf_hash, root_of
from config.settings import Settings
from db._postgres import transaction
from server.verify import Contradicted, NotVerified
from server.verify.audit import audit, read_entries
from server.verify.command import UNKNOWN, USUAL_COSTS, VerifyOptions, run, verify
from server.verify.kept import Kept
from server.verify.record import Recomputed, costs_of, differences, recompute, shown
from server.verify.source import LogSource
from tests.integration.test_checkpoints import write_key
from tests.support.log_factory import LogWorld, ends, log_world, signal_entry
from tests.support.log_histories import History
from tests.support.providers_factory import Trade, add_system_provider, catch_up, post_trades, providers_world

PROVIDER = UUID(int=7)


def signals(count: int, first: int = 1) -> list[AnyEntry]:
    return [signal_entry(number) for number in range(first, first + count)]


async def visit(world: LogWorld, folder: Path) -> Kept:
    """Verify the log as a reader does who keeps what is seen in the folder."""
    source = LogSource(f"http://127.0.0.1:{world.client.port}")
    kept = Kept(folder, "http://server")
    try:
        await audit(source, kept)
    finally:
        await source.close()
    return kept


async def contradictions(world: LogWorld, folder: Path) -> list[str]:
    with pytest.raises(Contradicted) as raised:
        await visit(world, folder)
    return raised.value.findings


async def forge(world: LogWorld, entries: Sequence[AnyEntry]) -> None:
    """Make the log anew from these entries, tiles and checkpoint too, as one can who has the database and the key."""
    await world.execute("TRUNCATE log_entries, log_tiles, log_checkpoints")
    await world.execute("UPDATE log_state SET size = 0, feed_seq = 0")
    await world.start()
    await world.owner.append(entries)


async def test_a_log_that_grows_is_verified_at_each_visit(settings: Settings, tmp_path: Path) -> None:
    async with log_world(settings) as world:
        for size in (0, 1, 200, 256, 700):
            have = (await world.checkpoint()).size
            await world.owner.append(signals(size - have, first=have + 1))
            kept = await visit(world, tmp_path)
            await visit(world, tmp_path)
            assert kept.checkpoint == await world.checkpoint()
            found = [encode(entry) for _, entry in read_entries(kept, size, b"")]
            assert found == [encode(each) for each in signals(size)]


async def test_what_is_kept_is_not_sent_again(settings: Settings, tmp_path: Path) -> None:
    async with log_world(settings) as world:
        await world.owner.append(signals(600))
        await visit(world, tmp_path)
        sent = []

        class Watching(LogSource):
            async def bundle(self, tile: Tile, *, tag: str | None = None) -> bytes | None:
                content = await super().bundle(tile, tag=tag)
                sent.append(content is not None)
                return content

        source = Watching(f"http://127.0.0.1:{world.client.port}")
        await audit(source, Kept(tmp_path, "http://server"))
        await source.close()
        assert sent == [False, False, False]


@pytest.mark.parametrize("index", [0, 300, 599])
async def test_a_changed_row_is_named_at_the_first_visit_and_at_a_later_one(
    settings: Settings, tmp_path: Path, index: int
) -> None:
    async with log_world(settings) as world:
        await world.owner.append(signals(600))
        await visit(world, tmp_path / "before")
        body = encode(signal_entry(index + 1, score=99))
        await world.execute("UPDATE log_entries SET body = $1 WHERE index = $2", body, index)
        fresh = await contradictions(world, tmp_path / "fresh")
        assert "the 600 entries are not those that the checkpoint signs" in fresh[0]
        if index < 512:  # hashes of full tiles are stored, those of the last one are computed
            assert f"entry {index} was changed after it was signed" in fresh[1]
        later = "\n".join(await contradictions(world, tmp_path / "before"))
        assert f"entry {index} was changed since an earlier visit: score was 87, and now it is 99" in later
        await world.execute("UPDATE log_entries SET body = $1 WHERE index = $2", encode(signal_entry(index + 1)), index)
        await visit(world, tmp_path / "fresh")  # put right, it is as if it had never been
        await visit(world, tmp_path / "before")


async def test_a_signal_that_is_left_out_is_missed(settings: Settings, tmp_path: Path) -> None:
    async with log_world(settings) as world:
        await world.owner.append([*signals(4), *signals(3, first=6)])
        [finding, _] = await contradictions(world, tmp_path)
        assert finding == "entry 4 has the feed_seq 6 after 4: something is left out"


async def test_a_removed_signal_in_a_log_made_anew_is_named(settings: Settings, tmp_path: Path) -> None:
    async with log_world(settings) as world:
        await world.owner.append(signals(300))
        await visit(world, tmp_path)
        await forge(world, [*signals(99), *ends(1), *signals(300, first=100)])
        found = await contradictions(world, tmp_path)
        assert "the first 300 entries are not those that were signed at your last visit" in found
        assert any("entry 99 was changed since an earlier visit: kind was 'signal'" in each for each in found)
        assert (tmp_path / "server" / "contradiction-400").exists()


async def test_a_database_that_was_put_back_is_detected(settings: Settings, tmp_path: Path) -> None:
    async with log_world(settings) as world:
        await world.owner.append(signals(300))
        await visit(world, tmp_path)
        await forge(world, signals(200))
        found = await contradictions(world, tmp_path)
        assert found[0] == "the log was put back: it has 200 entries, and at your last visit it had signed 300"
        await world.owner.append(signals(100, first=201))
        await visit(world, tmp_path)  # the same entries again: the same log


async def test_two_readers_who_were_shown_two_histories_find_it(settings: Settings, tmp_path: Path) -> None:
    async with log_world(settings) as world:
        await world.owner.append(signals(300))
        await visit(world, tmp_path / "one")
        other = [signal_entry(1, score=1), *signals(299, first=2)]
        await forge(world, other)
        await visit(world, tmp_path / "two")  # alone, the second reader sees nothing wrong
        found = await contradictions(world, tmp_path / "one")
        assert "the log has signed two histories of 300 entries" in found[0]


async def test_another_key_is_refused_unless_it_was_announced(settings: Settings, tmp_path: Path) -> None:
    async with log_world(settings) as world:
        await world.owner.append(signals(10))
        await visit(world, tmp_path)
        former = str(await world.key())
        replaced = settings.replace(log_key_file=write_key(tmp_path / "new.pem"), log_former_keys=(former,))
        await world.start(replaced)
        found = await contradictions(world, tmp_path)
        assert "signed by another key than before" in found[0]
        source = LogSource(f"http://127.0.0.1:{world.client.port}")
        await audit(source, Kept(tmp_path, "http://server"), await world.key())
        await source.close()
        await visit(world, tmp_path)


async def test_with_the_stolen_key_only_what_was_kept_contradicts(settings: Settings, tmp_path: Path) -> None:
    """What a signature does not prove: its thief signs, and a new reader without a witness believes."""
    async with log_world(settings) as world:
        await world.owner.append(signals(10))
        await visit(world, tmp_path / "old reader")
        await forge(world, [signal_entry(1, score=1), *signals(29, first=2)])
        await visit(world, tmp_path / "new reader")
        assert await contradictions(world, tmp_path / "old reader")


async def test_a_record_is_recomputed_to_the_last_digit(settings: Settings, tmp_path: Path) -> None:
    history = History(random.Random(5), PROVIDER)
    entries = history.go_on(300)
    async with log_world(settings) as world:
        await world.owner.append(entries)
        kept = await visit(world, tmp_path)
        found = recompute(read_entries(kept, len(entries), str(PROVIDER).encode()), PROVIDER, USUAL_COSTS)
        expected = recompute(iter(list(enumerate(entries))), PROVIDER, USUAL_COSTS)
        assert found == expected
        assert len(found.days) > 10
        points = shown_points(found)
        assert differences(found, {"points": points}) == (len(points) - 1, [])
        changed = [*points]
        changed[3] = points[3] | {"open": float(points[3]["open"]) + 0.0001}
        _, [difference] = differences(found, {"points": changed})
        assert difference.startswith(f"{list(found.days)[3]}: open is shown as")
        _, [difference] = differences(found, {"points": points[:4] + points[5:]})
        assert difference == f"{list(found.days)[4]} is not shown"


def test_days_without_a_position_stay_as_they_were() -> None:
    history = History(random.Random(5), PROVIDER)
    found = recompute(iter(list(enumerate(history.go_on(300)))), PROVIDER, USUAL_COSTS)
    gone = list(found.days)[5]
    before = found.days[list(found.days)[4]]
    del found.days[gone]  # type: ignore[attr-defined]
    points = shown_points(found)
    assert differences(found, {"points": points})[1] == [f"{gone} is not shown"]
    point = points[4] | {"t": f"{gone}T23:00:00Z", "open": 0, "exposure": 0}
    point["realised"] = float(shown(before.realised + before.open_result))
    assert differences(found, {"points": [*points[:5], point, *points[5:]]})[1] == []


def shown_points(found: Recomputed) -> list[dict[str, object]]:
    """Return the points of an equity that shows these days, and one of now."""
    days = [
        {
            "t": f"{day + timedelta(days=1)}T00:00:00Z",
            "equity": float(shown(each.equity)),
            "realised": float(shown(each.realised)),
            "open": float(shown(each.open_result)),
            "exposure": float(shown(each.exposure)),
            "drawdown": float(shown(each.drawdown)),
        }
        for day, each in found.days.items()
    ]
    return [*days, days[-1] | {"t": "2027-01-01T12:34:56Z", "equity": 7}]


# --- servers that are none

NONSENSE = [b"", b"\xff\xfe", b"{}", b"null", b"text\n\nno dash\n", b"x" * 70_000]


@pytest.mark.parametrize("content", NONSENSE)
@pytest.mark.parametrize("place", ["/log/key", "/log/checkpoint", "/log/tile"])
async def test_nonsense_is_a_clear_error(tmp_path: Path, content: bytes, place: str) -> None:
    log = Signer("nonsense/log", write_and_read(tmp_path))
    body = encode(signal_entry(1))
    right = {
        "/log/key": f"{log.key}\n".encode(),
        "/log/checkpoint": log.sign(Checkpoint("nonsense/log", 1, root_of([leaf_hash(body)])).text).encode(),
    }

    async def answer(request: web.Request) -> web.Response:
        given = right.get(request.path)
        return web.Response(body=content if request.path.startswith(place) or given is None else given)

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    source = LogSource(f"http://127.0.0.1:{port}")
    try:
        with pytest.raises((NotVerified, Contradicted)):
            await audit(source, Kept(tmp_path / "kept", source.url))
    finally:
        await source.close()
        await runner.cleanup()


def write_and_read(folder: Path) -> Ed25519PrivateKey:
    return read_key(write_key(folder / "key.pem"))


async def test_nobody_who_answers_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.verify.source.ATTEMPTS", 2)
    source = LogSource("http://127.0.0.1:9")
    with pytest.raises(NotVerified, match="does not answer"):
        await audit(source, Kept(tmp_path, source.url))
    await source.close()


# --- the command


async def said_by(world: LogWorld, folder: Path, provider_id: UUID | None = None) -> list[str]:
    said: list[str] = []
    await verify(VerifyOptions(f"http://127.0.0.1:{world.client.port}", provider_id, folder), said.append)
    return said


async def test_the_command_says_what_it_verified(settings: Settings, tmp_path: Path) -> None:
    async with log_world(settings) as world:
        await world.owner.append([*signals(3), *ends(2)])
        said = await said_by(world, tmp_path)
        assert said[0] == "Log localhost:8000/log: 5 entries (3 signals, 2 ends)"
        assert said[-1] == "VERIFIED: the entries are those that the checkpoint signs"
        assert "  continues the 5 entries of your last visit" in await said_by(world, tmp_path)
        with pytest.raises(NotVerified, match=f"knows no provider {PROVIDER}"):
            await said_by(world, tmp_path, PROVIDER)


def test_the_exit_status_says_what_happened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(VerifyOptions("http://127.0.0.1:9", folder=tmp_path, key="no key")) == UNKNOWN
    assert capsys.readouterr().err.startswith("verify: --key: ")


async def test_a_providers_page_is_verified_and_a_wrong_figure_is_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.verify.command.LAG_SECONDS", 0.5)
    async with providers_world(settings) as world:
        async with transaction(world.pool) as conn:
            king, other = [await add_system_provider(conn) for _ in range(2)]
        prices = [100, 110, 100, 80, 100, 103]
        trades = [Trade(king, opens=place % 2 == 0, price=Decimal(each)) for place, each in enumerate(prices)]
        await post_trades(world, [*trades, Trade(other)])
        said: list[str] = []
        options = VerifyOptions(f"http://127.0.0.1:{world.client.port}", king, tmp_path)
        await verify(options, said.append)
        assert said[-1] == "VERIFIED: what its page shows follows from the log"
        assert "  6 signals" in "\n".join(said)
        monkeypatch.setattr("server.verify.command.ATTEMPTS", 2)
        async with transaction(world.pool) as conn:
            await conn.execute("UPDATE provider_stats SET win_count = 3, loss_count = 0 WHERE provider_id = $1", king)
        with pytest.raises(Contradicted) as raised:
            await verify(options, said.append)
        assert "win_count is shown as 3, and by the log it is 2" in raised.value.findings
        assert "loss_count is shown as 0, and by the log it is 1" in raised.value.findings


@pytest.mark.parametrize(
    "equity",
    [
        {},
        {"points": None},
        {"points": [None]},
        {"points": ["x"]},
        {"points": [{"t": "0001-01-01"}, {}]},
        {"points": [{"t": 5}, {}]},
        {"points": [[]]},
    ],
)
def test_an_equity_of_another_form_is_a_clear_error(equity: dict[str, object]) -> None:
    with pytest.raises(NotVerified):
        differences(recompute(iter([]), PROVIDER, USUAL_COSTS), equity)


@pytest.mark.parametrize("costs", [None, [], {"crypto": "NaN"}, {"crypto": "x"}, {"crypto": -1}, {"crypto": True}])
def test_costs_that_are_none_are_a_clear_error(costs: object) -> None:
    with pytest.raises(NotVerified):
        costs_of({"cost_bps": costs})


async def test_a_curve_over_weeks_is_verified_and_a_wrong_day_is_named(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.verify.command.LAG_SECONDS", 0.5)
    async with providers_world(settings) as world:
        async with transaction(world.pool) as conn:
            who = await add_system_provider(conn)
            await LogWriter().append(conn, History(random.Random(5), who).go_on(300))
        await catch_up(world)
        said: list[str] = []
        options = VerifyOptions(f"http://127.0.0.1:{world.client.port}", who, tmp_path)
        await verify(options, said.append)
        assert said[-1] == "VERIFIED: what its page shows follows from the log"
        [compared] = [line for line in said if line.startswith("  equity: ")]
        assert int(compared.split()[1]) > 10
        monkeypatch.setattr("server.verify.command.ATTEMPTS", 2)
        async with transaction(world.pool) as conn:
            day = await conn.fetchval(
                "UPDATE record_days SET open_result = open_result + 500000000 WHERE day = "
                "(SELECT min(day) FROM record_days) RETURNING day"
            )
        with pytest.raises(Contradicted) as raised:
            await verify(options, said.append)
        assert any(each.startswith(f"{day}: open is shown as") for each in raised.value.findings)
