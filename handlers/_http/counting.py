"""Count requests towards their limits: by address, and by user where the route says so."""

from __future__ import annotations

from handlers._http.access import Caller
from handlers._http.limits import STANDARD, LimitGate, LimitVerdict
from handlers._http.negotiation import NegotiatingHandler
from handlers._http.routes import Route
from schemas.errors import RateLimited


class CountedHandler(NegotiatingHandler):
    """A handler whose requests count. `_verdict` is what the limits said of this one."""

    caller: Caller
    _verdict: LimitVerdict | None = None

    def is_counted(self) -> bool:
        """Hook: return whether a request that has not been refused counts towards the limits."""
        return True

    def limit_name(self, route: Route) -> str:
        """Hook: return the name of the limit that counts the request for its address."""
        return route.name

    def limit_gate(self) -> str | None:
        """Hook: return a key of Redis without which the request is counted by the route's own limit all the same."""
        return None

    async def count(self, route: Route, user: str | None) -> None:
        """Count the request, for its address and for `user`. Raises RateLimited."""
        limits, services = self.gateway.limits, self.gateway.services
        name = self.limit_name(route)
        rule = limits.get(name, STANDARD)
        user_rule = None if route.user_limit is None else limits.get(route.user_limit_name)
        counted_user = None if user is None or user_rule is None else (user_rule, user)
        if user_rule is not None and counted_user is None and rule.limit == 0:
            rule = STANDARD  # an unidentified caller is counted by address: guessing tokens is limited here, too
        if services is None or (rule.limit == 0 and counted_user is None):
            return
        gate = None
        if name is not route.name and (key := self.limit_gate()) is not None:
            gate = LimitGate(key, limits.get(route.name, STANDARD), route.name)
        self._verdict = await services.limiter.check(rule, name, self.caller.counted_address, counted_user, gate)
        if self._verdict is not None:
            self.announce(self._verdict)
            if not self._verdict.allowed:
                raise RateLimited(retry_after=self._verdict.reset_seconds)

    def announce(self, verdict: LimitVerdict) -> None:
        """Set the headers with the state of the limit, if it is to be announced."""
        if verdict.announced:
            self.set_header("X-RateLimit-Limit", str(verdict.limit))
            self.set_header("X-RateLimit-Remaining", str(verdict.remaining))
            self.set_header("X-RateLimit-Reset", str(verdict.reset_seconds))
