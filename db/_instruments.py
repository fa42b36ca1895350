"""Build the key by which symbols are filtered: one for every spelling of an instrument (see schemas._instruments)."""

from __future__ import annotations


def key_of(symbol: str) -> str:
    """Return the SQL of a symbol's key, of a column or a parameter; the same as in the migrations' indexes."""
    return rf"regexp_replace(lower({symbol}), '(.)(/usd|-perp)$', '\1')"
