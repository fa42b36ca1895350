"""Encode providers' profiles: read together for all concurrent requests, whichever profiles they ask for."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import orjson

from config.clock import now
from config.documents import Document
from db._postgres import Pool, connection
from db.providers.profiles import ProviderDetail, load_details
from handlers._http.json import encode
from handlers._http.shared_reads import BatchedReads
from handlers._present_records import Costs, PresentRecord, describe_record, read_records
from schemas.errors import NotFound
from schemas.providers import ProviderProfile, ProviderStats

_STATS = tuple(ProviderStats().fields)
_PROFILE = ProviderProfile()


class Profiles:
    """Produces the answers of `GET /api/providers/{provider_id}`."""

    def __init__(self, pool: Pool, costs: Costs) -> None:
        self._pool = pool
        self._costs = costs
        self._reads = BatchedReads(self._read)

    async def get(self, provider_id: UUID, viewer: UUID | None) -> bytes:
        """Return the profile as `viewer` sees it, as JSON. Raises NotFound and DatabaseUnavailable."""
        found = await self._reads.get((provider_id, viewer))
        if found is None:
            raise NotFound("Provider not found")
        return found

    async def _read(self, wanted: Sequence[tuple[UUID, UUID | None]]) -> list[bytes | None]:
        async with connection(self._pool) as conn:
            details = await load_details(conn, wanted)
            found = await read_records(conn, {provider_id for provider_id, _ in wanted}, self._costs, now())
        return [None if each is None else encode(_document(each, found[each.user_id])) for each in details]


def _document(found: ProviderDetail, record: PresentRecord) -> Document:
    document = {name: getattr(found, name) for name in found.__slots__}
    document["stats"] = {name: document.pop(name) for name in _STATS}
    document["record"] = describe_record(record)
    document["is_verified"] = found.verification_level != "none"
    document["recent_signals"] = orjson.Fragment(found.recent_signals)
    shown: Document = _PROFILE.dump(document)
    if found.former_name is None:
        del shown["former_name"], shown["former_name_until"]
    return shown
