"""Checkpoints: signed by one key for ever, only for a log that continues, in spite of two owners."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from actors.ledger import checkpoints
from actors.ledger.log_key import LogRefused, kept_key, log_key
from config.settings import Settings
from db import log as sql
from schemas.errors import Fenced
from tests.support.log_factory import OWNER, AppendingOwner, LogWorld, ends, log_world
from tests.support.streams import until


def write_key(path: Path, key: object = None) -> Path:
    made = cast(Ed25519PrivateKey, key or Ed25519PrivateKey.generate())
    path.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


async def sizes(world: LogWorld) -> list[int]:
    async with world.pool.acquire() as conn:
        return [size for (size,) in await conn.fetch("SELECT size FROM log_checkpoints ORDER BY size")]


def test_development_makes_a_key_of_its_own_once(tmp_path: Path) -> None:
    path = tmp_path / "data" / "log.pem"
    made = kept_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert kept_key(path).public_key() == made.public_key()
    assert [each.name for each in path.parent.iterdir()] == ["log.pem"]


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_that_holds_no_key_is_refused_and_stays(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.pem"
    path.write_bytes(content)
    with pytest.raises(LogRefused, match="holds no private key as PEM"):
        kept_key(path)
    assert path.read_bytes() == content


def test_another_kind_of_key_and_a_missing_file_are_refused(tmp_path: Path, settings: Settings) -> None:
    path = write_key(tmp_path / "log.pem", generate_private_key(SECP256R1()))
    with pytest.raises(LogRefused, match="none of Ed25519"):
        kept_key(path)
    with pytest.raises(LogRefused, match="cannot be read: No such file"):
        log_key(settings.replace(log_key_file=tmp_path / "missing.pem"))


async def test_another_key_is_refused_until_the_former_one_is_named(settings: Settings, tmp_path: Path) -> None:
    async with log_world(settings) as world:
        await world.owner.append(ends(10))
        former, before = str(await world.key()), await world.checkpoint()
        other = settings.replace(log_key_file=write_key(tmp_path / "new.pem"))
        with pytest.raises(LogRefused, match="LOG_KEY_FILE is another key") as refused:
            await world.start(other)
        assert former in str(refused.value)
        await world.start(other.replace(log_former_keys=(former,)))
        assert str(await world.key()) != former
        assert await world.checkpoint() == before
        await world.owner.append(ends(10))
        assert (await world.checkpoint()).size == 20


async def test_the_name_stays_when_the_address_changes(settings: Settings) -> None:
    async with log_world(settings.replace(api_url="https://api.example.com/trade/")) as world:
        assert (await world.checkpoint()).origin == "api.example.com/trade/log"
        await world.start(settings.replace(api_url="https://other.example"))
        assert (await world.checkpoint()).origin == "api.example.com/trade/log"
        with pytest.raises(LogRefused, match="LOG_ORIGIN: the log is called"):
            await world.start(settings.replace(log_origin="other.example/log"))


async def test_of_a_day_one_checkpoint_is_kept_and_of_the_days_before_the_last(settings: Settings) -> None:
    async with log_world(settings) as world:
        for day in (3, 2, 1):
            await world.owner.append(ends(5))
            await world.execute(
                "UPDATE log_checkpoints SET made_at = now() - $1 * interval '1 day' "
                "WHERE size = (SELECT max(size) FROM log_checkpoints)",
                day,
            )
        for _ in range(3):
            await world.owner.append(ends(5))
        assert await sizes(world) == [5, 10, 15, 30]


async def test_the_owner_signs_by_itself_and_only_what_is_new(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "CHECKPOINT_SECONDS", 0.02)
    async with log_world(settings) as world:
        await world.owner.append(ends(3), sign=False)

        async def is_signed() -> bool:
            return (await world.checkpoint()).size == 3

        await until(is_signed)
        assert await sizes(world) == [3]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("UPDATE log_entries SET body = 'x' WHERE index = 590", "roots of trees of one size differ"),
        ("UPDATE log_tiles SET hashes = decode(repeat('00', 64), 'hex') WHERE level = 1", "roots of trees of one size"),
        ("DELETE FROM log_entries WHERE index = 550", "tile 2 of level 0 has 87 hashes instead of 88"),
        ("DELETE FROM log_tiles WHERE level = 1", "tile 0 of level 1 has 0 hashes instead of 2"),
        ("UPDATE log_state SET size = 500", "the log has 500 entries, and 600 were signed"),
    ],
)
async def test_a_log_that_is_another_one_is_never_signed(settings: Settings, harm: str, said: str) -> None:
    async with log_world(settings) as world:
        await world.owner.append(ends(600))
        before = await world.checkpoint()
        await world.execute(harm)
        with pytest.raises(LogRefused, match=said):
            await world.start()
        assert await world.checkpoint() == before


async def test_harm_under_a_running_owner_stops_the_signing_too(settings: Settings) -> None:
    async with log_world(settings) as world:
        await world.owner.append(ends(300))
        before = await world.checkpoint()
        await world.execute("UPDATE log_entries SET body = 'x' WHERE index = 299")
        await world.owner.append(ends(10), sign=False)
        with pytest.raises(LogRefused, match="whose first 300 entries"):
            await world.owner.checkpoints.sign()
        assert await world.checkpoint() == before


async def test_a_former_owner_neither_appends_nor_signs(settings: Settings) -> None:
    async with log_world(settings) as world:
        former = world.owner
        await former.append(ends(10))
        world.owner = AppendingOwner()
        await world.actors.start(OWNER, world.owner, settings)
        await world.owner.append(ends(10, first=10), sign=False)
        with pytest.raises(Fenced):
            await former.append(ends(10))
        with pytest.raises(Fenced):
            await former.checkpoints.sign()
        assert (await world.checkpoint()).size == 10
        await world.owner.append(ends(10, first=20))
        assert (await world.checkpoint()).size == 30
        async with world.pool.acquire() as conn:
            assert (await sql.read_state(conn)).size == 30
