"""Serve pages of the internal lists: read, dumped and encoded once for all requests that wait for the same page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence

from db._postgres import Connection, connection
from handlers._http.base import GatewayHandler
from handlers._http.json import encode
from schemas._fields import Schema

Read = Callable[[Connection], Awaitable[tuple[Sequence[object], int]]]


async def send_page(
    handler: GatewayHandler, schema: Schema, filters: Hashable, paging: dict[str, int], read: Read
) -> None:
    """Answer with a page of `schema`. `read` returns the items and the total; `filters` says which page it is."""
    services = handler.services

    async def encoded() -> bytes:
        async with connection(services.pool) as conn:
            items, total = await read(conn)
        return encode(schema.dump({"items": items, "total": total, **paging}))

    # Not a cache: the page is read after the request, and a request that arrives meanwhile gets the next read.
    key = (type(schema), filters, *paging.values())
    handler.finish(await services.shared_reads.get(key, encoded))
