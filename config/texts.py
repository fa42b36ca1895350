"""Texts of others, in a form that can be stored and sent."""

from __future__ import annotations


def escape_unstorable(text: str) -> str:
    """Return the text with NULs and halves of surrogate pairs escaped: Postgres or UTF-8 cannot hold them."""
    if "\0" in text:
        text = text.replace("\0", "\\u0000")
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
