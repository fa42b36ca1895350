"""What a filter by symbol compares: every spelling of an instrument has one key (see schemas._instruments)."""

from __future__ import annotations


def key_of(symbol: str) -> str:
    """The SQL of a symbol's key, of a column or a parameter; as the indexes of the migrations have it."""
    return rf"regexp_replace(lower({symbol}), '(.)(/usd|-perp)$', '\1')"
