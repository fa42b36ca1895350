"""Run the enrich stage: market data and indicators for each signal, and the gates of age and drift."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import cast

from actors.lens._results import Advanced, StageFailure, StageResult, advance, entry, reject
from actors.lens._rows import store_enriched
from actors.lens._stage import Stage
from actors.lens.features import PROFILE_QUERIES, age_of, age_rejection, build_features, drift_rejection
from actors.lens.market import MarketRequest
from actors.lens.market.quotes import Declaration, PricedInstrument, use_of
from actors.lens.market.receipt import priced, quotes_at_receipt, receipt_quote
from actors.lens.market.source import open_market
from actors.lens.messages import EVALUATE, Work
from actors.lens.model import FeatureProfile, MarketSnapshot, side_of
from actors.lens.quote import ReceiptQuote, VenueQuote
from actors.lens.technical import MODEL
from config import clock
from config.ids import time_of
from config.values import replace
from db._postgres import Connection


class Enrich(Stage):
    """Enrich events. Owns those that wait for market data and for the quote of their receipt.

    A query that fails is a quality flag and the event goes on; only where all of them fail is it retried. Where no
    source knows the asset, it goes on with a flag, too. The quote is asked for once: an event that is enriched again
    keeps the first one, and one that is enriched long after its receipt has none.
    """

    stage = "ENRICH"
    next_actor = EVALUATE

    async def prepare(self) -> None:
        """Open the market-data source, shared by every signal."""
        settings = self.context.settings
        self._profile = cast(FeatureProfile, settings.lens_feature_profile)
        self._market, self._prices = open_market(settings, self.context.pool)
        # If the models must be waited for, their input is stored before.
        self.carries = settings.active_models == (MODEL,)

    async def close(self) -> None:
        """Close its connections."""
        await self._market.close()

    def work_at_once(self, work: Work) -> StageResult | None:
        """Enrich where the market's answers are cached, or not needed: a signal that is too old waits for no venue."""
        request = self._request(work)
        limit = self.context.settings.lens_reject_age_seconds
        if not work.ungated and (reason := age_rejection(age_of(work.signal, request.now), limit)) is not None:
            return reject(work, reason=reason, at=clock.now())
        snapshot = self._market.snapshot_at_once(request)
        if snapshot is None:
            return None
        if not self._awaits_quote(work):
            return self._enrich(work, snapshot, None, request.now)
        quote = snapshot.venue_quote
        match use_of(quote, time_of(work.signal.event_id), request.now):
            case "use":
                return self._enrich(work, snapshot, quote, request.now)
            case "give_up":
                return self._enrich(work, snapshot, None, request.now)
        return None

    async def work(self, work: Work) -> StageResult:
        """Query the market, compute the features, apply the gate of drift."""
        request = self._request(work)
        if not self._awaits_quote(work):
            return self._enrich(work, await self._market.snapshot(request), None, request.now)
        declaration = Declaration(_instrument_of(work), work.declared_price, time_of(work.signal.event_id))
        await self._prices.declare([declaration])
        snapshot, [quote] = await asyncio.gather(
            self._market.snapshot(request), quotes_at_receipt(self._prices, [declaration])
        )
        return self._enrich(work, snapshot, quote, request.now)

    def _awaits_quote(self, work: Work) -> bool:
        """Return whether to ask for the quote: not again, and not where no source has any."""
        return work.features is None and self._prices.has_source(work.signal.asset_type)

    def _request(self, work: Work) -> MarketRequest:
        signal, queries = work.signal, PROFILE_QUERIES[self._profile]
        return MarketRequest(
            signal.symbol, signal.asset_type, signal.entry_price, queries, clock.now(), signal.asset_data
        )

    def _enrich(self, work: Work, snapshot: MarketSnapshot, found: VenueQuote | None, now: datetime) -> StageResult:
        quote = _quote_of(work, found)
        if quote is None and not snapshot.has_data and snapshot.failures:
            raise StageFailure("PROVIDER_ERROR", _nothing_had(snapshot))
        features = build_features(work.signal, snapshot, self._profile, now, quote)
        if not work.ungated:
            reason = drift_rejection(features.drift_bps, self.context.settings.lens_reject_drift_bps)
            if reason is not None:
                return reject(work, reason=reason, at=clock.now())
        done = clock.now()
        return advance(
            replace(work, features=features), status="ENRICHED", stage="EVALUATE", timeline=[entry("ENRICHED", done)]
        )

    async def store(self, conn: Connection, results: Sequence[StageResult]) -> None:
        """Store the enriched documents."""
        now = clock.now()
        await store_enriched(conn, [(o.work, now) for o in results if isinstance(o, Advanced)])


def _quote_of(work: Work, found: VenueQuote | None) -> ReceiptQuote | None:
    """Return the quote of the receipt: of an event that is enriched again the first one, if it is of its instrument."""
    signal, instrument = work.signal, _instrument_of(work)
    quote = None if found is None else receipt_quote(found, instrument)
    if work.features is not None:
        kept = work.features.quote
        quote = kept if kept is not None and kept.instrument == instrument.key else None
    if quote is None:
        return None
    opens = signal.event_type == "OPEN_SIGNAL"
    return priced(quote, work.declared_price, side_of(signal.signal_direction), opens=opens)


def _instrument_of(work: Work) -> PricedInstrument:
    signal = work.signal
    return PricedInstrument.of(signal.symbol, signal.asset_type, signal.asset_data, time_of(signal.event_id))


def _nothing_had(snapshot: MarketSnapshot) -> str:
    return "; ".join(dict.fromkeys(failure.message for failure in snapshot.failures))
