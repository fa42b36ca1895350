"""List the asset classes that signals can be about."""

from __future__ import annotations

from handlers._http.base import GatewayHandler
from handlers._http.endpoint import endpoint
from schemas._symbols import describe_assets
from schemas.assets import Assets


class AllAssets(GatewayHandler):
    """`/api/assets`"""

    @endpoint("List asset types and categories", responds=Assets(), conditional=True)
    async def get(self) -> object:
        """The same for every caller, and for as long as the server's version."""
        return describe_assets()
