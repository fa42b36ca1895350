"""Immutable records that are made, compared and pickled in C, for the kinds that each signal needs many of.

A frozen dataclass assigns its fields one by one through `object.__setattr__`. For one of nine fields that is 1.8 µs to
make and 2.0 µs to unpickle; a `Value` takes 0.1 and 0.3. The signals of a second make some hundred thousand.
"""

from __future__ import annotations

from typing import dataclass_transform

import msgspec
from msgspec import field
from msgspec.structs import replace

__all__ = ["Value", "field", "replace"]


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class Value(msgspec.Struct, frozen=True, gc=False):
    """A record with the fields that its class annotates, by position or by name, as in a dataclass.

    `replace` makes another one. It is equal to one of the same class with equal fields, and hashable if those are. The
    collector does not look at it (`gc=False`), so nothing that holds it may be put into it afterwards. It is pickled by
    position: a new field comes last and has a default, or a process of the version before fills others with its values.
    """
