"""Serve `run.py demo` on a development server; a production server has none of it."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from actors.lens.messages import PUBLISH, Past, PublishBackfill
from actors.lens.model import RawSignal, Score, Vote
from handlers._http.base import GatewayHandler
from handlers._http.endpoint import endpoint
from schemas.backfill import DemoServer, PastPlaced, PastSignals


def instance_name(data_dir: str) -> str:
    """Return a name that identifies a DATA_DIR to a program that can read it, and reveals nothing of it to others."""
    return hashlib.blake2b(os.fsencode(data_dir), digest_size=8, person=b"demo").hexdigest()


class Demo(GatewayHandler):
    """`/api/v1/demo`"""

    @endpoint("Get which development server this is", responds=DemoServer())
    async def get(self) -> object:
        """Tells `run.py demo` whether the dead letters that it reads are this server's."""
        settings = self.gateway.settings
        limited = "yes" if settings.rate_limit_enabled else "no"
        return {"instance": instance_name(str(settings.data_dir.resolve())), "rate_limited": limited}


class DemoSignals(GatewayHandler):
    """`/api/v1/demo/signals`"""

    @endpoint(
        "Import signals of the past (development only)",
        body=PastSignals(),
        responds=PastPlaced(),
        status=201,
        errors=(503,),
    )
    async def post(self, body: dict[str, Any]) -> object:
        """Answers once the signals are in the feed in this order; records and boards follow from their own times."""
        signals = tuple(_past(each) for each in body["signals"])
        return await self.services.actors.ref(PUBLISH, "").ask("", PublishBackfill(signals))


def _past(document: dict[str, Any]) -> Past:
    given = dict(document)
    score, price, size = given.pop("score"), given.pop("entry_price"), given.pop("size")
    published_at = given.pop("published_at")
    signal = RawSignal(
        event_id=given.pop("id"), entry_price=float(price), size=float(size), ts_utc=published_at, **given
    )
    votes = tuple(Vote(**each) for each in score["strategy_breakdown"])
    return Past(signal, Score(**{**score, "strategy_breakdown": votes}), price, size, published_at)
