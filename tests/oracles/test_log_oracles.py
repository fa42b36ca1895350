"""The log against two implementations that are not ours: pymerkle's trees, and tlog-scales reading it over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from actors.records.entries import encode
from actors.tlog.tiles import split_hashes
from actors.tlog.tree import Frontier, consistency_proof, inclusion_proof, leaf_hash
from config.settings import Settings
from tests.support.log_factory import ends, log_world

SIZE = 70_000
ENTRIES = [b"entry %d" % number for number in range(SIZE)]
SIZES = st.one_of(st.sampled_from([1, 2, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, SIZE]), st.integers(1, SIZE))


class Stored:
    """A tree as a server stores it, of any size up to SIZE."""

    def __init__(self) -> None:
        self.hashes = [leaf_hash(each) for each in ENTRIES]
        frontier = Frontier()
        self.tiles = {(each.level, each.index): split_hashes(each.hashes) for each in frontier.append(self.hashes)}
        for level, row in enumerate(frontier.levels):
            self.tiles[level, SIZE >> 8 * (level + 1)] = row

    def read(self, level: int, index: int, width: int) -> list[bytes]:
        return self.tiles[level, index][:width]


@pytest.fixture(scope="module")
def stored() -> Stored:
    return Stored()


@pytest.fixture(scope="module")
def merkle_tree() -> Any:
    pymerkle = pytest.importorskip("pymerkle", reason="make oracles")
    tree = pymerkle.InmemoryTree(algorithm="sha256")
    tree.append_entries(ENTRIES)
    return tree


@hypothesis_settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_roots_and_proofs_of_inclusion_are_pymerkles(stored: Stored, merkle_tree: Any, data: st.DataObject) -> None:
    size = data.draw(SIZES)
    index = data.draw(st.integers(0, size - 1))
    root = merkle_tree.get_root(size)
    assert Frontier.load(size, stored.read).root() == root
    theirs = merkle_tree.prove_inclusion(index + 1, size)
    ours = inclusion_proof(index, size, stored.read)
    assert [stored.hashes[index], *ours] == theirs.path
    theirs.path = [stored.hashes[index], *ours]
    theirs.verify(stored.hashes[index], root, index + 1, size)


@hypothesis_settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_proofs_of_consistency_convince_tlog_scales(stored: Stored, merkle_tree: Any, data: st.DataObject) -> None:
    tlog = pytest.importorskip("tlog_scales.tlog", reason="make oracles")
    size = data.draw(SIZES)
    old_size = data.draw(st.integers(1, size))
    proof = consistency_proof(old_size, size, stored.read)
    theirs = tlog.ConsistencyProof(old_size, size, proof)
    theirs.check(merkle_tree.get_root(old_size), merkle_tree.get_root(size))


async def test_tlog_scales_reads_the_log_over_http(settings: Settings) -> None:
    reader_module = pytest.importorskip("tlog_scales.reader", reason="make oracles")
    from tlog_scales.backend import HttpBackend  # type: ignore[import-not-found]
    from tlog_scales.signing import Vkey  # type: ignore[import-not-found]

    entries = ends(66_000)

    def check(url: str, key: str, size: int) -> None:
        reader = reader_module.TilesReader(HttpBackend(f"{url}/log"))
        checkpoint = reader.get_checkpoint()
        vkey = Vkey.from_string(key)
        assert [vkey.match(each) for each in checkpoint.signatures] == [True]
        checkpoint.verify(vkey)
        assert checkpoint.size == size
        assert reader.calculate_root_hash() == checkpoint.root_hash
        for index in {0, 255, 256, size // 2, size - 1} & set(range(size)):
            assert reader.get_entry(index) == encode(entries[index])
            reader.get_inclusion_proof(index, size).check(leaf_hash(encode(entries[index])), checkpoint.root_hash)
        for old in {1, 256, size // 3, size - 1} & set(range(1, size)):
            old_reader = reader_module.TilesReader(HttpBackend(f"{url}/log"))
            old_reader.set_size(old)
            old_root = old_reader.calculate_root_hash()
            reader.get_consistency_proof(old, size).check(old_root, checkpoint.root_hash)

    async with log_world(settings) as world:
        for size in (1, 256, 700, 66_000):
            await world.owner.append(entries[(await world.checkpoint()).size : size])
            url = f"http://127.0.0.1:{world.client.port}"
            await asyncio.to_thread(check, url, str(await world.key()), size)
