"""Serve the referral program: who registered with a user's code, and what that earns."""

from __future__ import annotations

from urllib.parse import quote

from actors.users.messages import ChangeCode
from actors.users.referrals import CODES_FROM, expected, may_choose_code, tier_after, tier_of
from config.clock import now
from config.documents import Document, Loaded
from db import achievements
from db import referrals as sql
from db._postgres import connection
from db.referrals import ListedReferral, ReferralTotalsRow
from handlers._http.base import GatewayHandler
from handlers._http.endpoint import endpoint
from handlers.auth._account_handler import AccountHandler
from schemas._queries import Paging
from schemas.errors import Forbidden, Unauthorized
from schemas.referrals import (
    ClustersQuery,
    CodeChoice,
    CodeInForce,
    Dashboard,
    ReferralClusters,
    masked,
)


class MyReferrals(AccountHandler):
    """`/api/referrals`"""

    @endpoint("Get one's referrals", query=Paging(), responds=Dashboard(), errors=(503,))
    async def get(self, query: Loaded) -> object:
        """The list is paged, the newest first; the figures cover all."""
        async with connection(self.services.pool) as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            totals = await sql.totals(conn, self.user_id)
            items = await sql.list_referrals(conn, self.user_id, query["limit"], query["offset"])
        if totals is None:
            raise Unauthorized("The account of this token does not exist")
        return _dashboard(totals, items, self.services.settings.api_url)


class MyCode(AccountHandler):
    """`/api/referrals/custom-code`"""

    @endpoint("Choose one's referral code", body=CodeChoice(), responds=CodeInForce(), errors=(409, 503))
    async def post(self, body: Loaded) -> object:
        """For users at silver or above. Earlier codes keep working."""
        qualified = await self.load(achievements.count_qualified, self.user_id)
        if not may_choose_code(qualified):  # tiers never fall, so this stays true until the owner is asked
            raise Forbidden(f"A code of one's own is for referrers at {CODES_FROM} or above")
        code = await self.ask_account(self.user_id, ChangeCode(body["code"], now()))
        return {"referral_code": code, "referral_url": join_url(self.services.settings.api_url, code)}


class Clusters(GatewayHandler):
    """`/api/v1/referrals/clusters`"""

    @endpoint(
        "List referrals that share a network address",
        query=ClustersQuery(),
        responds=ReferralClusters(),
        errors=(503,),
    )
    async def get(self, query: Loaded) -> object:
        """For operators: users who refer themselves do so from few addresses. A household or an office does, too."""
        items, total = await self.load(sql.list_clusters, **query)
        return {"clusters": items, "total": total, "limit": query["limit"], "offset": query["offset"]}


class Join(GatewayHandler):
    """`/join/{code}`"""

    @endpoint("Follow a referral link", status=302, errors=(503,))
    async def get(self, code: str) -> None:
        """Redirects to the registration, with the code. A visitor with an unknown code may register all the same."""
        owner = await self.load(sql.find_owner, code.strip()) if len(code) <= 100 else None
        page = f"{self.services.settings.frontend_url.rstrip('/')}/register"
        self.redirect(page if owner is None else f"{page}?referral_code={quote(code.strip().upper(), safe='')}")


def join_url(api_url: str, code: str) -> str:
    """Return the link that invites people."""
    return f"{api_url.rstrip('/')}/join/{code}"


def _dashboard(totals: ReferralTotalsRow, items: list[ListedReferral], api_url: str) -> Document:
    qualified, pending = totals.qualified, totals.total - totals.qualified
    above = tier_after(qualified)
    return {
        "referral_code": totals.referral_code,
        "referral_url": join_url(api_url, totals.referral_code),
        "tier": tier_of(qualified),
        "stats": {
            "total_referrals": totals.total,
            "qualified_referrals": qualified,
            "pending_referrals": pending,
            "total_earned": totals.earned,
            "pending_earnings": expected(qualified, pending),
        },
        "next_tier": above
        and {
            "id": above.id,
            "name": above.name,
            "referrals_needed": above.least - qualified,
            "referrer_reward": above.referrer_reward,
        },
        "referrals": [
            {
                "referee_name": masked(each.display_name),
                "status": each.status,
                "reward_amount": each.reward_amount,
                "created_at": each.created_at,
                "qualified_at": each.qualified_at,
            }
            for each in items
        ],
    }
