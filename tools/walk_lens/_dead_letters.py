"""The dead-letter queue's part of the walk: two signals fail, one is resolved by hand, the other retried."""

from __future__ import annotations

from typing import Any

from tools.walk_lens._client import BASE
from tools.walk_lens._steps import Steps
from tools.walk_lens._world import BROKEN_SYMBOL

NEEDS_OWN_WORLD = "a neighbour of the server must be broken (walk without a URL)"


class DeadLetters(Steps):
    """The steps about dead letters; they go first, since the market's answers are reused for a while."""

    async def dead_letters(self) -> None:
        if self.own is None:
            await self.dead_letters_found()
            return
        self.own.break_market()
        first, second = await self.submit(symbol=BROKEN_SYMBOL), await self.submit(symbol=BROKEN_SYMBOL)
        for event_id in (first, second):
            dead = await self.client.until(f"/events/{event_id}/status", "status", "FAILED")
            self.findings.add(
                f"GET {BASE}/dlq response 200", self.same("current_stage", {"current_stage": "DEAD_LETTER"}, dead)
            )
        page = await self.client.get("/dlq", stage="enrich")
        self.example_of("GET /dlq", 200, page)
        entries = {each["event_id"]: each for each in page.json["items"]}
        await self.resolve(entries[second]["id"])
        await self.retry(first, entries[first])
        [item] = (await self.client.get("/dlq", event_id=first)).json["items"]
        await self.parameters("/dlq", item)

    async def dead_letters_found(self) -> None:
        """Read the queue and change nothing, on a server that is not the walk's own."""
        page = await self.client.get("/dlq")
        for row in self.document.rows:
            if "/dlq/{}/" in row and row != self.document.rows[row]:
                self.findings.skip(row, NEEDS_OWN_WORLD)
        if page.json["items"]:
            self.example_of("GET /dlq", 200, page)
            [item] = page.json["items"][:1]
            self.example_of("GET /dlq/{}", 200, await self.client.get(f"/dlq/{item['id']}"), what="dead letter")
            await self.parameters("/dlq", item)
            return
        for row in self.document.rows:
            if row.startswith((f"GET {BASE}/dlq ", f"GET {BASE}/dlq/{{}} ")):
                self.findings.skip(row, "no dead letter here, and " + NEEDS_OWN_WORLD)

    async def resolve(self, dlq_id: str) -> None:
        body = self.document.example("POST /dlq/{}/resolve", "request")
        answer = await self.client.post(f"/dlq/{dlq_id}/resolve", body)
        self.findings.add(f"POST {BASE}/dlq/{{}}/resolve request 0", answer.expected(200))
        self.example_of("POST /dlq/{}/resolve", 200, answer)
        stored = (await self.client.get(f"/dlq/{dlq_id}")).json
        row = f"POST {BASE}/dlq/{{}}/resolve response 200"
        self.findings.add(
            row, self.same("resolution_note", body, stored), self.same("resolved_at", answer.json, stored)
        )
        twice = await self.client.post(f"/dlq/{dlq_id}/resolve", body)
        self.findings.add(row, twice.problem(400, "VALIDATION_ERROR"))
        retried = await self.client.ask("POST", f"/dlq/{dlq_id}/retry")
        self.example_of("POST /dlq/{}/retry", 400, retried, what="problem")

    async def retry(self, event_id: str, entry: dict[str, Any]) -> None:
        """Retry once while the market is still broken, then until the event has been published."""
        assert self.own is not None
        path, row = f"/dlq/{entry['id']}", f"POST {BASE}/dlq/{{}}/retry response 200"
        answer = await self.client.ask("POST", f"{path}/retry")
        self.example_of("POST /dlq/{}/retry", 200, answer)
        self.findings.add(row, self.same("retry_count", {"retry_count": entry["retry_count"] + 1}, answer.json))
        await self.client.until(f"/events/{event_id}/status", "status", "FAILED")
        again = await self.client.get(path)
        self.example_of("GET /dlq/{}", 200, again, what="dead letter")
        listed = [text for name in ("id", "event_id", "stage") for text in self.same(name, entry, again.json)]
        payload = [text for name in self.example for text in self.payload(name, again.json["payload"])]
        unresolved = self.same("resolved_at", {"resolved_at": None}, again.json)
        self.findings.add(f"GET {BASE}/dlq/{{}} response 200", listed, payload, unresolved)
        self.own.mend_market()
        for _ in range(10):  # a question that failed is held back for a while
            await self.client.ask("POST", f"{path}/retry")
            status = await self.client.until(f"/events/{event_id}/status", "status", "FAILED", "PUBLISHED")
            if status["status"] == "PUBLISHED":
                break
        resolved = (await self.client.get(path)).json
        self.findings.add(row, self.same("status", {"status": "PUBLISHED"}, status))
        self.findings.add(row, self.same("resolution_note", {"resolution_note": "Resolved by retry"}, resolved))

    def payload(self, name: str, payload: dict[str, Any]) -> list[str]:
        """Return a field of the raw signal, as it was posted."""
        expected = {**self.example, "symbol": BROKEN_SYMBOL}
        return [] if name == "ts_utc" else self.same(name, expected, payload)
