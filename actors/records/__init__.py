"""Compute providers' records from market prices: positions, their returns, the daily curve and its statistics.

Everything here is pure. Amounts are whole numbers of 1e-12 (`UNIT`), rounded once, half to even, so that everyone who
has the same log computes the same digits. Definitions: docs/records.md.
"""
