"""The commands `run.py verify log` and `run.py verify provider ID`: read, check, and say what was found."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from actors.tlog.notes import NoteRejected, VerifierKey, parse_key
from server.verify import Contradicted, NotVerified
from server.verify.audit import Audited, audit, read_entries
from server.verify.kept import Kept, default_folder
from server.verify.record import Recomputed, costs_of, differences, figures_of, recompute
from server.verify.source import LogSource

VERIFIED: Final = 0
WRONG: Final = 1
UNKNOWN: Final = 2

LAG_SECONDS: Final = 2.0
PATIENCE: Final = 8

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
    try:
        given = parse_key(options.key) if options.key else None
    except NoteRejected as error:
        raise NotVerified(f"--key: {error}") from None
    if not options.url.startswith(("http://", "https://")):
        raise NotVerified(f"--url: {options.url!r} does not begin with http:// or https://")
    source = LogSource(options.url)
    kept = Kept(options.folder or default_folder(), source.url)
    try:
        page = None if options.provider_id is None else await _page(source, options.provider_id)
        audited = await _audit_up_to(_as_of(page), source, kept, given)
        _say_log(audited, kept, say)
        if options.provider_id is not None:
            await _verify_provider(kept, audited, options.provider_id, page, say)
    finally:
        await source.close()


async def _page(source: LogSource, provider_id: UUID) -> Mapping[str, Any] | None:
    """Return what the provider's page shows, read before the log, so that the log has all of it."""
    if await source.document(f"/api/providers/{provider_id}") is None:
        raise NotVerified(f"{source.url} knows no provider {provider_id}")
    return await source.document(f"/api/providers/{provider_id}/equity?period=all&points=500")


def _as_of(page: Mapping[str, Any] | None) -> int:
    found = 0 if page is None else page.get("as_of_seq")
    if type(found) is not int:
        raise NotVerified("the equity has no as_of_seq")
    return found


async def _audit_up_to(feed_seq: int, source: LogSource, kept: Kept, given: VerifierKey | None) -> Audited:
    """Verify a log that has this feed item, which a page shows: a checkpoint is a second behind, or ten."""
    for _ in range(PATIENCE):
        audited = await audit(source, kept, given)
        if audited.feed_seq >= feed_seq:
            return audited
        await asyncio.sleep(LAG_SECONDS)
    raise Contradicted(
        [f"the page shows what is not in the log: it ends at feed_seq {audited.feed_seq}, not {feed_seq}"]
    )


async def _verify_provider(
    kept: Kept, audited: Audited, provider_id: UUID, page: Mapping[str, Any] | None, say: Callable[[str], None]
) -> None:
    costs = USUAL_COSTS if page is None else costs_of(page)
    entries = read_entries(kept, audited.checkpoint.size, str(provider_id).encode())
    record = await asyncio.to_thread(recompute, entries, provider_id, costs)
    say(f"Record of {provider_id}, recomputed from the log")
    for line in figures_of(record):
        say(f"  {line}")
    if page is None:
        say("  This server shows no equity to compare it with.")
        return
    _compare(record, page, say)


def _compare(record: Recomputed, page: Mapping[str, Any], say: Callable[[str], None]) -> None:
    compared, found = differences(record, page)
    if found:
        raise Contradicted(["the provider's page does not follow from the log", *found])
    say(f"VERIFIED: each of the {compared} days that its page shows follows from the log")


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
