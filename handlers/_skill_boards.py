"""Read the boards of skill as they were computed at the end of a day: their pages, and why somebody is not listed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from actors.leaderboards.messages import BoardPosition
from actors.records.gates import FALSE_DISCOVERY_RATE, GATES, MissingGate, Track, missing_gates
from config.clock import now
from config.documents import Document
from db import _board_nights as sql
from db import leaderboards
from db._board_nights import Candidate, Night
from db._postgres import Connection
from db.leaderboards import CardRow
from schemas._vocabulary import SkillBoard
from schemas.errors import InvalidQuery

NOT_KEPT = "is not kept any more: begin again without it"
NO_NIGHT = "No day has ended yet for all records: the next one ends at 00:00 UTC"
COMPARED = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class SkillPage:
    """A page of a board of skill, as it is shown."""

    document: Document
    night: Night | None


async def load_page(conn: Connection, board: SkillBoard, limit: int, offset: int, as_of: int | None) -> SkillPage:
    """Return a page of a board, of the newest night or as of a `feed_seq`. Raises InvalidQuery for one not kept."""
    night = await sql.load_night(conn, as_of)
    if night is None:
        if as_of is not None and await sql.load_night(conn, None) is not None:
            raise InvalidQuery.of("as_of", NOT_KEPT)
        return SkillPage(_document(board, None, [], NO_NIGHT), None)
    listed = await sql.load_listed(conn, board, night.day, offset, limit)
    ids = [each.provider_id for each in listed]
    before = await sql.load_candidates(conn, night.day - COMPARED, ids)
    cards = await leaderboards.load_cards(conn, ids)
    entries = [
        _entry(board, rank, each, before.get(each.provider_id), cards.get(each.provider_id))
        for rank, each in enumerate(listed, start=offset + 1)
    ]
    return SkillPage(_document(board, night, entries, None if entries else _reason(night, offset)), night)


async def load_position(conn: Connection, board: SkillBoard, night: Night | None, provider_id: UUID) -> BoardPosition:
    """Return a provider's place on a night's board, and all that keeps it off."""
    found = None
    if night is not None:
        found = (await sql.load_candidates(conn, night.day, [provider_id])).get(provider_id)
    rank = None if found is None else found.skill_rank if board == "skill" else found.steady_rank
    if found is not None and rank is not None:
        return BoardPosition(rank, _value(board, found))
    row = await sql.load_track(conn, provider_id)
    track = None if row is None else Track(row.bets, row.days, row.first_on, row.positions, row.unverified)
    missing = missing_gates(track, now().date() if night is None else night.day + timedelta(days=1))
    if found is not None and found.luck > FALSE_DISCOVERY_RATE:
        missing.append(MissingGate("luck", found.luck, FALSE_DISCOVERY_RATE))
    return BoardPosition(None, None, tuple(missing))


def _document(board: SkillBoard, night: Night | None, entries: Sequence[Document], reason: str | None) -> Document:
    return {
        "leaderboard": board,
        "period": "all",
        "entries": entries,
        "updated_at": now() if night is None else night.computed_at,
        "as_of": 0 if night is None else night.as_of_seq,
        "reason": reason,
    }


def _reason(night: Night, offset: int) -> str:
    if offset and night.listed:
        return f"The board ends after {night.listed} places"
    if not night.eligible:
        needs = f"{GATES['bets']} bets, {GATES['days']} days with exposure, {GATES['age_days']} days since the first"
        return f"No provider is eligible yet: that takes {needs}, at most {GATES['unverified_share']:.0%} unverified"
    return (
        f"None of the {night.eligible} providers that were ever eligible passes: the smallest chance of luck is "
        f"{night.least_luck:.1%}, at most {FALSE_DISCOVERY_RATE:.0%} passes"
    )


def _value(board: SkillBoard, candidate: Candidate) -> float:
    return candidate.skill if board == "skill" else candidate.steadiness


def _entry(board: SkillBoard, rank: int, now: Candidate, before: Candidate | None, card: CardRow | None) -> Document:
    change = None if before is None else round(_value(board, now) - _value(board, before), 4)
    return {
        "rank": rank,
        "provider": provider_card(card or former(now.provider_id)),
        "value": _value(board, now),
        "change": change,
        "change_period": "week",
        "n": now.bets,
        "days": now.days,
        "interval": {"low": now.skill, "high": now.upper},
        "drawdown": now.max_drawdown,
        "open_result": now.open_result,
        "share_verified": now.share_verified,
        "luck": now.luck,
    }


def former(provider_id: UUID) -> CardRow:
    """Return the card of a provider whose account was deleted: a pseudonym that is its own."""
    return CardRow(provider_id, f"Former provider {provider_id.hex[-6:]}", None, False)


def provider_card(card: CardRow) -> Document:
    """Return the provider of an entry."""
    return {
        "user_id": str(card.user_id),
        "display_name": card.display_name,
        "avatar_url": card.avatar_url,
        "is_verified": card.is_verified,
    }
