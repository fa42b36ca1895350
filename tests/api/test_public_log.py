"""The public log over HTTP: C2SP's formats, immutable tiles, proofs that a stranger verifies."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Sequence
from uuid import UUID

import pytest

from actors.records.entries import encode
from actors.tlog.notes import open_checkpoint
from actors.tlog.proofs import parse_proof
from actors.tlog.tiles import Tile, decode_entries, split_hashes, tiles_of
from actors.tlog.tree import Frontier, leaf_hash, root_of, verify_consistency
from config.settings import Settings
from tests.support.log_factory import LogWorld, ends, log_world, signal_entry

TILE = "/log/tile/"


async def read_hashes(world: LogWorld, tile: Tile) -> Sequence[bytes]:
    return split_hashes(await world.get(f"/log/{tile.path}"))


async def test_an_empty_log_has_a_key_and_a_checkpoint(settings: Settings) -> None:
    async with log_world(settings) as world:
        checkpoint = await world.checkpoint()
        assert (checkpoint.origin, checkpoint.size, checkpoint.root) == ("localhost:8000/log", 0, root_of([]))
        assert (await world.key()).name == "localhost:8000/log"
        response = await world.client.get("/log/checkpoint")
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-cache"
        again = await world.client.get("/log/checkpoint", If_None_Match=response.headers["ETag"])
        assert (again.status, again.body) == (304, b"")


async def test_the_tiles_are_the_log_that_the_checkpoint_signs(settings: Settings) -> None:
    entries = ends(700)
    hashes = [leaf_hash(encode(each)) for each in entries]
    async with log_world(settings) as world:
        for start, end in [(0, 3), (3, 256), (256, 700)]:
            await world.owner.append(entries[start:end])
        checkpoint = await world.checkpoint()
        assert (checkpoint.size, checkpoint.root) == (700, root_of(hashes))
        found: list[bytes] = []
        tiles: dict[tuple[int, int], Sequence[bytes]] = {}
        for tile in tiles_of(700):
            assert tile.level is not None
            tiles[tile.level, tile.index] = await read_hashes(world, tile)
            if tile.level == 0:
                bundle = await world.get(f"/log/{Tile(None, tile.index, tile.width).path}")
                found += decode_entries(bundle)
        assert found == [encode(each) for each in entries]
        assert Frontier.load(700, lambda level, index, _: tiles[level, index]).root() == checkpoint.root


async def test_tiles_are_cached_for_ever_and_by_anybody(settings: Settings) -> None:
    async with log_world(settings) as world:
        await world.owner.append(ends(300))
        for path in ("0/000", "0/001.p/44", "0/001.p/7", "1/000.p/1", "entries/000", "entries/001.p/9", "0/000.p/255"):
            response = await world.client.get(TILE + path, Authorization="Bearer nonsense")
            assert response.status == 200, path
            assert response.headers["Content-Type"] == "application/octet-stream"
            assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
            assert (await world.client.get(TILE + path, If_None_Match=response.headers["ETag"])).status == 304
        assert (await world.get(TILE + "0/001.p/7")) == (await world.get(TILE + "0/001.p/44"))[: 7 * 32]


@pytest.mark.parametrize(
    "path",
    [
        *("0/001", "0/001.p/45", "0/002.p/1", "1/000.p/2", "1/000", "2/000.p/1", "63/000", "63/x999/x999/999"),
        *("entries/001", "entries/001.p/45", "0/0", "00/000", "0/x000/000", "0/000.p/256", "0/000.p/0", "x/000", "0"),
        *("0/000/", "%30/000x", "entries/..%2f000", "0/000%00", "-1/000", "0/x999/x999/x999/x999/x999/x999/999"),
    ],
)
async def test_what_no_checkpoint_covers_or_nobody_names_is_not_there(settings: Settings, path: str) -> None:
    async with log_world(settings) as world:
        await world.owner.append(ends(300))
        (await world.client.get(TILE + path)).problem(404, "NOT_FOUND")


async def test_nothing_is_served_before_it_is_signed(settings: Settings) -> None:
    async with log_world(settings, started=False) as world:
        for path in ("/log/checkpoint", "/log/key", TILE + "0/000.p/1", "/api/log/consistency?from=0&to=0"):
            (await world.client.get(path)).problem(404, "NOT_FOUND")
        await world.start()
        signal = signal_entry(1)
        proof = f"/api/signals/{signal.signal_id}/proof"
        await world.owner.append([signal, *ends(9)], sign=False)
        for path in (TILE + "0/000.p/1", TILE + "entries/000.p/1", proof):
            (await world.client.get(path)).problem(404, "NOT_FOUND")
        await world.owner.checkpoints.sign()
        for path in (TILE + "0/000.p/10", TILE + "entries/000.p/10", proof):
            assert (await world.client.get(path)).status == 200


async def test_a_signal_has_a_proof_that_is_complete_in_itself(settings: Settings) -> None:
    async with log_world(settings) as world:
        signals = [signal_entry(number, score=number % 100) for number in range(1, 601)]
        await world.owner.append(signals)
        key = await world.key()
        for number in (0, 255, 256, 599):
            text = await world.get(f"/api/signals/{signals[number].signal_id}/proof")
            proof = parse_proof(text.decode())
            assert proof.index == number
            assert proof.verify(encode(signals[number]), key) == await world.checkpoint()
        for name in (UUID(int=99_999), "nothing"):
            (await world.client.get(f"/api/signals/{name}/proof")).problem(404, "NOT_FOUND")


async def test_growth_is_proved_from_any_size_to_any_later_one(settings: Settings) -> None:
    entries = ends(600)
    hashes = [leaf_hash(encode(each)) for each in entries]
    async with log_world(settings) as world:
        await world.owner.append(entries)
        for old, new in [(0, 0), (0, 600), (1, 600), (255, 256), (256, 600), (300, 599), (600, 600)]:
            answer = (await world.client.get(f"/api/log/consistency?from={old}&to={new}")).json
            proof = [b64decode(each, validate=True) for each in answer["hashes"]]
            verify_consistency(old, root_of(hashes[:old]), new, root_of(hashes[:new]), proof)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=0", "to"),
        ("to=1", "from"),
        ("from=2&to=1", "from"),
        ("from=-1&to=1", "from"),
        ("from=0&to=11", "to"),
        ("from=x&to=1", "from"),
        ("from=0&to=99999999999999999999", "to"),
        ("from=0&to=1&to=1", "to"),
    ],
)
async def test_a_wrong_size_is_named(settings: Settings, query: str, field: str) -> None:
    async with log_world(settings) as world:
        await world.owner.append(ends(10))
        problem = (await world.client.get(f"/api/log/consistency?{query}")).problem(400, "VALIDATION_ERROR")
        assert [each["field"] for each in problem["details"]] == [field]


async def test_checkpoints_of_all_times_are_consistent_through_restarts(settings: Settings) -> None:
    async with log_world(settings) as world:
        seen = [await world.checkpoint()]
        for round_ in range(6):
            await world.owner.append(ends(100, first=round_ * 100))
            seen.append(await world.checkpoint())
            await world.start()
        key = await world.key()
        last = open_checkpoint((await world.get("/log/checkpoint")).decode(), key)
        for each in seen:
            answer = (await world.client.get(f"/api/log/consistency?from={each.size}&to={last.size}")).json
            proof = [b64decode(line) for line in answer["hashes"]]
            verify_consistency(each.size, each.root, last.size, last.root, proof)
