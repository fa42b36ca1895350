"""Times as they go out: one form, for any moment and any offset."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from config.clock import now, rfc3339

OFFSETS = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59)).map(timezone)


@given(
    st.datetimes(timezones=st.just(UTC) | st.just(ZoneInfo("UTC")) | OFFSETS | st.timezones(), allow_imaginary=False)
)
@example(datetime.min.replace(tzinfo=UTC))
@example(datetime.max.replace(tzinfo=UTC))
@example(datetime(2024, 1, 15, 10, 30, tzinfo=UTC))
def test_a_time_is_written_as_the_library_writes_it(moment: datetime) -> None:
    try:
        there = moment.astimezone(UTC)
    except OverflowError:
        with pytest.raises(OverflowError):
            rfc3339(moment)
        return
    assert rfc3339(moment) == there.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def test_milliseconds_are_cut_and_always_there() -> None:
    second = datetime(2024, 1, 15, 10, 30, tzinfo=UTC)
    assert rfc3339(second) == "2024-01-15T10:30:00.000Z"
    assert rfc3339(second + timedelta(microseconds=1)) == "2024-01-15T10:30:00.000Z"
    assert rfc3339(second + timedelta(microseconds=999_999)) == "2024-01-15T10:30:00.999Z"


def test_other_kinds_of_times_are_written_alike() -> None:
    class Moment(datetime):
        """A datetime subclass, as libraries make them."""

    moment = now()
    own = Moment.fromtimestamp(moment.timestamp(), UTC)
    assert type(own) is Moment
    assert rfc3339(own) == rfc3339(moment)
    assert rfc3339(moment.astimezone().replace(tzinfo=None)) == rfc3339(moment), "without an offset, it is local"
