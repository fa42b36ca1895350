"""Test the log's tree, tiles, notes and proofs against RFC 6962 written out, and C2SP's own examples."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.tlog.notes import (
    Checkpoint,
    NoteRejected,
    Signer,
    open_checkpoint,
    parse_checkpoint,
    parse_key,
    parse_note,
)
from actors.tlog.proofs import Proof, parse_proof
from actors.tlog.tiles import Tile, decode_entries, encode_entries, parse_tile, split_hashes, tiles_of
from actors.tlog.tree import (
    EMPTY_ROOT,
    Frontier,
    ProofFailed,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    verify_consistency,
    verify_inclusion,
)

SIZES = [0, 1, 2, 3, 7, 8, 255, 256, 257, 511, 512, 513, 1000, 65_535, 65_536, 65_537, 70_000]


def mth(hashes: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash, as RFC 6962 § 2.1 defines it."""
    if not hashes:
        return sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1 << (len(hashes) - 1).bit_length() - 1
    return node_hash(mth(hashes[:k]), mth(hashes[k:]))


def path(index: int, hashes: Sequence[bytes]) -> list[bytes]:
    """Return the audit path, as RFC 6962 § 2.1.1 defines it."""
    if len(hashes) == 1:
        return []
    k = 1 << (len(hashes) - 1).bit_length() - 1
    if index < k:
        return [*path(index, hashes[:k]), mth(hashes[k:])]
    return [*path(index - k, hashes[k:]), mth(hashes[:k])]


def subproof(m: int, hashes: Sequence[bytes], whole: bool) -> list[bytes]:
    """Return the consistency proof, as RFC 6962 § 2.1.2 defines it."""
    n = len(hashes)
    if m == n:
        return [] if whole else [mth(hashes)]
    k = 1 << (n - 1).bit_length() - 1
    if m <= k:
        return [*subproof(m, hashes[:k], whole), mth(hashes[k:])]
    return [*subproof(m - k, hashes[k:], False), mth(hashes[:k])]


class Tree:
    """A log in memory: its entries' hashes, and its tiles as a server would have them."""

    def __init__(self, size: int) -> None:
        self.hashes = [leaf_hash(b"entry %d" % number) for number in range(size)]
        self.frontier = Frontier()
        self.tiles: dict[tuple[int, int], list[bytes]] = {}
        for tile in self.frontier.append(self.hashes):
            self.tiles[tile.level, tile.index] = split_hashes(tile.hashes)
        for level, row in enumerate(self.frontier.levels):
            if row:
                self.tiles[level, size >> 8 * (level + 1)] = row

    def read(self, level: int, index: int, width: int) -> Sequence[bytes]:
        row = self.tiles[level, index]
        assert len(row) >= width
        return row


@pytest.fixture(scope="module")
def trees() -> dict[int, Tree]:
    return {size: Tree(size) for size in SIZES}


@pytest.mark.parametrize("size", SIZES)
def test_the_root_is_that_of_the_definition_and_the_frontier_is_found_again(trees: dict[int, Tree], size: int) -> None:
    tree = trees[size]
    assert tree.frontier.root() == mth(tree.hashes)
    again = Frontier.load(size, tree.read)
    assert again.root() == tree.frontier.root()
    assert [t.width for t in tiles_of(size) if t.level == 0][-1:] == ([size % 256 or 256] if size else [])


