"""The asset classes: as the document lists them, and not sent twice."""

from __future__ import annotations

from tests.api.serving import serving
from tests.contract.documents import examples


async def test_the_assets_are_the_documents() -> None:
    [documented] = [each.value for each in examples() if each.route == "GET /api/assets"]
    async with serving() as client:
        response = await client.get("/api/assets")
        assert (response.status, response.json) == (200, documented)


async def test_a_client_that_has_them_is_told_so() -> None:
    async with serving() as client:
        first = await client.get("/api/assets")
        again = await client.get("/api/assets", If_None_Match=first.headers["ETag"])
        assert (again.status, again.body) == (304, b"")
        assert again.headers["ETag"] == first.headers["ETag"]
        assert (await client.get("/api/assets", If_None_Match="*")).status == 304
        assert (await client.request("HEAD", "/api/assets")).headers["ETag"] == first.headers["ETag"]
