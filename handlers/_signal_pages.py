"""Build pages of signals for every endpoint that lists them: JSON from Postgres, put into its envelope."""

from __future__ import annotations

from db._postgres import connection
from db.signals.reads import SignalFilters, read_page
from handlers._http.services import Services


async def page_of_signals(services: Services, filters: SignalFilters, *, limit: int, offset: int) -> bytes:
    """Return the encoded `PageOfSignals`. Concurrent requests for the same page share one read."""

    async def read() -> bytes:
        async with connection(services.pool) as conn:
            items, total = await read_page(conn, services.totals, filters, limit=limit, offset=offset)
        return page(items, total, limit, offset)

    return await services.shared_reads.get((filters, limit, offset), read)


def page(items: bytes, total: int, limit: int, offset: int) -> bytes:
    """Return the envelope of every list of signals; `items` is a JSON array."""
    return b'{"signals":%b,"total":%d,"limit":%d,"offset":%d}' % (items, total, limit, offset)
