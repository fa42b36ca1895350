"""Fingerprint a submission: two under one idempotency key are equal if all values are, however numbers are spelled."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from uuid import UUID

import orjson
from msgspec.structs import astuple

from actors.lens.messages import Submit
from config.values import replace

_TERMS = len(Submit.__struct_fields__) - Submit.__struct_fields__.index("order_type")
_SAFE_INTEGER = 2**53  # past it a double stands for several integers


def fingerprint(submit: Submit) -> bytes:
    """Return a digest of all that was submitted except the key itself.

    Numbers count by value: JavaScript sends 42000.50 as 42000.5, and other clients send 195 as 195.0.
    """
    body = replace(submit, event_id=UUID(int=0), idempotency_key=None)
    values = astuple(body)
    if values[-_TERMS:] == (None,) * _TERMS:
        values = values[:-_TERMS]  # so a repetition is one across the version that brought them, too
    text = orjson.dumps(_plain(values), default=str, option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=16).digest()


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        # Not normalize(), which rounds to 28 digits: a price may have 33.
        text = f"{value:f}"
        return text.rstrip("0").removesuffix(".") if "." in text else text
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= _SAFE_INTEGER else value
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
