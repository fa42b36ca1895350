"""Limit how often e-mails are sent to an address."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from actors._runtime.messages import Message
from actors._runtime.virtual import Effect, Transition, events_of
from actors.users.messages import RequestEmail
from db import mail
from db._postgres import Connection
from db.mail import EmailRow
from schemas._vocabulary import TokenPurpose
from schemas.errors import Internal

# Anybody may ask for e-mails to any address, from as many addresses of the network as they have.
EMAILS = 5
WINDOW = timedelta(hours=1)
WINDOWS: Mapping[TokenPurpose, tuple[int, timedelta]] = {"attempts": (1, timedelta(days=1))}


@dataclass(frozen=True, slots=True)
class AddressState:
    """The times at which e-mails were requested; not saved: starting anew after an hour, or a crash, is good enough."""

    email: str
    asked_at: Mapping[TokenPurpose, tuple[datetime, ...]]


def fresh(email: str) -> AddressState:
    """Return the state of an address to which no e-mail was requested."""
    return AddressState(email, {})


def decide(address: AddressState, message: Message[object]) -> Effect[AddressState, EmailRow]:
    """Return the effect of `message`. Pure."""
    if not isinstance(message, RequestEmail):
        raise Internal(f"an address does not take {type(message).__name__}")
    most, window = WINDOWS.get(message.purpose, (EMAILS, WINDOW))
    recent = tuple(each for each in address.asked_at.get(message.purpose, ()) if message.at - each < window)
    if len(recent) >= most:
        return Effect(address)
    state = AddressState(address.email, {**address.asked_at, message.purpose: (*recent, message.at)})
    return Effect(state, None, (EmailRow(message.email_id, message.purpose, address.email, message.at),))


async def load(conn: Connection, emails: Sequence[str]) -> Mapping[str, AddressState]:
    """Return nothing: nothing is saved."""
    return {}


async def save(conn: Connection, transitions: Sequence[Transition[AddressState, EmailRow]]) -> None:
    """Queue the e-mails."""
    await mail.insert_emails(conn, events_of(transitions, EmailRow))
