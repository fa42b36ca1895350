"""Serve leaderboards: asked of their actor, and read from the hourly copy while it is unavailable."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from actors._runtime.messages import Message
from actors.leaderboards.messages import LEADERBOARDS, BoardEntry, BoardPosition, PositionOf, Ranking, Top
from actors.leaderboards.rankings import entry_of
from actors.leaderboards.totals import BoardTotals, value_and_change
from config.clock import now
from config.documents import Document, Loaded
from config.ids import parse_uuid
from db import leaderboards as sql
from db._postgres import connection
from db.leaderboards import CardRow
from handlers._http.base import GatewayHandler
from handlers._http.endpoint import endpoint
from handlers._http.json import encode
from schemas._vocabulary import BOARDS, Board, Period
from schemas.errors import NotFound, Unavailable
from schemas.leaderboards import Leaderboard, LeaderboardQuery

log = logging.getLogger(__name__)

ASK_SECONDS = 0.8
POSITION_SECONDS = 0.4
"""How long the actor may take, for a board and then for a rank: that leaves time to read the copy within the two
seconds of an answer."""
_LEADERBOARD = Leaderboard()

Reply = TypeVar("Reply")


@dataclass(frozen=True, slots=True)
class _Board:
    """A board as it is shown, and its source: its actor (`is_live`), or the copy."""

    document: Document
    encoded: bytes
    entries: Mapping[UUID, BoardEntry]
    is_live: bool

    def with_me(self, mine: BoardPosition | None) -> object:
        """Return the document with the caller's rank and value; None: they are not known."""
        return self.encoded if mine is None else {**self.document, "me": mine._asdict()}


class OneLeaderboard(GatewayHandler):
    """`/api/leaderboards/{type}`"""

    @endpoint("Get a leaderboard", query=LeaderboardQuery(), responds=_LEADERBOARD, conditional=True, errors=(404, 503))
    async def get(self, type: str, query: Loaded) -> object:  # noqa: A002 - the document's name of it
        """The best first; with a provider's token also the caller's own rank."""
        if type not in BOARDS:
            raise NotFound("Leaderboard not found")
        board: Board = type
        period, limit = query["period"], query["limit"]
        shown = await self.services.boards.get((board, period, limit), lambda: self._board(board, period, limit))
        claims = self.caller.claims
        user_id = parse_uuid(claims.subject) if claims is not None and claims.is_provider else None
        return shown.encoded if user_id is None else await self._with_me(shown, board, period, limit, user_id)

    async def _with_me(self, shown: _Board, board: Board, period: Period, limit: int, user_id: UUID) -> object:
        """Return the board, and the caller's rank from the board's own source: else they may contradict each other."""
        if shown.is_live and user_id not in shown.entries:
            try:
                return shown.with_me(await self._ask(PositionOf(board, period, user_id), POSITION_SECONDS))
            except Unavailable as error:
                log.info("a leaderboard with a rank comes from the copy: %s", error)
            key = (board, period, limit, "copy")
            shown = await self.services.boards.get(key, lambda: self._copied_board(board, period, limit))
        entry = shown.entries.get(user_id)
        if entry is not None:
            return shown.with_me(BoardPosition(entry.rank, entry.value))
        return shown.with_me(await self._copied_position(board, period, user_id))

    async def _board(self, board: Board, period: Period, limit: int) -> _Board:
        try:
            ranking = await self._ask(Top(board, period, limit), ASK_SECONDS)
        except Unavailable as error:
            log.info("the leaderboards come from their copy: %s", error)
            return await self._copied_board(board, period, limit)
        return await self._dressed(ranking, board, period, is_live=True)

    async def _copied_board(self, board: Board, period: Period, limit: int) -> _Board:
        rows = await self.load(sql.load_top, board, period, limit)
        ranking = Ranking(_entries(rows, board, period), rows[0][1] if rows else now())
        return await self._dressed(ranking, board, period, is_live=False)

    async def _dressed(self, ranking: Ranking, board: Board, period: Period, *, is_live: bool) -> _Board:
        cards = await self.load(sql.load_cards, [each.provider_id for each in ranking.entries])
        compared = "month" if period == "month" else "week"
        entries = [_entry(each, cards[each.provider_id], compared) for each in ranking.entries]
        document: Document = {
            "leaderboard": board,
            "period": period,
            "entries": entries,
            "updated_at": ranking.updated_at,
        }
        by_provider = {each.provider_id: each for each in ranking.entries}
        return _Board(document, encode(_LEADERBOARD.dump(document)), by_provider, is_live)

    async def _copied_position(self, board: Board, period: Period, user_id: UUID) -> BoardPosition | None:
        async with connection(self.services.pool) as conn:
            row = await sql.load_copied(conn, user_id)
            rank = await sql.load_rank(conn, board, period, user_id)
        if row is None or rank is None:
            return None
        return BoardPosition(rank[0], value_and_change(BoardTotals(row), board, period)[0])

    async def _ask(self, message: Message[Reply], seconds: float) -> Reply:
        return await self.services.actors.ref(LEADERBOARDS, "").ask("", message, deadline_seconds=seconds)


def _entries(rows: Sequence[tuple[sql.TotalsRow, datetime]], board: Board, period: Period) -> tuple[BoardEntry, ...]:
    return tuple(entry_of(rank, BoardTotals(row), board, period) for rank, (row, _) in enumerate(rows, start=1))


def _entry(entry: BoardEntry, card: CardRow, compared: str) -> Document:
    return {
        "rank": entry.rank,
        "provider": {
            "user_id": str(card.user_id),
            "display_name": card.display_name,
            "avatar_url": card.avatar_url,
            "is_verified": card.is_verified,
        },
        "value": entry.value,
        "change": entry.change,
        "change_period": compared,
    }
