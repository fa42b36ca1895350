"""Witnesses: ours as tlog-witness has it, request by request; the owner's asking, over HTTP, through trouble."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from actors.ledger import witnesses
from actors.tlog.notes import Checkpoint, Signer, parse_note
from actors.tlog.proofs import encode_hashes
from actors.tlog.tree import EMPTY_ROOT, Frontier, consistency_proof, leaf_hash, root_of
from config.settings import Settings
from server.verify.kept import Kept
from server.witness import Witness, serve_witness
from tests.support.log_factory import ends, log_world

LOG = Signer("example.com/log", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
WITNESS = Signer("witness.example/w1", Ed25519PrivateKey.from_private_bytes(bytes(32)))
HASHES = [leaf_hash(b"entry %d" % number) for number in range(200)]


def head(size: int, hashes: Sequence[bytes] = HASHES, origin: str = "example.com/log") -> Checkpoint:
    return Checkpoint(origin, size, root_of(hashes[:size]))


def proof(old: int, size: int) -> list[bytes]:
    return consistency_proof(old, size, lambda _, __, width: HASHES[:width])


def request(old: object, hashes: Sequence[bytes], checkpoint: Checkpoint, signer: Signer = LOG) -> bytes:
    return "\n".join([f"old {old}", *encode_hashes(hashes), "", signer.sign(checkpoint.text)]).encode()


def new_witness(folder: Path) -> Witness:
    return Witness(WITNESS, {LOG.key: Kept(folder, "http://log")})


def test_a_log_that_grows_is_cosigned_also_after_a_restart(tmp_path: Path) -> None:
    sizes = [0, 1, 7, 7, 128, 200]
    for old, size in pairwise(sizes):
        answer = new_witness(tmp_path).add(request(old, proof(old, size), head(size)))
        assert answer.status == 200, answer
        note = parse_note(LOG.sign(head(size).text) + answer.body)
        assert note.signers([WITNESS.cosigning_key]) == [WITNESS.cosigning_key]


def test_each_refusal_has_its_status_and_changes_nothing(tmp_path: Path) -> None:
    witness = new_witness(tmp_path)
    assert witness.add(request(0, [], head(100))).status == 200
    other = Signer("example.com/log", Ed25519PrivateKey.generate())
    unknown = Signer("else.example/log", Ed25519PrivateKey.generate())
    forged = [leaf_hash(b"forged"), *HASHES[1:]]
    for body, status in (
        (request(100, [], head(200, origin="else.example/log"), unknown), 404),
        (request(100, proof(100, 200), head(200), other), 403),
        (request(150, [], head(120)), 400),
        (request(0, [], head(200)), 409),
        (request(50, proof(50, 200), head(200)), 409),
        (request(100, [], head(100, forged)), 409),
        (request(100, [], head(200)), 422),
        (request(100, proof(50, 200), head(200)), 422),
        (request(100, proof(100, 200), head(200, forged)), 422),
    ):
        answer = witness.add(body)
        assert answer.status == status, body
        if status == 409:
            assert (answer.body, answer.media_type) == ("100\n", "text/x.tlog.size")
    assert witness.add(request(100, proof(100, 200), head(200))).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\n\n",
        b"old 0\n\n",
        b"old 0\n\nno note\n",
        request("01", [], head(2)),
        request("-1", [], head(2)),
        request("", [], head(2)),
        request("9" * 30, [], head(2)),
        request(0, [b"short"], head(2)),
        request(0, [bytes(32)] * 64, head(2)),
        request(0, [], head(2)).replace(b"old", b"new"),
        LOG.sign("no checkpoint\n").encode(),
    ],
)
def test_whatever_else_is_sent_is_malformed(tmp_path: Path, body: bytes) -> None:
    assert new_witness(tmp_path).add(body).status == 400


@given(st.binary(max_size=400), st.integers(0, 200))
def test_random_bytes_are_malformed(tmp_path_factory: pytest.TempPathFactory, junk: bytes, start: int) -> None:
    witness = new_witness(tmp_path_factory.getbasetemp() / "unused")
    right = request(0, [], head(7))
    for body in (junk, right[:start] + b"\n\n" + junk):
        assert witness.add(body).status in {400, 403, 404}


@asynccontextmanager
async def witnessing(folder: Path, settings: Settings) -> AsyncIterator[tuple[Settings, Witness]]:
    """A witness over HTTP that knows the key of these settings' log, and settings that name it."""
    async with log_world(settings) as world:
        key = await world.key()
    witness = Witness(WITNESS, {key: Kept(folder, "http://log")})
    server, port = serve_witness(witness, "127.0.0.1", 0)
    try:
        yield settings.replace(witnesses=(f"http://127.0.0.1:{port} {WITNESS.cosigning_key}",)), witness
    finally:
        server.stop()
        await server.close_all_connections()


async def test_what_is_served_is_cosigned(settings: Settings, tmp_path: Path) -> None:
    async with witnessing(tmp_path, settings) as (named, _), log_world(named) as world:
        for size in (10, 300, 700):
            await world.owner.append(ends(size - (await world.checkpoint()).size))
            note = parse_note((await world.get("/log/checkpoint")).decode())
            keys = [await world.key(), WITNESS.cosigning_key]
            assert note.signers(keys) == keys
            assert (await world.checkpoint()).size == size
        await world.start()
        await world.owner.append(ends(5))
        note = parse_note((await world.get("/log/checkpoint")).decode())
        assert WITNESS.cosigning_key in note.signers(keys), "it is asked for the size that it knows"


async def test_a_backup_that_was_put_back_is_not_cosigned(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with witnessing(tmp_path, settings) as (named, _), log_world(named) as world:
        await world.owner.append(ends(20))
        await world.execute("TRUNCATE log_entries, log_tiles, log_checkpoints")
        await world.execute("UPDATE log_state SET size = 0")
        await world.start()
        await world.owner.append(ends(5))
        assert (await world.checkpoint()).size == 5
        assert WITNESS.key.name not in (await world.get("/log/checkpoint")).decode()
        assert "it has seen 20 entries, and the log has" in caplog.text
        assert "put back" in caplog.text


async def test_another_history_is_not_cosigned(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnesses, "BACKOFF_SECONDS", (0.0, 0.0))
    async with witnessing(tmp_path, settings) as (named, _), log_world(named) as world:
        await world.owner.append(ends(20))
        await world.execute("TRUNCATE log_entries, log_tiles, log_checkpoints")
        await world.execute("UPDATE log_state SET size = 0")
        await world.start()
        await world.owner.append(ends(30, first=500))
        assert WITNESS.key.name not in (await world.get("/log/checkpoint")).decode()
        assert "it answers 422" in caplog.text


async def test_a_witness_that_fails_holds_nothing_up(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    nobody = f"http://127.0.0.1:9 {WITNESS.cosigning_key}"
    async with log_world(settings.replace(witnesses=(nobody,))) as world:
        for _ in range(5):
            await world.owner.append(ends(10))
        assert (await world.checkpoint()).size == 50
        assert caplog.text.count("witness witness.example/w1") == 1, "it is left alone for a while"


def test_the_tree_of_this_test_is_right() -> None:
    frontier = Frontier()
    assert frontier.root() == EMPTY_ROOT
    frontier.append(HASHES)
    assert frontier.root() == head(200).root
