"""Serve leaderboards: asked of their actor, and read from the hourly copy while it is unavailable."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from actors._runtime.messages import Message
from actors.leaderboards.messages import LEADERBOARDS, BoardEntry, BoardPosition, PositionOf, Ranking, Top
from actors.leaderboards.rankings import entry_of
from actors.leaderboards.totals import LEAST_CLOSED, BoardTotals, missing_of, value_and_change
from config.clock import now
from config.documents import Document, Loaded
from config.ids import parse_uuid
from db import leaderboards as sql
from db._postgres import connection
from db.leaderboards import CardRow
from db.signals.feed import last_seq
from handlers._http.base import GatewayHandler
from handlers._http.endpoint import endpoint
from handlers._http.json import encode
from handlers._skill_boards import former, load_page, load_position, provider_card
from schemas._vocabulary import LIVE_BOARDS, SKILL_BOARDS, LiveBoard, Period, SkillBoard
from schemas.errors import InvalidQuery, NotFound, Unavailable
from schemas.leaderboards import Leaderboard, LeaderboardQuery

log = logging.getLogger(__name__)

ASK_SECONDS = 0.8
POSITION_SECONDS = 0.4
"""How long the actor may take, for a board and then for a rank: that leaves time to read the copy within the two
seconds of an answer."""
_LEADERBOARD = Leaderboard()

Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True)
class _Page:
    """A request for a page of a board."""

    board: LiveBoard
    period: Period
    limit: int
    offset: int
    as_of: int | None


@dataclass(frozen=True, slots=True)
class _Board:
    """A page of a board as it is shown, and its source: its actor (`is_live`), or the copy."""

    document: Document
    encoded: bytes
    entries: Mapping[UUID, BoardEntry]
    is_live: bool

    def with_me(self, mine: BoardPosition | None) -> object:
        """Return the document with the caller's rank and value; None: they are not known."""
        return self.encoded if mine is None else {**self.document, "me": _me(mine)}


