"""Encode JSON lists as statement parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson


def json_texts(values: Iterable[list[Any] | None]) -> list[str | None]:
    """Return lists for a `text[]` parameter whose items the statement casts to jsonb.

    A `jsonb[]` parameter cannot carry them: the driver takes a list of lists for an array of two dimensions.
    """
    return [None if value is None else orjson.dumps(value).decode() for value in values]
