"""Decide (pure) how often e-mails are sent to an address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from actors._runtime.messages import Message
from actors._runtime.virtual import Decision
from actors.users.changes import Change
from actors.users.messages import RequestEmail
from db.mail import EmailRow
from schemas._vocabulary import TokenPurpose
from schemas.errors import Internal

# Anybody may ask for e-mails to any address, from as many addresses of the network as they have.
EMAILS = 5
WINDOW = timedelta(hours=1)
WINDOWS: Mapping[TokenPurpose, tuple[int, timedelta]] = {"attempts": (1, timedelta(days=1))}


@dataclass(frozen=True, slots=True)
class Address:
    """The times at which e-mails were requested; not saved: starting anew after an hour, or a crash, is good enough."""

    email: str
    asked_at: Mapping[TokenPurpose, tuple[datetime, ...]]


def decide(address: Address, message: Message[Any]) -> Decision[Address, Change]:
    """Return the result of `message`."""
    if not isinstance(message, RequestEmail):
        raise Internal(f"an address does not take {type(message).__name__}")
    most, window = WINDOWS.get(message.purpose, (EMAILS, WINDOW))
    recent = tuple(each for each in address.asked_at.get(message.purpose, ()) if message.at - each < window)
    if len(recent) >= most:
        return Decision(address)
    state = Address(address.email, {**address.asked_at, message.purpose: (*recent, message.at)})
    return Decision(state, None, (EmailRow(message.email_id, message.purpose, address.email, message.at),))
