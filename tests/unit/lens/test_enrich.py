"""The enrich stage decides events without the market where the market is not needed."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

from actors._runtime.context import ActorContext
from actors.lens._results import Advanced, Rejected
from actors.lens.enrich import Enrich
from actors.lens.market import MarketRequest
from actors.lens.market._moving import SimulatedPrices
from actors.lens.market._moving_data import MovingMarketData
from actors.lens.market.source import PricesByType
from actors.lens.messages import Work
from actors.lens.model import MarketSnapshot
from config import clock
from config.settings import Settings
from schemas._symbols import CATEGORY_OF
from tests.unit.lens.factories import KnownAnchors, ask, make_request, make_signal


class SlowMarket(MovingMarketData):
    """A market that has no snapshot at once."""

    def snapshot_at_once(self, request: MarketRequest) -> MarketSnapshot | None:
        return None


async def enrich_with(market: type[MovingMarketData], **settings: Any) -> Enrich:
    stage = Enrich()
    context = SimpleNamespace(settings=Settings.load(env_file=None).replace(**settings), pool=None)
    stage.context = cast(ActorContext, context)
    await stage.prepare()
    prices = SimulatedPrices(KnownAnchors())
    stage._market, stage._prices = market(prices), PricesByType(dict.fromkeys(CATEGORY_OF, prices))
    return stage


def aged(seconds: float, round_: int = 0) -> Work:
    return Work(make_signal(ts_utc=clock.now() - timedelta(seconds=seconds)), round=round_)


async def test_an_event_that_is_too_old_is_rejected_without_waiting_for_the_market() -> None:
    stage = await enrich_with(SlowMarket, lens_reject_age_seconds=60.0)
    result = stage.work_at_once(aged(3600))
    assert isinstance(result, Rejected)
    [step] = result.move.timeline
    assert step["status"] == "REJECTED"
    assert step["details"] == {"reason": "signal is 3600 s old, the limit is 60 s"}


async def test_an_event_that_is_young_came_back_or_meets_no_gate_waits_for_the_market() -> None:
    stage = await enrich_with(SlowMarket, lens_reject_age_seconds=60.0)
    assert stage.work_at_once(aged(30)) is None
    again = aged(3600, round_=1)
    assert stage.work_at_once(again) is None
    assert isinstance(await stage.work(again), Advanced)
    stage = await enrich_with(SlowMarket)
    assert stage.work_at_once(aged(3600)) is None


async def test_features_go_on_uncommitted_only_to_a_local_model() -> None:
    assert (await enrich_with(SlowMarket)).carries
    assert not (await enrich_with(SlowMarket, lens_models=("technical", "claude"))).carries
    assert not (await enrich_with(SlowMarket, lens_models=("claude",))).carries


async def test_the_gate_of_drift_is_passed_with_the_market_s_answers() -> None:
    class FarMarket(MovingMarketData):
        last = ask(make_request())

        def snapshot_at_once(self, request: MarketRequest) -> MarketSnapshot | None:
            answers = self.last = super().snapshot_at_once(request) or self.last
            assert answers.quote is not None
            return MarketSnapshot(quote=type(answers.quote)(answers.quote.mid * 1.1, answers.quote.as_of_ms))

    stage = await enrich_with(FarMarket, lens_reject_drift_bps=50.0)
    result = stage.work_at_once(aged(30))
    assert isinstance(result, Rejected)
    assert result.move.timeline[0]["details"]["reason"].startswith("entry price is 953.1 bps from the market")
    assert isinstance(stage.work_at_once(aged(30, round_=1)), Advanced)
