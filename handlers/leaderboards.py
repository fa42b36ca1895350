"""Leaderboards: asked of their actor, and read from the hourly copy while it is away."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from actors.leaderboards.messages import LEADERBOARDS, Place, PlaceOf, Ranking, Standing, Top
from actors.leaderboards.rankings import place_of
from actors.leaderboards.standing import Tally, value_and_change
from config.clock import now
from config.ids import parse_uuid
from db import leaderboards as sql
from db._postgres import connection
from db.leaderboards import Board, CardRow, Period
from handlers._base import GatewayHandler
from handlers._endpoint import endpoint
from handlers._json import encode
from schemas.errors import NotFound, Unavailable
from schemas.leaderboards import BOARDS, Leaderboard, LeaderboardQuery

log = logging.getLogger(__name__)

ASK_SECONDS = 0.8
"""How long the actor may take: past it there is still time to read the copy within the two seconds of an answer."""
_LEADERBOARD = Leaderboard()


class OneLeaderboard(GatewayHandler):
    """`/api/leaderboards/{type}`"""

    @endpoint(
        "Get a leaderboard",
        query=LeaderboardQuery(),
        responds=_LEADERBOARD,
        conditional=True,
        errors=(404, 503),
    )
    async def get(self, type: str, query: dict[str, Any]) -> object:  # noqa: A002 - the document's name of it
        """The best first; with a provider's token also where the caller is."""
        if type not in BOARDS:
            raise NotFound("Leaderboard not found")
        board: Board = type  # type: ignore[assignment]
        period, limit = query["period"], query["limit"]
        document, encoded = await self.services.boards.get(
            (board, period, limit), lambda: self._board(board, period, limit)
        )
        claims = self.caller.claims
        user_id = parse_uuid(claims.subject) if claims is not None and claims.is_provider else None
        mine = None if user_id is None else await self._place(board, period, user_id)
        return encoded if mine is None else document | {"me": mine._asdict()}

    async def _board(self, board: Board, period: Period, limit: int) -> tuple[dict[str, Any], bytes]:
        ranking = await self._ranking(board, period, limit)
        async with connection(self.services.pool) as conn:
            cards = await sql.load_cards(conn, [each.provider_id for each in ranking.places])
        compared = "month" if period == "month" else "week"
        entries = [_entry(each, cards[each.provider_id], compared) for each in ranking.places]
        document = {"leaderboard": board, "period": period, "entries": entries, "updated_at": ranking.updated_at}
        return document, encode(_LEADERBOARD.dump(document))

    async def _ranking(self, board: Board, period: Period, limit: int) -> Ranking:
        mailbox = self.services.directory.mailbox(LEADERBOARDS, "")
        try:
            return await mailbox.ask("", Top(board, period, limit), deadline_seconds=ASK_SECONDS)
        except Unavailable as error:
            log.info("the leaderboards come from their copy: %s", error)
        async with connection(self.services.pool) as conn:
            rows = await sql.load_top(conn, board, period, limit)
        return Ranking(_places(rows, board, period), rows[0][1] if rows else now())

    async def _place(self, board: Board, period: Period, user_id: UUID) -> Standing | None:
        mailbox = self.services.directory.mailbox(LEADERBOARDS, "")
        try:
            return await mailbox.ask("", PlaceOf(board, period, user_id), deadline_seconds=ASK_SECONDS)
        except Unavailable as error:
            log.info("a place comes from the leaderboards' copy: %s", error)
        async with connection(self.services.pool) as conn:
            row = await sql.load_copied(conn, user_id)
            place = await sql.load_place(conn, board, period, user_id)
        if row is None or place is None:
            return None
        return Standing(place[0], value_and_change(Tally(row), board, period)[0])


def _places(rows: Sequence[tuple[sql.StandingRow, datetime]], board: Board, period: Period) -> tuple[Place, ...]:
    return tuple(place_of(rank, Tally(row), board, period) for rank, (row, _) in enumerate(rows, start=1))


def _entry(place: Place, card: CardRow, compared: str) -> dict[str, Any]:
    return {
        "rank": place.rank,
        "provider": {
            "user_id": str(card.user_id),
            "display_name": card.display_name,
            "avatar_url": card.avatar_url,
            "is_verified": card.is_verified,
        },
        "value": place.value,
        "change": place.change,
        "change_period": compared,
    }
