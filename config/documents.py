"""The types of documents: JSON as it was read, objects that are to be encoded, and what a schema has loaded.

`Json` refers to itself, which msgspec cannot resolve in another module: the fields of records have `Document`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"
"""A JSON value: narrow it with `isinstance` before use, which keeps the types of what is inside."""

Document: TypeAlias = dict[str, object]
"""An object to be dumped, encoded or stored: its values are whatever the encoder takes, ids and times included."""

Loaded: TypeAlias = dict[str, Any]
"""The values that a schema has loaded: its fields have checked their types, which a type checker cannot see."""