def test_the_example_of_the_specification_has_its_tiles() -> None:
    found = [(tile.level, tile.width) for tile in tiles_of(70_000)]
    assert found.count((0, 256)) == 273
    assert found[273:] == [(0, 112), (1, 256), (1, 17), (2, 1)]
    assert [(tile.level, tile.width) for tile in tiles_of(256)] == [(0, 256), (1, 1)]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_proofs_are_those_of_the_definition_and_verify(trees: dict[int, Tree], data: st.DataObject) -> None:
    tree = trees[data.draw(st.sampled_from(SIZES[1:]))]
    size = len(tree.hashes)
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    root = tree.frontier.root()
    proof = inclusion_proof(index, size, tree.read)
    assert proof == path(index, tree.hashes)
    verify_inclusion(tree.hashes[index], index, size, proof, root)
    consistency = consistency_proof(old, size, tree.read)
    assert consistency == (subproof(old, tree.hashes, True) if old else [])
    verify_consistency(old, mth(tree.hashes[:old]), size, root, consistency)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_proof_holds_for_another_tree_entry_or_place(trees: dict[int, Tree], data: st.DataObject) -> None:
    tree = trees[data.draw(st.sampled_from([2, 3, 7, 8, 255, 257, 1000]))]
    size, root = len(tree.hashes), tree.frontier.root()
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(1, size - 1))
    proof, consistency = inclusion_proof(index, size, tree.read), consistency_proof(old, size, tree.read)
    other = leaf_hash(b"another")
    for wrong in (
        (other, index, size, proof, root),
        (tree.hashes[index], (index + 1) % size, size, proof, root),
        (tree.hashes[index], index, size, proof[:-1], root),
        (tree.hashes[index], index, size, [*proof, other], root),
        (tree.hashes[index], index, size, proof, other),
        (tree.hashes[index], size, size, proof, root),
    ):
        with pytest.raises(ProofFailed):
            verify_inclusion(*wrong)
    old_root = mth(tree.hashes[:old])
    for forged in (
        (old, other, size, root, consistency),
        (old, old_root, size, other, consistency),
        (old, old_root, size, root, consistency[:-1]),
        (old, old_root, size, root, [*consistency, other]),
        (size, other, size, root, []),
        (size + 1, root, size, root, []),
        (0, other, size, root, []),
    ):
        with pytest.raises(ProofFailed):
            verify_consistency(*forged)


def test_a_tree_that_grows_in_pieces_is_the_tree_that_grew_at_once() -> None:
    whole, pieces = Tree(1500), Frontier()
    full = []
    for start in range(0, 1500, 217):
        full += pieces.append(whole.hashes[start : start + 217])
    assert pieces.root() == whole.frontier.root()
    assert {(tile.level, tile.index) for tile in full} == {(0, index) for index in range(5)}
    assert Frontier().root() == EMPTY_ROOT


@pytest.mark.parametrize(
    ("tile", "path_"),
    [
        (Tile(0, 0), "tile/0/000"),
        (Tile(0, 1_234_067), "tile/0/x001/x234/067"),
        (Tile(None, 1_234_067, 8), "tile/entries/x001/x234/067.p/8"),
        (Tile(63, 999), "tile/63/999"),
    ],
)
def test_tiles_have_one_path_each(tile: Tile, path_: str) -> None:
    assert tile.path == path_
    assert parse_tile(path_.removeprefix("tile/")) == tile


@pytest.mark.parametrize(
    "path_",
    [
        "0/0",
        "00/000",
        "64/000",
        "0/x000/000",
        "0/001/002",
        "0/000.p/0",
        "0/000.p/256",
        "0/000.p/08",
        "entry/000",
        "0/000/",
        "٠/000",
    ],
)
def test_paths_that_name_no_tile(path_: str) -> None:
    assert parse_tile(path_) is None


@given(st.lists(st.binary(max_size=300), max_size=20), st.integers(1, 3))
def test_bundles_of_entries_are_read_back_and_cut_ones_refused(entries: list[bytes], cut: int) -> None:
    bundle = encode_entries(entries)
    assert decode_entries(bundle) == entries
    if entries and len(entries[-1]) >= cut:
        with pytest.raises(ValueError, match="ends within"):
            decode_entries(bundle[:-cut])


# --- notes

EXAMPLE_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
EXAMPLE_NOTE = (
    "This is an example message.\n\n\u2014 example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
)


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer("example.com/log", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))


def test_the_example_of_the_specification_verifies() -> None:
    key = parse_key(EXAMPLE_KEY)
    assert str(key) == EXAMPLE_KEY
    assert parse_note(EXAMPLE_NOTE).signers([key]) == [key]


def test_a_changed_note_and_a_changed_key_are_refused() -> None:
    key = parse_key(EXAMPLE_KEY)
    with pytest.raises(NoteRejected):
        parse_note(EXAMPLE_NOTE.replace("example message", "other message")).signers([key])
    with pytest.raises(NoteRejected):
        parse_key(EXAMPLE_KEY.replace("530d903a", "530d903b"))
    with pytest.raises(NoteRejected):
        parse_key(EXAMPLE_KEY.replace("example.com/foo", "example.com/bar"))


