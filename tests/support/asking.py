"""Ask an actor many things at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TypeVar

from actors._runtime.messages import Message
from actors._runtime.ref import ActorRef
from schemas.errors import AppError

Reply = TypeVar("Reply")


async def ask_many(
    ref: ActorRef, pairs: Iterable[tuple[str, Message[Reply]]], *, deadline_seconds: float | None = None
) -> list[Reply | AppError]:
    """Send (key, message) pairs together; return the replies in order, errors of the tree as values."""
    asked = (ref.ask(key, message, deadline_seconds=deadline_seconds) for key, message in pairs)
    replies: list[Reply | AppError] = []
    for each in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(each, BaseException) and not isinstance(each, AppError):
            raise each
        replies.append(each)
    return replies
