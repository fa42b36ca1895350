"""Read the models' decisions."""

from __future__ import annotations

from config.documents import Loaded
from db.lens.decisions import DecisionFilters, get_decision, list_decisions
from handlers._http.base import GatewayHandler
from handlers._http.endpoint import endpoint
from handlers._http.pages import send_page
from schemas.decisions import Decision, DecisionsQuery, PageOfDecisions

_DECISIONS = PageOfDecisions()


class Decisions(GatewayHandler):
    """`/api/v1/decisions`"""

    @endpoint("List decisions, newest first", query=DecisionsQuery(), responds=_DECISIONS, errors=(503,))
    async def get(self, query: Loaded) -> None:
        """Every filter that is given must match."""
        paging = {"limit": query.pop("limit"), "offset": query.pop("offset")}
        filters, totals = DecisionFilters(**query), self.services.totals
        await send_page(self, _DECISIONS, filters, paging, lambda conn: list_decisions(conn, totals, filters, **paging))


class OneDecision(GatewayHandler):
    """`/api/v1/decisions/{decision_id}`"""

    @endpoint("Get a decision and how its model ran", responds=Decision(), errors=(404, 503))
    async def get(self, decision_id: str) -> object:
        """A model that failed leaves a dead letter instead of a decision."""
        row = await self.find("Decision", decision_id, get_decision)
        meta = {
            "model_name": row.model,
            "model_version": row.model_version,
            "latency_ms": row.latency_ms,
            "status": "SUCCESS",
            "tokens_used": row.tokens_used,
        }
        return {name: getattr(row, name) for name in row.__match_args__} | {"model_meta": meta}
