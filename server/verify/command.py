"""The commands `run.py verify log` and `run.py verify provider ID`: read, check, and say what was found."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final
from uuid import UUID

from actors.tlog.notes import NoteRejected, parse_key
from config.documents import Document
from server.verify import Contradicted, NotVerified
from server.verify.audit import Audited, audit, read_entries
from server.verify.kept import Kept, default_folder
from server.verify.record import (
    MOST_POINTS,
    costs_of,
    declared_differences,
    declared_since,
    differences,
    lines_of,
    recompute,
    record_differences,
)
from server.verify.source import LogSource

VERIFIED: Final = 0
WRONG: Final = 1
UNKNOWN: Final = 2

LAG_SECONDS: Final = 2.0  # a checkpoint is a second behind the log, and so may a page be
ATTEMPTS: Final = 8

# Where the server does not say what it reckons with: those of docs/records.md.
USUAL_COSTS: Final = {kind: Decimal(bps) for kind, bps in {
    "crypto": 10, "forex": 2, "stock": 5, "etf": 5, "option": 100, "prediction": 100,
}.items()}  # fmt: skip


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    """What to verify: the log of the server at `url`, and the record of a provider if one is named."""

    url: str
    provider_id: UUID | None = None
    folder: Path | None = None
    key: str | None = None


def run(options: VerifyOptions, say: Callable[[str], None] = print) -> int:
    """Verify; return 0 if all is right, 1 if something is contradicted, 2 if nothing can be said."""
    try:
        asyncio.run(verify(options, say))
    except Contradicted as contradicted:
        say("NOT VERIFIED: the server contradicts itself")
        for finding in contradicted.findings:
            say(f"  {finding}")
        return WRONG
    except NotVerified as error:
        sys.stderr.write(f"verify: {error}\n")
        return UNKNOWN
    return VERIFIED


async def verify(options: VerifyOptions, say: Callable[[str], None]) -> None:
    """Verify the log, and the provider's record. Raises Contradicted, NotVerified."""
    if not options.url.startswith(("http://", "https://")):
        raise NotVerified(f"--url: {options.url!r} does not begin with http:// or https://")
    try:
        given = parse_key(options.key) if options.key else None
    except NoteRejected as error:
        raise NotVerified(f"--key: {error}") from None
    source = LogSource(options.url)
    kept = Kept(options.folder or default_folder(), source.url)
    try:
        if options.provider_id is not None and await source.document(f"/api/providers/{options.provider_id}") is None:
            raise NotVerified(f"{source.url} knows no provider {options.provider_id}")
        audited = await audit(source, kept, given)
        _say_log(audited, kept, say)
        if options.provider_id is not None:
            await _verify_provider(source, kept, options.provider_id, audited, say)
    finally:
        await source.close()


async def _verify_provider(
    source: LogSource, kept: Kept, provider_id: UUID, audited: Audited, say: Callable[[str], None]
) -> None:
    """Compare the provider's pages with the log. Pages and log move, so what differs is looked at again."""
    since, place = audited.checkpoint.size, f"/api/providers/{provider_id}"
    for attempt in range(ATTEMPTS):
        if attempt:
            await asyncio.sleep(LAG_SECONDS)
        profile = await source.document(place)
        equity = await source.document(f"{place}/equity?period=all&points={MOST_POINTS}")
        size = (await audit(source, kept)).checkpoint.size
        found, lines = await asyncio.to_thread(_compare, kept, provider_id, (since, size), profile or {}, equity)
        if not found:
            break
    else:
        raise Contradicted([f"what the page of {provider_id} shows does not follow from the log", *found])
    say(f"Record of {provider_id}, recomputed from the log")
    for line in lines:
        say(f"  {line}")
    say("VERIFIED: what its page shows follows from the log")


def _compare(
    kept: Kept,
    provider_id: UUID,
    sizes: tuple[int, int],
    profile: Document,
    equity: Document | None,
) -> tuple[list[str], list[str]]:
    """Return what differs, and what the record is, in lines for people."""
    since, size = sizes
    marker = str(provider_id).encode()
    costs = USUAL_COSTS if equity is None else {**USUAL_COSTS, **costs_of(equity)}
    try:
        states = declared_since(read_entries(kept, size, marker), provider_id, since)
        record = recompute(read_entries(kept, size, marker), provider_id, costs)
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        raise Contradicted([f"no record follows from the entries: {error!r}"]) from error
    found = declared_differences(states, profile) + record_differences(record, profile)
    lines = [*lines_of(record), f"declared figures: {len(states[-1])} compared"]
    if equity is None:
        lines.append("this server shows no equity to compare the days with")
    else:
        compared, differing = differences(record, equity)
        found += differing
        lines.append(f"equity: {compared} days compared")
    return found, lines


def _say_log(audited: Audited, kept: Kept, say: Callable[[str], None]) -> None:
    checkpoint, before = audited.checkpoint, audited.before
    kinds = ", ".join(f"{count} {kind}s" for kind, count in audited.kinds.most_common()) or "nothing yet"
    say(f"Log {checkpoint.origin}: {checkpoint.size} entries ({kinds})")
    say(f"  signed by {kept.key}")
    if before is None:
        say("  first visit: from now on it is compared with this one")
    else:
        say(f"  continues the {before.size} entries of your last visit")
    say("VERIFIED: the entries are those that the checkpoint signs")
