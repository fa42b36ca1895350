"""Make a batch durable in one fenced transaction, each command applied once; a message that fails fails alone.

Every command that was applied stores its id and its reply in the same transaction. An id is looked up only when it may
be stored already (the batch was delivered before, or the sender chose the id); the insert detects it in any case.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from uuid import UUID

from actors._runtime.fencing import Fence
from actors._runtime.messages import Envelope
from actors._runtime.replies import UnreadableReply, decode_reply, encode_reply
from config.backoff import jittered
from db import actors as sql
from db._postgres import CONTENDED, Connection, is_unavailable
from schemas.errors import AppError, DatabaseUnavailable, Fenced, Internal

log = logging.getLogger(__name__)

# Applies messages in the transaction of `conn`; one reply (or AppError value) for each, in order. It must be ready to
# be called again after a rollback, then with one message at a time. An exception rolls back and, if it was called with
# one message, becomes the reply to that message.
Apply = Callable[[Connection, Sequence[Envelope]], Awaitable[Sequence[object]]]

ATTEMPTS = 3  # of a transaction that Postgres aborted in favour of another one


async def write_batch(fence: Fence, batch: Sequence[Envelope], attempt: Callable[[], Apply]) -> list[object]:
    """Implement `ActorContext.write`, with a fresh `apply` for each attempt at the transaction."""
    first: dict[bytes, int] = {}  # a command that is in the batch twice is applied once and answered twice
    copies: dict[int, int] = {}
    for index, envelope in enumerate(batch):
        if envelope.command_id is not None:
            original = first.setdefault(envelope.command_id, index)
            if original != index:
                copies[index] = original
    chosen = [index for index in range(len(batch)) if index not in copies] if copies else range(len(batch))
    unique = [batch[index] for index in chosen] if copies else batch
    replies: list[object] = [None] * len(batch)
    for index, reply in zip(chosen, await _apply_once(fence, unique, attempt), strict=True):
        replies[index] = reply
    for index, original in copies.items():
        replies[index] = replies[original]
    return replies


async def _apply_once(fence: Fence, batch: Sequence[Envelope], attempt: Callable[[], Apply]) -> list[object]:
    look_up_all = False
    together = True
    for tried in range(1, ATTEMPTS + 3):  # the look-up and the fallback each take one more attempt
        try:
            return await _transact(fence, batch, attempt(), look_up_all=look_up_all, together=together)
        except (DatabaseUnavailable, Fenced):
            raise
        except _AppliedMeanwhile:
            look_up_all = True
        except CONTENDED as error:
            log.warning("%s: contended, attempt %d: %s", fence.actor, tried, error)
            await asyncio.sleep(jittered(0.01 * tried, 1.0))
        except Exception as error:
            if not together:
                raise
            if len(batch) == 1:
                return [as_reply(error)]
            together = False
            log.info("%s: a batch of %d is applied one by one: %r", fence.actor, len(batch), error)
    raise DatabaseUnavailable("The database is contended")


async def _transact(
    fence: Fence, batch: Sequence[Envelope], apply: Apply, *, look_up_all: bool, together: bool
) -> list[object]:
    async with fence.transaction() as conn:
        known = await _find_applied(fence, conn, batch, look_up_all=look_up_all)
        fresh = [each for each in batch if each.command_id not in known] if known else batch
        if not fresh:
            answers: Sequence[object] = []
        elif together:
            answers = await apply(conn, fresh)
        else:
            answers = [await _apply_alone(conn, apply, each) for each in fresh]
        assert len(answers) == len(fresh), f"{fence.actor}: {len(answers)} replies to {len(fresh)} messages"
        await _remember(fence, conn, fresh, answers)
    if not known:
        return list(answers)
    rest = iter(answers)
    return [_recall(each, known[each.command_id]) if each.command_id in known else next(rest) for each in batch]


def _recall(envelope: Envelope, stored: bytes) -> object:
    """Decode the stored reply. One that cannot be read is an error for its sender alone: the command was applied."""
    try:
        return decode_reply(envelope.message, stored)
    except UnreadableReply as error:
        return as_reply(error)


async def _find_applied(
    fence: Fence, conn: Connection, batch: Iterable[Envelope], *, look_up_all: bool
) -> dict[bytes | None, bytes]:
    ids = [
        UUID(bytes=each.command_id) for each in batch if each.command_id is not None and (each.suspect or look_up_all)
    ]
    found = await sql.find_commands(conn, fence.actor, ids) if ids else {}
    return dict(found.items())


async def _remember(fence: Fence, conn: Connection, batch: Sequence[Envelope], replies: Sequence[object]) -> None:
    ids: list[UUID] = []
    encoded: list[bytes] = []
    for each, reply in zip(batch, replies, strict=True):
        # An error changed nothing, so a repetition may be decided anew.
        if each.command_id is not None and not isinstance(reply, AppError):
            ids.append(UUID(bytes=each.command_id))
            encoded.append(encode_reply(each.message, reply))
    if ids and not await sql.store_commands(conn, fence.actor, ids, encoded):
        raise _AppliedMeanwhile


async def _apply_alone(conn: Connection, apply: Apply, envelope: Envelope) -> object:
    try:
        async with conn.transaction():
            [reply] = await apply(conn, [envelope])
            return reply
    except (DatabaseUnavailable, Fenced, *CONTENDED):
        raise
    except Exception as error:
        if is_unavailable(error):
            raise
        return as_reply(error)


def as_reply(error: Exception) -> AppError:
    """Turn an error into a reply: an AppError as it is, anything else (a bug) logged and as `Internal`."""
    if isinstance(error, AppError):
        return error
    log.error("a message failed", exc_info=error)
    return Internal()


class _AppliedMeanwhile(Exception):
    """A command of the batch was applied by a concurrent batch."""
