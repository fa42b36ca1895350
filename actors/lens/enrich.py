"""Run the enrich stage: market data and indicators for each signal, and the gates of age and drift."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from actors.lens._results import Advanced, StageFailure, StageResult, advance, entry, reject
from actors.lens._rows import store_enriched
from actors.lens._stage import Stage
from actors.lens.features import PROFILE_QUERIES, age_of, age_rejection, build_features, drift_rejection
from actors.lens.market import MarketRequest
from actors.lens.market.source import open_market
from actors.lens.messages import EVALUATE, Work
from actors.lens.model import FeatureProfile, MarketSnapshot
from actors.lens.technical import MODEL
from config import clock
from config.values import replace
from db._postgres import Connection


class Enrich(Stage):
    """Enrich events. Owns those that wait for market data.

    A query that fails is a quality flag and the event goes on; only without any data at all is it retried. Where no
    source knows the asset type, so that none can be asked, it goes on with a flag, too.
    """

    stage = "ENRICH"
    next_actor = EVALUATE

    async def prepare(self) -> None:
        """Open the market-data source, shared by every signal."""
        settings = self.context.settings
        self._profile = cast(FeatureProfile, settings.lens_feature_profile)
        self._market = open_market(settings)
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
        return None if snapshot is None else self._enrich(work, snapshot, request.now)

    async def work(self, work: Work) -> StageResult:
        """Query the market, compute the features, apply the gate of drift."""
        request = self._request(work)
        return self._enrich(work, await self._market.snapshot(request), request.now)

    def _request(self, work: Work) -> MarketRequest:
        signal, queries = work.signal, PROFILE_QUERIES[self._profile]
        return MarketRequest(
            signal.symbol, signal.asset_type, signal.entry_price, queries, clock.now(), signal.asset_data
        )

    def _enrich(self, work: Work, snapshot: MarketSnapshot, now: datetime) -> StageResult:
        if not snapshot.has_data and snapshot.has_source:
            raise StageFailure("PROVIDER_ERROR", _nothing_had(snapshot))
        features = build_features(work.signal, snapshot, self._profile, now)
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


def _nothing_had(snapshot: MarketSnapshot) -> str:
    causes = dict.fromkeys(failure.message for failure in snapshot.failures)
    return "; ".join(causes) or "no market data for this symbol"