class OneLeaderboard(GatewayHandler):
    """`/api/leaderboards/{type}`"""

    @endpoint("Get a leaderboard", query=LeaderboardQuery(), responds=_LEADERBOARD, conditional=True, errors=(404, 503))
    async def get(self, type: str, query: Loaded) -> object:  # noqa: A002 - the document's name of it
        """The best first; with a provider's token also the caller's own rank, or what it lacks.

        `skill` and `steady` are computed after each UTC day, of prices that the market confirmed: docs/records.md.
        """
        if type in SKILL_BOARDS:
            return await self._skill(type, query)
        if type in LIVE_BOARDS:
            return await self._live(_Page(type, query["period"], query["limit"], query["offset"], query["as_of"]))
        raise NotFound("Leaderboard not found")

    async def _skill(self, board: SkillBoard, query: Loaded) -> object:
        if query["period"] != "all":
            raise InvalidQuery.of("period", "must be all: the whole record counts")
        await self._check_as_of(query["as_of"])
        paging = query["limit"], query["offset"], query["as_of"]
        page = await self.services.boards.get((board, *paging), lambda: self.load(load_page, board, *paging))
        user_id = self._provider_id()
        if user_id is None:
            return page.document
        return {**page.document, "me": _me(await self.load(load_position, board, page.night, user_id))}

    async def _live(self, page: _Page) -> object:
        await self._check_as_of(page.as_of)
        shown = await self.services.boards.get(page, lambda: self._board(page))
        user_id = self._provider_id()
        return shown.encoded if user_id is None else await self._with_me(shown, page, user_id)

    async def _check_as_of(self, as_of: int | None) -> None:
        if as_of is not None and as_of > (newest := await self.load(last_seq)):
            raise InvalidQuery.of("as_of", f"must not be after the newest signal, {newest}")

    def _provider_id(self) -> UUID | None:
        claims = self.caller.claims
        return parse_uuid(claims.subject) if claims is not None and claims.is_provider else None

    async def _with_me(self, shown: _Board, page: _Page, user_id: UUID) -> object:
        """Return the board, and the caller's rank from the board's own source: else they may contradict each other."""
        if shown.is_live and user_id not in shown.entries:
            try:
                return shown.with_me(
                    await self._ask(PositionOf(page.board, page.period, user_id, page.as_of), POSITION_SECONDS)
                )
            except Unavailable as error:
                log.info("a leaderboard with a rank comes from the copy: %s", error)
            shown = await self.services.boards.get((page, "copy"), lambda: self._copied_board(page))
        entry = shown.entries.get(user_id)
        if entry is not None:
            return shown.with_me(BoardPosition(entry.rank, entry.value))
        return shown.with_me(await self._copied_position(page, user_id))

    async def _board(self, page: _Page) -> _Board:
        try:
            ranking = await self._ask(Top(page.board, page.period, page.limit, page.offset, page.as_of), ASK_SECONDS)
        except Unavailable as error:
            log.info("the leaderboards come from their copy: %s", error)
            return await self._copied_board(page)
        return await self._dressed(ranking, page, is_live=True)

    async def _copied_board(self, page: _Page) -> _Board:
        if page.as_of is not None:
            raise Unavailable("Earlier states of the boards are not available now")
        rows = await self.load(sql.load_top, page.board, page.period, page.limit, page.offset)
        entries = tuple(
            entry_of(rank, BoardTotals(row), page.board, page.period)
            for rank, (row, _) in enumerate(rows, start=page.offset + 1)
        )
        return await self._dressed(Ranking(entries, rows[0][1] if rows else now()), page, is_live=False)

    async def _dressed(self, ranking: Ranking, page: _Page, *, is_live: bool) -> _Board:
        cards = await self.load(sql.load_cards, [each.provider_id for each in ranking.entries])
        compared = "month" if page.period == "month" else "week"
        entries = [_entry(each, cards.get(each.provider_id), compared) for each in ranking.entries]
        document: Document = {
            "leaderboard": page.board,
            "period": page.period,
            "entries": entries,
            "updated_at": ranking.updated_at,
            "as_of": ranking.as_of,
            "reason": None if entries else _reason(page),
        }
        by_provider = {each.provider_id: each for each in ranking.entries}
        return _Board(document, encode(_LEADERBOARD.dump(document)), by_provider, is_live)

    async def _copied_position(self, page: _Page, user_id: UUID) -> BoardPosition | None:
        board, period = page.board, page.period
        async with connection(self.services.pool) as conn:
            row = await sql.load_copied(conn, user_id)
            rank = await sql.load_rank(conn, board, period, user_id)
        if row is None or rank is None:
            return None
        totals = BoardTotals(row)
        return BoardPosition(rank[0], value_and_change(totals, board, period)[0], missing_of(totals, board, period))

    async def _ask(self, message: Message[Reply], seconds: float) -> Reply:
        return await self.services.actors.ref(LEADERBOARDS, "").ask("", message, deadline_seconds=seconds)


_NEEDS: Mapping[LiveBoard, str] = {
    "followers": "is registered",
    "win_rate": f"has closed {LEAST_CLOSED} signals",
    "return": "has closed a signal",
    "streak": "has a run of profits",
    "rising": "has gained a follower",
}
_WITHIN: Mapping[Period, str] = {"all": "", "month": " in the last 30 days", "week": " in the last 7 days"}


def _reason(page: _Page) -> str:
    if page.offset:
        return f"The board ends before place {page.offset + 1}"
    return f"No provider {_NEEDS[page.board]}{_WITHIN[page.period]}"


def _me(position: BoardPosition) -> Document:
    return {**position._asdict(), "missing": [each._asdict() for each in position.missing]}


def _entry(entry: BoardEntry, card: CardRow | None, compared: str) -> Document:
    card = card or former(entry.provider_id)
    return {
        "rank": entry.rank,
        "provider": provider_card(card),
        "value": entry.value,
        "change": entry.change,
        "change_period": compared,
        "n": card.bets,
        "days": card.days,
        "interval": None,
        "drawdown": card.max_drawdown,
        "open_result": card.open_result,
        "share_verified": card.share_verified,
        "luck": None,
    }
