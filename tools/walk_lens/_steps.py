"""Actions of every step: post a signal, compare an answer with an example, try a list's query parameters."""

from __future__ import annotations

from typing import Any

from tools.walk_lens._client import BASE, Answer, Client, Findings
from tools.walk_lens._compare import differences
from tools.walk_lens._document import read_document
from tools.walk_lens._filters import filters_of
from tools.walk_lens._world import OwnWorld, World


class Steps:
    """A base of steps: the world, the document, and the findings so far."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.own = world if isinstance(world, OwnWorld) else None
        self.document = read_document()
        self.findings = Findings(list(self.document.rows))
        self.client = Client(world.url, forwards=self.own is not None)
        self.example: dict[str, Any] = self.document.example("POST /signals", "request")

    async def submit(self, **changes: Any) -> str:
        """Post the example with these changes; return the event's id."""
        answer = await self.client.post("/signals", {**self.example, **changes})
        assert answer.status == 201, answer.text
        return str(answer.json["event_id"])

    def example_of(self, route: str, status: int, answer: Answer, *, what: str = "") -> None:
        """Compare an answer with the route's example of that status."""
        method, _, path = route.partition(" ")
        row = f"{method} {BASE}{path} response {status}"
        found = answer.expected(status)
        self.findings.add(row, found or differences(self.document.rows[row], answer.json, what=what))

    def message(self, name: str) -> Any:
        return self.document.rows[f"message: {name}"]

    def message_of(self, name: str, heard: Any) -> None:
        self.findings.add(f"message: {name}", differences(self.message(name), heard))

    def same(self, name: str, expected: Any, actual: Any) -> list[str]:
        """Return a difference if a field has another value."""
        if actual.get(name) == expected[name]:
            return []
        return [f"{name}: {actual.get(name)!r} instead of {expected[name]!r}"]

    async def parameters(self, route: str, item: dict[str, Any]) -> None:
        """Check every line of the table of a list's parameters; `item` is one of the list's."""
        filters = filters_of(route, item)
        for name, cells in self.document.parameters(route).items():
            self.client.move()
            row = f"GET {BASE}{route} parameter {name}"
            if name in {"limit", "offset"}:
                self.findings.add(row, await self.paging(route, name, default=int(cells[2])))
                continue
            each = filters[name]
            page = (await self.client.get(route, **{name: each.good})).json
            if not page["items"] or not all(map(each.fits, page["items"])):
                self.findings.add(row, [f"{name}={each.good} lets the wrong ones through"])
            if each.nothing is not None:
                nothing = (await self.client.get(route, **{name: each.nothing})).json
                self.findings.add(row, self.same("total", {"total": 0}, nothing))
            for bad in each.bad:
                answer = await self.client.get(route, **{name: bad})
                self.findings.add(row, answer.problem(400, "VALIDATION_ERROR", name))
            self.findings.add(row)

    async def paging(self, route: str, name: str, *, default: int) -> list[str]:
        page = (await self.client.get(route)).json
        found = self.same(name, {name: default}, page)
        for bad in ("x", -1, *((0, 101) if name == "limit" else ())):
            found += (await self.client.get(route, **{name: bad})).problem(400, "VALIDATION_ERROR", name)
        if name == "limit":
            short = (await self.client.get(route, limit=1)).json
            found += self.same("items", {"items": page["items"][:1]}, short)
            return found + (await self.client.get(route, limit=100)).expected(200)
        shifted = (await self.client.get(route, offset=1, limit=1)).json
        return found + self.same("items", {"items": page["items"][1:2]}, shifted)
