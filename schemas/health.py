"""Schemas of liveness and readiness."""

from __future__ import annotations

from schemas._fields import Choice, Nested, Schema, Text, Timestamp
from schemas._vocabulary import ReadyStatus


class Health(Schema):
    """The process answers."""

    status = Choice(("ok",), required=True)


class Dependencies(Schema):
    """Each `ok`, or `error: ` and why."""

    redis = Text(required=True)
    postgres = Text(required=True)
    ray = Text()


class Readiness(Schema):
    """Whether this process can do its work now."""

    status = Choice(ReadyStatus, required=True)
    dependencies = Nested(Dependencies, required=True)
    timestamp = Timestamp(required=True)
