"""Serve `run.py demo` on a development server; a production server has none of it."""

from __future__ import annotations

import hashlib
import os

from actors.lens.messages import PUBLISH, BackfilledSignal, PublishBackfill
from actors.lens.model import RawSignal, Score
from config.documents import Loaded
from db._orders import OrderTerms
from handlers._http.base import GatewayHandler
from handlers._http.endpoint import endpoint
from schemas.backfill import BackfillResult, BackfillSignals, DemoServer


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
        body=BackfillSignals(),
        responds=BackfillResult(),
        status=201,
        errors=(503,),
    )
    async def post(self, body: Loaded) -> object:
        """Answers once the signals are in the feed in this order; records and boards follow from their own times."""
        signals = tuple(_past(each) for each in body["signals"])
        return await self.ask(PUBLISH, "", PublishBackfill(signals))


def _past(document: Loaded) -> BackfilledSignal:
    published_at = document["published_at"]
    signal = RawSignal.from_dict(document | {"event_id": document["id"], "ts_utc": published_at})
    score = Score.from_dict(document["score"])
    terms = OrderTerms(**{name: document.get(name) for name in OrderTerms.__struct_fields__})
    return BackfilledSignal(signal, score, document["entry_price"], document["size"], published_at, terms)
