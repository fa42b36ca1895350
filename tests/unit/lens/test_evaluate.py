"""The evaluate stage without an actor context: the events that it judges at once."""

from __future__ import annotations

from prometheus_client import REGISTRY

from actors.lens.evaluate import MOST_SECONDS, Evaluate
from actors.lens.messages import Work
from actors.lens.models.technical import TechnicalModel
from tests.unit.lens.factories import make_features, make_signal


def counted() -> float:
    labels = {"model": "technical", "status": "SUCCESS"}
    return REGISTRY.get_sample_value("tradestream_lens_model_seconds_count", labels) or 0.0


async def test_the_local_models_times_are_written_even_if_there_is_never_a_rest() -> None:
    evaluate = Evaluate()
    evaluate._models = [TechnicalModel()]
    work = Work(make_signal(), features=make_features())
    before = counted()
    for _ in range(MOST_SECONDS + 10):
        assert evaluate.work_at_once(work) is not None
    assert counted() - before == MOST_SECONDS
    evaluate.rest()
    assert counted() - before == MOST_SECONDS + 10
