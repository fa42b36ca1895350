"""Messages between processes of different versions."""

from __future__ import annotations

from decimal import Decimal

from actors._runtime.messages import decode, encode
from actors.lens.messages import Work
from tests.unit.lens.factories import make_signal


class _Before:
    """A hand-over as an older process without carried steps sends it: pickled by position, as all values are."""

    def __reduce__(self) -> tuple[object, ...]:
        prices = (Decimal(1), Decimal(2))
        return Work, (make_signal(), 0, 2, (), None, (), prices, ("claude",), ("technical",))


def test_work_from_before_there_were_steps_is_read_as_it_was_meant() -> None:
    work = decode(encode(_Before()))
    assert work.edited_prices == (Decimal(1), Decimal(2))
    assert (work.asked, work.announced, work.carried) == (("claude",), ("technical",), ())
    assert work.is_published
