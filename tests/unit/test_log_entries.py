"""Entries of the log: the same bytes for the same facts, and the same facts back."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from actors.records.entries import AnyEntry, EndEntry, LoggedQuote, MarkEntry, SignalEntry, decode, encode

AT = datetime(2026, 11, 2, 12, 0, 0, 250_000, UTC)
SIGNAL = SignalEntry(
    feed_seq=1,
    signal_id=UUID(int=1),
    provider_id=UUID(int=2),
    asset_type="crypto",
    instrument="BTC",
    event_type="OPEN_SIGNAL",
    direction="long",
    declared_price=Decimal("42000.50"),
    received_at=AT,
    published_at=AT,
    score=87,
    texts="ab",
    way_in="lens",
    quote=LoggedQuote(Decimal(42000), Decimal(42001), Decimal("42000.5"), AT, "simulated"),
    record_price=Decimal(42001),
    opens=True,
)
END = EndEntry(UUID(int=1), UUID(int=2), "stop_loss", 10**12, Decimal("41000.10"), AT)
MARK = MarkEntry(AT, {"crypto": {"BTC": Decimal("42000.5")}})


@pytest.mark.parametrize("entry", [SIGNAL, END, MARK])
def test_an_entry_is_read_back_with_every_digit(entry: AnyEntry) -> None:
    assert decode(encode(entry)) == entry


def test_an_entry_is_canonical() -> None:
    assert encode(END) == (
        b'{"kind":"end","position":"00000000-0000-0000-0000-000000000001","provider_id":'
        b'"00000000-0000-0000-0000-000000000002","reason":"stop_loss","part":1000000000000,"price":"41000.10",'
        b'"at":"2026-11-02T12:00:00.250000Z"}'
    )


@pytest.mark.parametrize("body", [b"{}", b'{"kind":"other"}', encode(END).replace(b'"part":1', b'"part":"x"')])
def test_what_is_no_entry_is_an_error(body: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode(body)
