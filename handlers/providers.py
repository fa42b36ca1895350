"""List and show providers, become one, edit one's own profile."""

from __future__ import annotations

from uuid import UUID

from actors.providers.messages import PROVIDERS, Become, EditProvider, provider_key
from config.clock import now
from config.documents import Loaded
from config.ids import parse_uuid
from db.providers.profiles import exists_provider, list_providers
from db.signals.reads import SignalFilters
from handlers._http.base import GatewayHandler, known_id
from handlers._http.endpoint import endpoint
from handlers._present_records import read_equity
from handlers._signal_pages import page_of_signals
from handlers.auth._account_handler import AccountHandler
from schemas.errors import Forbidden, NotFound
from schemas.providers import (
    Equity,
    EquityQuery,
    NewProvider,
    PageOfProviders,
    ProviderChange,
    ProviderProfile,
    ProvidersQuery,
)
from schemas.signals import PageOfSignals, SignalsQuery


class ProviderHandler(AccountHandler):
    """The base of the handlers that show profiles."""

    async def describe(self, provider_id: UUID) -> bytes:
        """Return the profile as the caller sees it. Raises NotFound."""
        return await self.services.profiles.get(provider_id, parse_uuid(self.caller.subject or ""))


class AllProviders(ProviderHandler):
    """`/api/providers`"""

    @endpoint("List providers", query=ProvidersQuery(), responds=PageOfProviders(), errors=(503,))
    async def get(self, query: Loaded) -> object:
        """The providers with the highest value of the sort field first, those without a value last."""
        items, total = await self.load(list_providers, **query)
        return {"providers": items, "total": total, "limit": query["limit"], "offset": query["offset"]}


class OneProvider(ProviderHandler):
    """`/api/providers/{provider_id}`"""

    @endpoint("Get a provider's profile", responds=ProviderProfile(), conditional=True, errors=(404, 503))
    async def get(self, provider_id: str) -> object:
        """Its track record, its newest signals, and whether the caller follows it."""
        self.add_header("Vary", "Authorization")
        return await self.describe(known_id(provider_id, "Provider"))


class SignalsOfProvider(GatewayHandler):
    """`/api/providers/{provider_id}/signals`"""

    @endpoint("List a provider's signals", query=SignalsQuery(), responds=PageOfSignals(), errors=(404, 503))
    async def get(self, provider_id: str, query: Loaded) -> None:
        """The newest first. Every filter that is given must match."""
        known = known_id(provider_id, "Provider")
        paging = {"limit": query.pop("limit"), "offset": query.pop("offset")}
        if not await self.load(exists_provider, known):
            raise NotFound("Provider not found")
        self.finish(await page_of_signals(self.services, SignalFilters(**query, provider_id=known), **paging))


class EquityOfProvider(GatewayHandler):
    """`/api/providers/{provider_id}/equity`"""

    @endpoint("Get the curve of a provider", query=EquityQuery(), responds=Equity(), errors=(404, 503))
    async def get(self, provider_id: str, query: Loaded) -> object:
        """The value of one unit by the market's prices: each day compounds the change of all open units'
        values less costs, over the greatest number of units that was open at once up to that day.

        One point a UTC day, at its end, and one for now, with what is open at the last mid. Of more points than are
        asked for, the first, the last, the highest, the lowest and both ends of the deepest drawdown always stay. Only
        positions whose opening had a quote are in it. The curve of a period begins at 1.

        By hand: two units are opened, one gains 10 %, the other loses 20 %: (0.10 − 0.20)/2 = −5 %, equity 0.95.
        """
        known, costs = known_id(provider_id, "Provider"), self.services.settings.costs_bps
        found = await self.load(read_equity, known, costs, **query)
        if found is None:
            raise NotFound("Provider not found")
        return found


class Providerships(ProviderHandler):
    """`/api/providers/become`"""

    @endpoint("Become a provider", body=NewProvider(), responds=ProviderProfile(), status=201, errors=(409, 503))
    async def post(self, body: Loaded) -> object:
        """For users who have verified their address. The next access token has `is_provider`."""
        person = await self.find_caller()
        if not person.account.email_verified:
            raise Forbidden("Verify your e-mail address first")
        await self.ask(
            PROVIDERS, provider_key(self.user_id), Become({"avatar_url": person.account.avatar_url} | body, now())
        )
        return await self.describe(self.user_id)


class MyProvider(ProviderHandler):
    """`/api/providers/me`"""

    @endpoint("Edit one's own provider profile", body=ProviderChange(), responds=ProviderProfile(), errors=(409, 503))
    async def patch(self, body: Loaded) -> object:
        """Sets the fields that are given; answers all of them."""
        await self.ask(PROVIDERS, provider_key(self.user_id), EditProvider(body, now()))
        return await self.describe(self.user_id)
