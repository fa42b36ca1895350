"""Run the publish stage: score each signal, give it its `feed_seq`, and notify the gateways."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any
from uuid import UUID

from actors._runtime.messages import Envelope
from actors.lens._archive import open_archive
from actors.lens._results import StageResult, advance, entry
from actors.lens._stage import Stage
from actors.lens.backfill import Backfill
from actors.lens.messages import PublishBackfill, PublishScored, Retract, Work
from actors.lens.model import Score
from actors.lens.openers import publish_next
from actors.lens.publication import announce, decision_item, find_or_make_providers, make_signal
from actors.lens.retraction import Retractions
from actors.lens.scored import ScoredSignals
from actors.lens.scoring import score_signal
from config import clock
from db._postgres import Connection
from db.signals.writes import ProviderSummary, PublishedSignal


class Published(StageResult):
    """The event is scored and can be published; without a score it already was, and has decisions to announce."""

    score: Score | None = None
    at: datetime | None = None


class Publish(Stage):
    """Publish signals. Owns the feed's order: the only writer of `feed_counter`, `signals` and `retractions`.

    Success: the signal has its `feed_seq`, dense and in the order of commits. The Redis message afterwards only saves
    the gateways a query: one that is lost is a gap, and a gap is fetched from Postgres.
    """

    stage = "PUBLISH"
    next_actor = None

    async def prepare(self) -> None:
        """Start with an empty cache."""
        self._stored: dict[UUID, PublishedSignal] = {}  # of the batch that is being committed
        self._archive = open_archive(self.context.settings, self.context.pool)
        self._scored = ScoredSignals(self.context)
        self._backfill = Backfill(self.context)
        self._retractions = Retractions(self.context)

    async def close(self) -> None:
        """Close the archive and the sources of prices, which may have been opened."""
        await self._archive.close()
        await self._backfill.close()
        await self._retractions.close()

    async def process(self, batch: Sequence[Envelope]) -> list[Any]:
        """Take hand-overs into memory, and publish at once the signals that other systems have scored."""
        replies = await super().process(batch)
        asked = {index: each.message for index, each in enumerate(batch) if isinstance(each.message, Retract)}
        for index, envelope in enumerate(batch):
            if isinstance(envelope.message, PublishScored):
                replies[index] = await self._scored.publish(envelope.message.signals)
            elif isinstance(envelope.message, PublishBackfill):
                replies[index] = await self._backfill.publish(envelope.message.signals)
        answers = await asyncio.gather(*map(self._retractions.answer, asked.values()))
        for index, answer in zip(asked, answers, strict=True):
            replies[index] = answer
        return replies

    async def work(self, work: Work) -> StageResult:
        """See `work_at_once`: nothing is waited for here."""
        return self.work_at_once(work)

    def work_at_once(self, work: Work) -> StageResult:
        """Score the signal. The score is stored and never changes: a published signal already has its own."""
        now = clock.now()
        if work.is_published:
            return Published(work, advance(work, status="PUBLISHED", stage="COMPLETE", timeline=[]).move, at=now)
        assert work.features is not None, "an event reaches this stage enriched"
        score = score_signal(work.signal, work.features, work.evaluations, now)
        moved = advance(work, status="PUBLISHED", stage="COMPLETE", timeline=[entry("PUBLISHED", now)])
        return Published(work, moved.move, score=score, at=now)

    async def store_steps(self, conn: Connection, works: Sequence[Work]) -> None:
        """Store the carried steps, and update the archive's documents of the events they judged."""
        await super().store_steps(conn, works)
        judged = {work.signal.event_id for work in works if any(step.stage == "EVALUATE" for step in work.carried)}
        await self._archive.record(conn, judged, [])

    async def store(self, conn: Connection, results: Sequence[StageResult]) -> None:
        """Store the signals in the order of their events."""
        scored = [result for result in results if isinstance(result, Published) and result.score is not None]
        if not scored:
            return
        scored.sort(key=lambda result: result.work.signal.event_id)
        sources = {result.work.signal.source for result in scored}
        cards = await find_or_make_providers(conn, dict(zip(sources, sources, strict=True)))
        made = [_make(result, cards[result.work.signal.source]) for result in scored]
        signals = await publish_next(conn, made)
        # A batch may take several transactions, some in vain: `committed` reads the final rows.
        self._stored |= {signal.id: signal for signal in signals}

    async def committed(self, results: Sequence[StageResult]) -> None:
        """Send the batch to the gateways: the feed, and the decisions for internal subscribers."""
        stored, self._stored = self._stored, {}
        published = [result for result in results if isinstance(result, Published)]
        signals = [stored[result.work.signal.event_id] for result in published if result.score is not None]
        decisions = [
            decision_item(result.work.signal, each.model, each.decision, result.at)
            for result in published
            if result.at is not None
            for each in result.work.evaluations
            if each.decision is not None and each.model not in (result.work.announced or ())
        ]
        await announce(self.context, sorted(signals, key=attrgetter("feed_seq")), decisions)


def _make(result: Published, provider: ProviderSummary) -> PublishedSignal:
    """Return the signal, which has no `feed_seq` yet."""
    features, score, at = result.work.features, result.score, result.at
    assert features is not None
    assert score is not None
    assert at is not None
    work = result.work
    return make_signal(
        work.signal,
        features,
        score,
        provider=provider,
        feed_seq=0,
        published_at=at,
        prices=work.edited_prices,
        terms=work.edited_terms,
    )
