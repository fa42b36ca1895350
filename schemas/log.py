"""Schemas of the public log: the one query and the one document that are JSON."""

from __future__ import annotations

from schemas._fields import Items, Schema, Text, about
from schemas._queries import QuerySchema, QueryWhole

LARGEST_SIZE = 10**15 - 1  # as many digits as a query takes


class ConsistencyQuery(QuerySchema):
    """Two sizes of the log."""

    start = QueryWhole(
        min=0, max=LARGEST_SIZE, required=True, data_key="from", **about("The size of the older checkpoint.")
    )
    end = QueryWhole(
        min=0,
        max=LARGEST_SIZE,
        required=True,
        data_key="to",
        **about("The size of the newer checkpoint, at most that of the latest one."),
    )


class Consistency(Schema):
    """The proof that the older tree is the beginning of the newer one."""

    hashes = Items(Text(), required=True, **about("In base64, as RFC 6962 § 2.1.2 orders them."))
