"""Fuzzers: what comes from outside, at random and from a corpus, against what must hold whatever comes.

Each `test_*.py` holds fuzzers, and each fuzzer asks `budget` how long it may look and for its chance. `make test` gives
a few seconds to each and always the same chance; `make fuzz` gives ten minutes to all side by side, and a chance of the
day's own, which it prints. `FUZZ_SECONDS` and `FUZZ_SEED` set both. What a fuzzer finds becomes a case of its corpus.
"""
