"""Guard the calls to a market-data provider: in the background, bounded in number, time and weight.

This module knows no queries or answers: the adapter gives it the coroutine that asks and stores.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Final

from actors.lens.market._breaker import VENUE, Breaker
from actors.lens.market._budget import Budget
from actors.lens.market._cache import Cell
from actors.lens.market._http import CallFailed
from config import metrics
from config.tasks import cancel, spawn

Ask = Callable[[], Awaitable[None]]

_COIN_QUERIES: Final = 4  # the book and three intervals
_FIRST_SHARE: Final = 0.95
_REFRESH_SHARE: Final = 0.75
_STATES: Final = {"closed": 0, "half_open": 1, "open": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """The limits that an adapter sets for itself and its provider.

    `patience_seconds`: how long a signal waits where an older answer is at hand. `max_calls`: about coins, in flight at
    once, a quarter for each query, so that a stuck query takes no slot of another; a stuck coin holds four at most, and
    less and less of the time. `weight_per_minute`: this process's part of what the provider allows an address.
    """

    timeout_seconds: float = 10.0
    patience_seconds: float = 1.0
    max_calls: int = 64
    weight_per_minute: int = 1200


class CallGuard:
    """Begin calls, except while the provider is down or the minute's budget is spent.

    `probes` query the whole venue and store the answer, the cheapest first. The circuit breaker uses them in turn:
    where one query alone is failing, another one finds the venue up again. `witness` is `VENUE` where signals ask
    something of the whole venue, None where all that they ask is about single instruments (`Breaker`).
    """

    def __init__(
        self,
        name: str,
        limits: CallLimits,
        probes: Mapping[str, Ask],
        *,
        witness: str | None = VENUE,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._limits = limits
        self._probes = probes
        self._now = now
        turns = max(1, limits.max_calls // _COIN_QUERIES)
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(turns))
        self._breaker = Breaker(witness=witness, now=now)
        self._budget = Budget(limits.weight_per_minute, now=now)
        self._tasks: set[asyncio.Task[None]] = set()  # one a query at most, and a venue has only so many coins
        self._show_state()

    def begin(self, cell: Cell, query: str, subject: str, weight: int, ask: Ask) -> bool:
        """Begin a call that fills the cell; return False if none may be made now, and then the cell has the reason.

        `subject` is what the query is about: a coin, or `VENUE` for the one that represents all of it.
        """
        refusal = self._breaker.refusal
        if refusal is not None:
            cell.failure = refusal
            return False
        has_older = self._now() < cell.keep_until
        # Every signal needs the mids; then come coins without any answer yet; a refresh can wait a little, and so can a
        # query that failed before, lest a bad coin spend the budget of a healthy one.
        share = 1.0 if query == "mid" else _REFRESH_SHARE if has_older or cell.failures else _FIRST_SHARE
        if not self._budget.take(weight, share):
            if not has_older:
                cell.failure = CallFailed("RATE_LIMITED", f"{self._name}: the requests of this minute are used up")
            return False
        cell.failure = None
        cell.call = self._spawn(self._fill(cell, query, subject, ask), f"{self._name}: {query} {subject}")
        return True

    async def close(self) -> None:
        """Cancel the calls in flight."""
        await cancel(*self._tasks)

    async def _fill(self, cell: Cell, query: str, subject: str, ask: Ask) -> None:
        try:
            await self._call(query, ask)
        except CallFailed as failure:
            cell.fail(failure, self._now())
            if self._breaker.failed(subject, failure):
                self._spawn(self._recover(), f"{self._name}: recovery")
        except Exception as error:
            # A bug of ours, which must not look like a venue without data, nor be repeated for every signal.
            cell.fail(
                CallFailed("PROVIDER_ERROR", f"{self._name}: the call failed ({type(error).__name__})"), self._now()
            )
            raise
        else:
            self._breaker.succeeded()
        finally:
            cell.call = None

    async def _call(self, query: str, ask: Ask) -> None:
        try:
            # A query for all coins takes no slot but its own: stuck coins may hold all of theirs.
            async with asyncio.timeout(self._limits.timeout_seconds), self._slots[query]:
                if (refusal := self._breaker.refusal) is not None:  # it opened while this call waited for its slot
                    raise refusal
                await _measured(query, ask)
        except TimeoutError as error:
            raise CallFailed("TIMEOUT", f"{self._name} timeout") from error

    async def _recover(self) -> None:
        """Probe after each pause until there is an answer, so that no signal has to."""
        for query, ask_probe in itertools.cycle(self._probes.items()):
            self._show_state()
            await asyncio.sleep(self._breaker.pause_seconds)
            self._breaker.probing()
            self._show_state()
            failure = None
            try:
                async with asyncio.timeout(self._limits.timeout_seconds):  # no slot: stuck calls may hold them all
                    await _measured(query, ask_probe)
            except TimeoutError:
                failure = CallFailed("TIMEOUT", f"{self._name} timeout")
            except CallFailed as error:
                failure = error
            self._breaker.probed(failure)
            if self._breaker.state == "closed":
                break
        self._show_state()

    def _show_state(self) -> None:
        metrics.MARKET_BREAKER.labels(self._name).set(_STATES[self._breaker.state])

    def _spawn(self, coroutine: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        task = spawn(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _measured(query: str, ask: Ask) -> None:
    result = "timeout"  # kept when no exception of its own ends it
    started = time.perf_counter()
    try:
        await ask()
        result = "success"
    except CallFailed as failure:
        result = failure.reason.lower()
        raise
    finally:
        metrics.MARKET_CALLS.labels(query, result).inc()
        metrics.MARKET_CALL_SECONDS.labels(query).observe(time.perf_counter() - started)
