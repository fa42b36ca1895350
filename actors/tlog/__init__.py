"""A transparency log in the formats of C2SP: an append-only Merkle tree, its tiles, signed checkpoints and proofs.

Everything here is pure. Sources: RFC 6962 (the tree), c2sp.org/tlog-tiles, /tlog-checkpoint, /tlog-proof, /signed-note,
/tlog-cosignature and /tlog-witness.
"""
