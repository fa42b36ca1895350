"""Walk through the document, section by section: post real signals, and read their results."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from config.ids import uuid7
from tools.walk_lens._client import BASE, Answer, Findings, Socket
from tools.walk_lens._compare import differences
from tools.walk_lens._dead_letters import NEEDS_OWN_WORLD, DeadLetters
from tools.walk_lens._world import World

OUTSIDE = "203.0.113.9"
NEEDS_FORWARDING = "the server must believe our X-Forwarded-For (TRUSTED_PROXIES)"
HEARTBEAT_SECONDS = 45.0  # the server pings every 30 s


async def walk(world: World, *, heartbeat: bool = True) -> Findings:
    """Walk every row once; without `heartbeat`, skip the half minute until the server's own ping."""
    return await Walk(world, heartbeat=heartbeat).run()


class Walk(DeadLetters):
    """One walk. Steps are independent: a fault in one is reported, and the next one runs."""

    def __init__(self, world: World, *, heartbeat: bool) -> None:
        super().__init__(world)
        self._heartbeat = heartbeat

    async def run(self) -> Findings:
        """Run all steps in order: the last ones leave the server broken, if it is the walk's own."""
        idle = await self.client.socket()  # receives the server's ping while the rest is walked
        steps: tuple[Callable[[], Awaitable[None]], ...] = (
            self.dead_letters, self.health, self.methods, self.submission, self.socket, self.events, self.decisions,
            self.security, lambda: self.heartbeat(idle), self.rate_limit, self.internal_error, self.unavailable,
        )  # fmt: skip
        for step in steps:
            self.client.move()
            try:
                await step()
            except Exception:  # noqa: BLE001 - reported, and its other rows count as not walked
                self.findings.troubles.append(traceback.format_exc())
        idle.connection.close()
        return self.findings

    # --- the sections

    async def health(self) -> None:
        self.example_of("GET /health", 200, await self.client.get("/health"))
        self.example_of("GET /ready", 200, await self.client.get("/ready"))
        metrics = await self.client.get("/metrics")
        found = metrics.expected(200)
        if "# TYPE tradestream_" not in metrics.text or "text/plain" not in metrics.headers.get("Content-Type", ""):
            found.append("no Prometheus text")
        if 'tradestream_postgres_pool_connections{owner="gateway",state="in_use"}' not in metrics.text:
            found.append("no use of the gateway's pool")
        self.findings.add(f"GET {BASE}/metrics", found)

    async def methods(self) -> None:
        for row in self.document.rows:
            method, _, path = row.partition(" ")
            if row == self.document.rows[row] or path == f"{BASE}/ws/stream":
                answer = await self.client.ask("TRACE", path.removeprefix(BASE).replace("{}", str(uuid7())))
                found = answer.problem(405, "METHOD_NOT_ALLOWED")
                if not found and method not in answer.headers.get("Allow", ""):
                    found.append(f"Allow: {answer.headers.get('Allow')}")
                self.findings.add(row, found)

    async def submission(self) -> None:
        key = str(uuid7())
        first = await self.client.post("/signals", self.example, X_Idempotency_Key=key)
        self.example_of("POST /signals", 201, first)
        self.findings.add(f"POST {BASE}/signals request 0", first.expected(201))
        again = await self.client.post("/signals", self.example, X_Idempotency_Key=key)
        other = await self.client.post("/signals", {**self.example, "size": 0.2}, X_Idempotency_Key=key)
        found = again.expected(201) or self.same("event_id", first.json, again.json)
        if again.headers.get("Idempotent-Replayed") != "true":
            found.append("no Idempotent-Replayed")
        self.findings.add(
            f"POST {BASE}/signals header X-Idempotency-Key", found, other.problem(422, "IDEMPOTENCY_MISMATCH")
        )
        for content_type in ("text/plain", ""):
            answer = await self.client.ask("POST", "/signals", self.example, headers={"Content-Type": content_type})
            row = f"POST {BASE}/signals header Content-Type"
            self.findings.add(row, answer.problem(415, "UNSUPPORTED_MEDIA_TYPE"))
        wrong = await self.client.post("/signals", {**self.example, "entry_price": 0})
        self.example_of("POST /signals", 400, wrong, what="problem")
        if not self.findings.of(f"POST {BASE}/signals response 400"):
            self.findings.add("error code VALIDATION_ERROR", wrong.problem(400, "VALIDATION_ERROR", "entry_price"))

    async def socket(self) -> None:
        socket = await self.client.socket()
        try:
            await self.converse(socket)
        finally:
            socket.connection.close()

    async def converse(self, socket: Socket) -> None:
        subscribe = self.message("Subscribe")
        if self.own is None:  # one of the models that run there
            event_id = await self.submit()
            await self.client.until(f"/events/{event_id}/status", "status", "PUBLISHED")
            [decision, *_] = (await self.client.get(f"/events/{event_id}")).json["decisions"]
            subscribe = {**subscribe, "filters": {**subscribe["filters"], "model": decision["model"]}}
        await socket.say(subscribe)
        said = await socket.hear("subscribed")
        self.findings.add("message: Subscribe", self.same("filters", subscribe, said))
        event = await self.submit()
        heard = await socket.hear("decision")
        while heard["event_id"] != event:
            heard = await socket.hear("decision")
        row = "message: Decision (server → client)"
        self.findings.add(row, differences(self.document.rows[row], heard))
        self.findings.add(row, [] if heard["model"] == subscribe["filters"]["model"] else ["of another model"])
        await self.unsubscribe(socket)
        invalid = {"action": "subscribe", "filters": {"model": "invalid_model"}}
        await socket.say(invalid)
        self.message_of("Error (server → client)", await socket.hear("error"))
        await socket.say(self.document.rows["message: Heartbeat ping"])
        self.message_of("Heartbeat pong", await socket.hear("pong"))

    async def unsubscribe(self, socket: Socket) -> None:
        await socket.say(self.message("Unsubscribe"))
        await socket.hear("unsubscribed")
        event = await self.submit()
        await self.client.until(f"/events/{event}/status", "status", "PUBLISHED")
        await socket.say({"type": "ping"})
        following = await socket.connection.read_message()
        self.findings.add("message: Unsubscribe", [] if "pong" in str(following) else [f"still sent: {following!r}"])

    async def events(self) -> None:
        event_id = await self.submit()
        status = await self.client.until(f"/events/{event_id}/status", "status", "PUBLISHED", "FAILED")
        row = f"GET {BASE}/events/{{}}/status response 200"
        self.findings.add(row, differences(self.document.rows[row], status))
        self.findings.add(row, self.same("status", {"status": "PUBLISHED"}, status))
        one = await self.client.get(f"/events/{event_id}")
        self.example_of("GET /events/{}", 200, one, what="event")
        self.findings.add(f"GET {BASE}/events/{{}} response 200", self.story(one.json))
        unknown = await self.client.get(f"/events/{uuid7()}")
        self.example_of("GET /events/{}", 404, unknown, what="problem")
        self.findings.add("error code NOT_FOUND", unknown.problem(404, "NOT_FOUND"))
        for path in ("/events/x", "/decisions/x", f"/decisions/{uuid7()}", "/dlq/x", f"/dlq/{uuid7()}"):
            self.findings.add("error code NOT_FOUND", (await self.client.get(path)).problem(404, "NOT_FOUND"))
        self.example_of("GET /events", 200, await self.client.get("/events", source=self.example["source"]))
        [item] = [each for each in (await self.client.get("/events")).json["items"] if each["event_id"] == event_id]
        await self.parameters("/events", item)

    def story(self, event: dict[str, Any]) -> list[str]:
        """Compare the example's own values, but for ids and times; only in the walk's own world."""
        names = ("event_type", "symbol", "signal_direction", "entry_price", "size", "liquidation_price", "source")
        example = self.document.example("GET /events/{}", "response", 200)
        found = [text for name in names for text in self.same(name, example, event)]
        if self.own:
            steps = [each["status"] for each in example["timeline"]]
            found += self.same("steps", {"steps": steps}, {"steps": [each["status"] for each in event["timeline"]]})
            by_model = sorted(event["decisions"], key=lambda each: str(each["model"]))
            found += self.same("decisions", example, {"decisions": by_model})
        times = [each["timestamp"] for each in event["timeline"]]
        return found + ([] if times == sorted(times) else ["timeline: not in order"])

    async def decisions(self) -> None:
        event_id = await self.submit()
        await self.client.until(f"/events/{event_id}/status", "status", "PUBLISHED")
        page = await self.client.get("/decisions", symbol=self.example["symbol"])
        self.example_of("GET /decisions", 200, page)
        ours = [each for each in page.json["items"] if each["event_id"] == event_id]
        item = min(ours, key=lambda each: str(each["model"]))
        one = await self.client.get(f"/decisions/{item['id']}")
        self.example_of("GET /decisions/{}", 200, one)
        found = [text for name in item for text in self.same(name, item, one.json)]
        if self.own:  # its models say what the document's said
            example = self.document.example("GET /decisions/{}", "response", 200)
            names = set(example) - {"id", "event_id", "evaluated_at", "model_meta"}
            found += [text for name in sorted(names) for text in self.same(name, example, one.json)]
            meta = ("model_name", "model_version", "status", "tokens_used")
            found += [each for name in meta for each in self.same(name, example["model_meta"], one.json["model_meta"])]
        self.findings.add(f"GET {BASE}/decisions/{{}} response 200", found)
        await self.parameters("/decisions", item)

    async def security(self) -> None:
        no_keys, refused, open_to_all = (row for row in self.document.rows if row.startswith("security: "))
        self.findings.add(no_keys, (await self.client.get("/events", limit=1)).expected(200))
        if self.own is None:
            for row in (refused, open_to_all, f"POST {BASE}/signals response 403", "error code FORBIDDEN"):
                self.findings.skip(row, NEEDS_FORWARDING)
            return
        for row in self.document.rows:
            method, _, path = row.partition(" ")
            if row != self.document.rows[row] and path != f"{BASE}/ws/stream":
                continue
            below = path.removeprefix(BASE).replace("{}", str(uuid7()))
            body = self.example if method == "POST" else None
            answer = await self.client.ask(method, below, body, address=OUTSIDE)
            if below in {"/health", "/ready"}:
                self.findings.add(open_to_all, answer.expected(200))
                continue
            self.findings.add(refused, answer.problem(403, "FORBIDDEN"))
            if below == "/signals":
                self.example_of("POST /signals", 403, answer, what="problem")
                self.findings.add("error code FORBIDDEN", answer.problem(403, "FORBIDDEN"))

    async def heartbeat(self, idle: Socket) -> None:
        row = "message: Heartbeat ping"
        if not self._heartbeat:
            self.findings.skip(row, "not waited for")
            return
        self.message_of("Heartbeat ping", await idle.hear("ping", seconds=HEARTBEAT_SECONDS))

    async def rate_limit(self) -> None:
        for _ in range(125):
            # Refused for its body, which is after it has been counted: nothing is stored.
            answer = await self.client.ask("POST", "/signals", {}, patient=False)
            if answer.status == 429:
                break
        self.example_of("POST /signals", 429, answer, what="problem")
        found = answer.problem(429, "RATE_LIMITED")
        if not found and answer.headers.get("Retry-After") != str(answer.json["error"]["retry_after"]):
            found.append("Retry-After is not retry_after")
        for name in ("Limit", "Remaining", "Reset"):
            if f"X-RateLimit-{name}" not in answer.headers:
                found.append(f"X-RateLimit-{name}: missing")
        self.findings.add("error code RATE_LIMITED", found)

    async def internal_error(self) -> None:
        row = "error code INTERNAL_ERROR"
        if self.own is None:
            self.findings.skip(row, NEEDS_OWN_WORLD)
            return
        async with self.own.without_table("lens_events"):
            answer = await self.client.get("/events")
        self.findings.add(row, answer.problem(500, "INTERNAL_ERROR"))
        if "lens_events" in answer.text:
            self.findings.add(row, ["the text tells of the inside"])

    async def unavailable(self) -> None:
        rows = (f"GET {BASE}/ready response 503", "error code SERVICE_UNAVAILABLE")
        if self.own is None:
            for row in rows:
                self.findings.skip(row, NEEDS_OWN_WORLD)
            return
        await self.own.lose_postgres()
        answer = await self.client.post("/signals", self.example)
        self.findings.add(rows[1], answer.problem(503, "SERVICE_UNAVAILABLE"))
        self.findings.add(rows[1], (await self.client.get("/events")).problem(503, "SERVICE_UNAVAILABLE"))
        self.example_of("GET /ready", 503, await self._not_ready())

    async def _not_ready(self) -> Answer:
        # Its answer may be half a second old.
        deadline = time.monotonic() + 2
        while True:
            answer = await self.client.get("/ready")
            if answer.status != 200 or time.monotonic() > deadline:
                return answer
            await asyncio.sleep(0.05)
