"""Fuzzers: outside input, at random and from a corpus, against properties that hold for any input.

Each `test_*.py` holds fuzzers, and each fuzzer gets its time and its random seed from `budget`. `make test` gives
a few seconds to each and always the same chance; `make fuzz` gives ten minutes to all side by side, and a chance of the
day's own, which it prints. `FUZZ_SECONDS` and `FUZZ_SEED` set both. A fuzzer's find becomes a case of its corpus.
"""