def test_a_checkpoint_is_signed_opened_and_cosigned(signer: Signer) -> None:
    checkpoint = Checkpoint("example.com/log", 70_000, leaf_hash(b"root"))
    note = signer.sign(checkpoint.text)
    assert open_checkpoint(note, signer.key) == checkpoint
    assert parse_key(str(signer.key)) == signer.key
    witness = Signer("witness.example/w1", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    both = parse_note(note + witness.cosign(checkpoint.text, 1_679_315_147))
    assert both.signers([signer.key, witness.cosigning_key]) == [signer.key, witness.cosigning_key]
    assert parse_checkpoint(both) == checkpoint
    later = note + witness.cosign(checkpoint.text, 1_679_315_147).replace("\u2014 witness.example/w1 ", "\u2014 other ")
    assert parse_note(later).signers([witness.cosigning_key]) == []
    stolen = Signer("example.com/log", Ed25519PrivateKey.from_private_bytes(bytes(32)))
    with pytest.raises(NoteRejected):
        open_checkpoint(stolen.sign(checkpoint.text), signer.key)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "text\n",
        "text\n\n",
        "text\n\nno dash\n",
        "text\n\n\u2014 name !!!!\n",
        "text\n\n\u2014 name AAAA\n",
        "text\t\n\n\u2014 name AAAAAAAA\n",
        "text\n\n\u2014 a+b AAAAAAAA\n",
        "text\n\n\u2014 name AAAAAAAA",
        "text\n\n" + "\u2014 name AAAAAAAA\n" * 101,
    ],
)
def test_malformed_notes_are_refused(content: str) -> None:
    with pytest.raises(NoteRejected):
        parse_note(content)


@pytest.mark.parametrize(
    "text",
    [
        "origin\n01\n{root}\n",
        "origin\n-1\n{root}\n",
        "\n1\n{root}\n",
        "origin\n1\nAAAA\n",
        "origin\n1\n",
        "o\n9223372036854775808\n{root}\n",
        f"o\n{'9' * 5000}\n{{root}}\n",
    ],
)
def test_notes_that_are_no_checkpoints_are_refused(signer: Signer, text: str) -> None:
    root = Checkpoint("o", 1, leaf_hash(b"")).text.split("\n")[2]
    with pytest.raises(NoteRejected):
        open_checkpoint(signer.sign(text.format(root=root)), signer.key)


# --- proofs


def test_a_proof_is_complete_in_itself(signer: Signer, trees: dict[int, Tree]) -> None:
    tree = trees[1000]
    note = signer.sign(Checkpoint("example.com/log", 1000, tree.frontier.root()).text)
    proof = Proof(7, tuple(inclusion_proof(7, 1000, tree.read)), note)
    read = parse_proof(str(proof))
    assert read == proof
    assert read.verify(b"entry 7", signer.key).size == 1000
    with pytest.raises(ProofFailed):
        read.verify(b"entry 8", signer.key)
    assert parse_proof(str(proof).replace("index", "extra QUFB\nindex")) == proof


@pytest.mark.parametrize(
    "change",
    [
        ("v1", "v2"),
        ("index 7", "index 07"),
        ("index 7", f"index {'7' * 5000}"),
        ("index", "place"),
        ("\n\n", "\n"),
        ("=\n", "\n"),
    ],
)
def test_malformed_proofs_are_refused(signer: Signer, trees: dict[int, Tree], change: tuple[str, str]) -> None:
    tree = trees[1000]
    note = signer.sign(Checkpoint("example.com/log", 1000, tree.frontier.root()).text)
    text = str(Proof(7, tuple(inclusion_proof(7, 1000, tree.read)), note))
    with pytest.raises((ProofFailed, NoteRejected)):
        parse_proof(text.replace(*change)).verify(b"entry 7", signer.key)


# --- whatever else is sent


@given(
    st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)), st.integers(0, 200), st.integers(0, 8)
)
def test_whatever_is_sent_is_read_or_refused(signer: Signer, junk: bytes, start: int, cut: int) -> None:
    """The kind: an input that ends in another exception than the one that says so."""
    note = signer.sign(Checkpoint("example.com/log", 7, leaf_hash(b"")).text)
    whole = f"c2sp.org/tlog-proof@v1\nindex 1\n\n{note}".encode()
    for content in (junk, whole[:start] + junk + whole[start + cut :]):
        text = content.decode(errors="replace")
        for parse in (parse_key, parse_note, parse_proof, partial(open_checkpoint, key=signer.key)):
            with suppress(NoteRejected, ProofFailed):
                parse(text)
