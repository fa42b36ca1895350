"""The publish stage: scores each signal, gives it its place in the feed, and tells the gateways."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any
from uuid import UUID

from redis.exceptions import RedisError

from actors._messages import Delivery
from actors.lens._archive import open_archive
from actors.lens._outcomes import Outcome, advance, entry
from actors.lens._stage import Stage
from actors.lens.messages import PublishPast, PublishScored, Work
from actors.lens.model import Score
from actors.lens.openers import with_passing_scores
from actors.lens.past import publish_past
from actors.lens.publication import decision_item, feed_item, make_signal, provider_candidates, system_provider_id
from actors.lens.scored import ScoredSignals
from actors.lens.scoring import score_signal
from config import clock
from db._postgres import Connection
from db.signals import NewSignal, ProviderCard, ensure_system_providers, get_providers, insert_signals, take_feed_seq
from schemas.feed import DECISIONS_CHANNEL, FEED_CHANNEL, encode_batch, encode_decisions

log = logging.getLogger(__name__)


class Published(Outcome):
    """The event is scored and can be published; without a score it has been, and has decisions to tell of."""

    score: Score | None = None
    at: datetime | None = None


class Publish(Stage):
    """Owns the feed's order: the only writer of `feed_counter` and `signals`.

    Success: the signal has its `feed_seq`, dense and in the order of commits. The Redis message afterwards only saves
    the gateways a look: one that is lost is a hole, and a hole is fetched from Postgres.
    """

    stage = "PUBLISH"
    next_actor = None

    async def prepare(self) -> None:
        """Start with nothing known."""
        self._stored: dict[UUID, NewSignal] = {}  # of the batch that is being committed
        self._archive = open_archive(self.room.settings, self.room.pool)
        self._scored = ScoredSignals(self.room)

    async def close(self) -> None:
        """Give back what may have been opened."""
        await self._archive.close()

    async def process(self, batch: Sequence[Delivery]) -> list[Any]:
        """Take hand-overs into memory, and publish at once what other systems have scored."""
        replies = await super().process(batch)
        for place, delivery in enumerate(batch):
            if isinstance(delivery.message, PublishScored):
                replies[place] = await self._scored.publish(delivery.message.signals)
            elif isinstance(delivery.message, PublishPast):
                replies[place] = await publish_past(self.room, delivery.message.signals)
        return replies

    async def work(self, work: Work) -> Outcome:
        """See `work_at_once`: nothing is waited for here."""
        return self.work_at_once(work)

    def work_at_once(self, work: Work) -> Outcome:
        """Score the signal. The score is stored and never changes: what is published already has its own."""
        now = clock.now()
        if work.is_published:
            return Published(work, advance(work, status="PUBLISHED", stage="COMPLETE", timeline=[]).move, at=now)
        assert work.features is not None, "an event reaches this stage enriched"
        score = score_signal(work.signal, work.features, work.evaluations, now)
        moved = advance(work, status="PUBLISHED", stage="COMPLETE", timeline=[entry("PUBLISHED", now)])
        return Published(work, moved.move, score=score, at=now)

    async def store_steps(self, conn: Connection, works: Sequence[Work]) -> None:
        """Store what was carried; what was judged on the way is news to the archive, too."""
        await super().store_steps(conn, works)
        judged = {work.signal.event_id for work in works if any(step.stage == "EVALUATE" for step in work.carried)}
        await self._archive.record(conn, judged, [])

    async def store(self, conn: Connection, outcomes: Sequence[Outcome]) -> None:
        """Store the signals in the order of their events."""
        scored = [outcome for outcome in outcomes if isinstance(outcome, Published) and outcome.score is not None]
        if not scored:
            return
        scored.sort(key=lambda outcome: outcome.work.signal.event_id)
        cards = await self._providers(conn, {outcome.work.signal.source for outcome in scored})
        first = await take_feed_seq(conn, len(scored))
        made = [
            _make(outcome, cards[outcome.work.signal.source], first + place) for place, outcome in enumerate(scored)
        ]
        signals = await with_passing_scores(conn, made, priced=True)
        await insert_signals(conn, signals)
        # A batch may take several transactions, some in vain: what became of it is known when it is told.
        self._stored |= {signal.id: signal for signal in signals}

    async def _providers(self, conn: Connection, sources: set[str]) -> dict[str, ProviderCard]:
        candidates = {source: provider_candidates(source) for source in sources}
        known = await get_providers(conn, list({each for ids in candidates.values() for each in ids}))
        unknown: dict[UUID, str] = {
            system_provider_id(source): source
            for source, ids in candidates.items()
            if not any(each in known for each in ids)
        }
        if unknown:
            await ensure_system_providers(conn, unknown)
            known |= await get_providers(conn, list(unknown))
        return {source: next(known[each] for each in ids if each in known) for source, ids in candidates.items()}

    async def committed(self, outcomes: Sequence[Outcome]) -> None:
        """Send the batch to the gateways: the feed, and the decisions for internal subscribers."""
        stored, self._stored = self._stored, {}
        published = [outcome for outcome in outcomes if isinstance(outcome, Published)]
        signals = [stored[outcome.work.signal.event_id] for outcome in published if outcome.score is not None]
        items = [feed_item(s) for s in sorted(signals, key=attrgetter("feed_seq"))]
        decisions = [
            decision_item(outcome.work.signal, each.model, each.decision, outcome.at)
            for outcome in published
            if outcome.at is not None
            for each in outcome.work.evaluations
            if each.decision is not None and each.model not in (outcome.work.announced or ())
        ]
        try:
            async with self.room.redis.pipeline(transaction=False) as pipe:
                if items:
                    pipe.publish(FEED_CHANNEL, encode_batch(items))
                if decisions:
                    pipe.publish(DECISIONS_CHANNEL, encode_decisions(decisions))
                await pipe.execute()
        except (RedisError, OSError) as error:
            log.warning("the gateways were not told of %d signals: %s", len(items), error)


def _make(outcome: Published, provider: ProviderCard, feed_seq: int) -> NewSignal:
    features, score, at = outcome.work.features, outcome.score, outcome.at
    assert features is not None
    assert score is not None
    assert at is not None
    prices = outcome.work.edited_prices
    return make_signal(
        outcome.work.signal, features, score, provider=provider, feed_seq=feed_seq, published_at=at, prices=prices
    )
