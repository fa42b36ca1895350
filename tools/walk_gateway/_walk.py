"""Walk through the public document as two users: a provider with followers, and a follower."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import orjson

from config.ids import uuid7
from server.demo.cast import FOLLOWERS, KING, PROVIDERS
from server.demo.client import DemoClient, Host, RequestRefused
from server.demo.emails import Emails
from tests.contract.documents import anonymous, documented_routes, examples
from tools.walk_gateway._filled import common, lacking
from tools.walk_lens._client import Findings

NAME = "gateway-api.md"
EXAMPLES: Mapping[str, Any] = {each.name: each.value for each in examples() if each.document == NAME}
ROUTES = sorted(each for each in documented_routes() if "/api/v1" not in each)
BOARDS = [f"{board} {period}" for board in ("followers", "win_rate", "return", "streak", "rising")
          for period in ("all", "month", "week")]  # fmt: skip
EVENTS = ("session_start", "signal", "heartbeat")
AT_ONCE = ("follow", "reaction", "comment", "rank")
ROWS = [
    *ROUTES,
    *EXAMPLES,
    *(f"board {each}" for each in BOARDS),
    *(f"event {each}" for each in EVENTS),
    *(f"at once: {each}" for each in AT_ONCE),
]
_AT_ONCE_SECONDS = 2.0
_HEARTBEAT_SECONDS = 40.0
_MOST_SAID = 10  # signals that are looked at in full


async def walk(url: str) -> Findings:
    """Walk every row of the document once, on a server that `run.py demo` has filled."""
    host = Host(url, Emails(Path("nowhere")))
    try:
        return await Walk(host).run()
    finally:
        await host.close()


class Walk:
    """One walk. Steps are independent: a fault in one is reported, and the next one runs."""

    def __init__(self, host: Host) -> None:
        self.findings = Findings(ROWS)
        self._host = host
        self._anybody = DemoClient(host)
        self._king = DemoClient(host, next(each.person for each in PROVIDERS if each.name == KING))
        self._fan = DemoClient(host, FOLLOWERS[0])
        self._novice = DemoClient(host, FOLLOWERS[8])

    async def run(self) -> Findings:
        """Run all steps in order."""
        providers = (await self._anybody.get("/api/providers?limit=100"))["providers"]
        assert KING in [each["display_name"] for each in providers], "fill the server first: run.py demo --once"
        for each in (self._king, self._fan, self._novice):
            await each.enter()
        steps: tuple[Callable[[], Awaitable[None]], ...] = (
            self.reads, self.one_signal, self.boards, self.settings, self.becoming, self.follows, self.opinions,
            self.code, self.stream, self.at_once,
        )  # fmt: skip
        for step in steps:
            try:
                await step()
            except Exception:  # noqa: BLE001 - reported, and its other rows count as not walked
                self.findings.troubles.append(traceback.format_exc())
        return self.findings

    # --- what is read

    async def reads(self) -> None:
        king = self._king
        await self._show(self._anybody, "GET /api/assets")
        await self._show(king, "GET /api/user/settings")
        await self._show(king, "GET /api/user/watchlist")
        await self._show(self._anybody, "GET /api/providers", query="?limit=100")
        await self._show(self._fan, "GET /api/providers/{}", king.user_id)
        await self._show(king, "GET /api/social/following")
        await self._show(king, "GET /api/social/feed", query="?limit=100")
        await self._show(king, "GET /api/achievements")
        await self._show(king, "GET /api/achievements/me")
        await self._show(king, "GET /api/achievements/streaks")
        await self._show(king, "GET /api/referrals")
        views = await self._ask(king, "GET", "GET /api/user/saved-views")
        self._note("GET /api/user/saved-views", lacking({"saved_views": [{"name": "x", "filters": {}}]}, views))
        page = EXAMPLES["GET /api/signals response 200"]
        theirs = await self._ask(
            self._anybody, "GET", "GET /api/providers/{}/signals", king.user_id, query="?limit=100"
        )
        crypto = {**page, "signals": page["signals"][:1]}
        self._note("GET /api/providers/{}/signals", lacking(crypto, theirs))

    async def one_signal(self) -> None:
        """Check the newest signal of each of the list's three kinds; and in full those with most comments."""
        page = EXAMPLES["GET /api/signals response 200"]
        found: list[str] = []
        listed: list[dict[str, Any]] = []
        for example in page["signals"]:
            query = f"?limit=100&asset_types={example['asset_type']}"
            answer = await self._ask(self._anybody, "GET", "GET /api/signals", query=query)
            found += lacking({**page, "signals": [example]}, answer)
            listed += answer["signals"]
        self._note("GET /api/signals", [])
        self._note("GET /api/signals response 200", found)
        row = "GET /api/signals/{}"
        example = EXAMPLES[f"{row} response 200"]
        fullest = _most_said(listed)
        shown = [await self._ask(self._king, "GET", row, each) for each in fullest]
        self._note(row, [])
        self._note(f"{row} response 200", common(lacking(example, each) for each in shown))
        row = "GET /api/social/signals/{}/comments"
        said = {"id": "x", "user": {"user_id": "x", "display_name": "x", "avatar_url": "x"}, "content": "x"}
        wanted = {"comments": [{**said, "replies": None, "created_at": "x"}], "total": 1}
        comments = [await self._ask(self._king, "GET", row, each) for each in fullest]
        self._note(row, common(lacking(wanted, each) for each in comments))

    async def boards(self) -> None:
        example = EXAMPLES["GET /api/leaderboards/{} response 200"]
        for each in BOARDS:
            board, period = each.split()
            row = "GET /api/leaderboards/{}"
            answer = await self._ask(self._anybody, "GET", row, board, query=f"?period={period}")
            found = lacking(example, answer)
            values = [entry["value"] for entry in answer["entries"]]
            if values != sorted(values, reverse=True):
                found.append("not in order")
            self._note(f"board {each}", found)
            self._note(row, [])
            self._note(f"{row} response 200", found)

    # --- what is done

    async def settings(self) -> None:
        king = self._king
        before = await king.get("/api/user/settings")
        await self._send(king, "PUT /api/user/settings", {200})
        await king.ask("PUT", "/api/user/settings", before)
        await self._send(king, "POST /api/user/watchlist", {200, 201})
        await self._send(king, "DELETE /api/user/watchlist/{}", {200}, "SOL%2FUSD")
        await self._send(king, "POST /api/user/saved-views", {201, 409})

    async def becoming(self) -> None:
        await self._send(self._novice, "POST /api/providers/become", {201, 409})

    async def follows(self) -> None:
        row = "POST /api/social/follow/{}"
        answer = await self._send(self._fan, row, {200, 201}, self._king.user_id)
        self._note(f"{row} response 200", lacking(EXAMPLES[f"{row} response 200"], answer))
        await self._send(self._fan, "DELETE /api/social/follow/{}", {200}, self._king.user_id)
        await self._send(self._fan, row, {201}, self._king.user_id)

    async def opinions(self) -> None:
        [signal] = (await self._anybody.get("/api/signals?limit=1"))["signals"]
        await self._send(self._fan, "POST /api/social/signals/{}/react", {200, 201}, signal["id"])
        await self._send(self._fan, "DELETE /api/social/signals/{}/react/{}", {200}, signal["id"], "fire")
        await self._send(self._fan, "POST /api/social/signals/{}/comments", {201, 409}, signal["id"])

    async def code(self) -> None:
        await self._send(self._king, "POST /api/referrals/custom-code", {200})
        await self._king.post("/api/referrals/custom-code", {"code": "KING42"})

    async def stream(self) -> None:
        """Read a signal that is published while the stream is open, and the heartbeat after it."""
        async with (
            aiohttp.ClientSession() as session,
            asyncio.timeout(_HEARTBEAT_SECONDS),
            session.get(f"{self._host.url}/api/signals/stream?categories=crypto,equities") as response,
        ):
            self._note("GET /api/signals/stream", [] if response.status == 200 else [f"status {response.status}"])
            heard: dict[str, Any] = {}
            name = ""
            async for line in response.content:
                key, _, value = line.decode().rstrip("\n").partition(": ")
                if key == "event":
                    name = value
                elif key == "data":
                    heard.setdefault(name, orjson.loads(value))
                    if name == "session_start":
                        await self._publish()
                    if set(heard) >= set(EVENTS):
                        break
        start = {"session_id": "x", "timestamp": "x", "filters": {"categories": ["crypto"]}}
        signal = {"id": "x", "asset_type": "crypto", "asset_category": "x", "symbol": "x", "action": "x", "score": 87}
        beat = {"timestamp": "x", "connected_providers": 42}
        for event, example in zip(EVENTS, (start, signal, beat), strict=True):
            self._note(f"event {event}", lacking(example, heard.get(event)))

    async def _publish(self) -> Any:
        body = {"symbol": "BTC", "action": "buy", "asset_type": "crypto", "entry_price": 67420, "commentary": "walked"}
        return (await self._king.ask("POST", "/api/signals", body, key=str(uuid7()))).json

    # --- two people

    async def at_once(self) -> None:
        """Check that each user sees the other's follow, rank, reaction and comment."""
        king, fan = self._king, self._fan
        profile, board = f"/api/providers/{king.user_id}", "/api/leaderboards/followers?limit=100"
        before = (await king.get(profile))["stats"]["follower_count"]
        place = (await king.get(board))["me"]
        await fan.ask("DELETE", f"/api/social/follow/{king.user_id}")
        await self._until("follow", king, profile, lambda it: it["stats"]["follower_count"] == before - 1)
        await self._until("rank", king, board, lambda it: it["me"]["value"] == place["value"] - 1)
        await fan.post(f"/api/social/follow/{king.user_id}")
        await self._until("follow", king, profile, lambda it: it["stats"]["follower_count"] == before)
        await self._until("rank", king, board, lambda it: it["me"]["value"] == place["value"])
        [signal] = (await self._anybody.get(f"/api/signals?limit=1&provider_id={king.user_id}"))["signals"]
        path = f"/api/signals/{signal['id']}"
        await fan.post(f"/api/social{path[4:]}/react", {"reaction_type": "sad"})
        await fan.ask("DELETE", f"/api/social{path[4:]}/react/sad")
        sad = (await king.get(path))["reactions"].get("sad", 0)
        await fan.post(f"/api/social{path[4:]}/react", {"reaction_type": "sad"})
        await self._until("reaction", king, path, lambda it: it["reactions"].get("sad", 0) == sad + 1)
        said = await fan.post(f"/api/social{path[4:]}/comments", {"content": f"Seen? {uuid7()}"})
        await self._until("comment", king, path, lambda it: said["id"] in [each["id"] for each in it["comments"]])

    async def _until(self, what: str, who: DemoClient, path: str, holds: Callable[[Any], bool]) -> None:
        deadline = time.monotonic() + _AT_ONCE_SECONDS
        seen = holds(await who.get(path))
        for _ in range(10):
            if seen or time.monotonic() > deadline:
                break
            await asyncio.sleep(0.2)
            seen = holds(await who.get(path))
        self._note(f"at once: {what}", [] if seen else [f"not seen after {_AT_ONCE_SECONDS} s"])

    # --- asking

    async def _show(self, who: DemoClient, route: str, *values: object, query: str = "") -> None:
        answer = await self._ask(who, "GET", route, *values, query=query)
        self._note(route, [])
        self._note(f"{route} response 200", lacking(EXAMPLES[f"{route} response 200"], answer))

    async def _ask(self, who: DemoClient, method: str, route: str, *values: object, query: str = "") -> Any:
        return (await who.ask(method, _path(route, *values) + query)).json

    async def _send(self, who: DemoClient, route: str, statuses: set[int], *values: object) -> Any:
        """Send the document's request as it stands; a conflict is fine where the thing exists already."""
        method = route.partition(" ")[0]
        example = EXAMPLES.get(f"{route} request 0")
        try:
            answer = await who.ask(method, _path(route, *values), example)
            status, document = answer.status, answer.json
        except RequestRefused as error:
            status, document = error.status, str(error)
        found = [] if status in statuses else [f"status {status}: {document}"]
        self._note(route, found)
        if example is not None:
            self._note(f"{route} request 0", found)
        return document

    def _note(self, row: str, found: list[str]) -> None:
        self.findings.add(anonymous(row), found)


def _most_said(signals: list[dict[str, Any]]) -> list[str]:
    """Return the ids of the signals with most comments."""
    ordered = sorted(signals, key=lambda each: each["comment_count"], reverse=True)
    return [each["id"] for each in ordered[:_MOST_SAID]]


def _path(route: str, *values: object) -> str:
    path = route.partition(" ")[2]
    for each in values:
        path = path.replace("{}", quote(str(each), safe="%-"), 1)
    return path
