"""Send each signal to every client whose filter it matches: clients grouped by filter, bytes shared, in time slices.

The feed's order is a sequence of offsets, and every client has one. A LIVE client is at the fan-out's own offset and
gets each batch as it comes. Any other is BEHIND: it is replaying, or its socket is full. It is sent what it misses from
the ring (or from Postgres) whenever its socket takes more, and is LIVE again when it has caught up. So a slow client's
queue is nothing but its offset, and a replay and a slow reader are the same thing.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Iterable, Iterator

from config.backoff import jittered
from config.metrics import STREAM_DELIVERIES, STREAM_ENDED, STREAM_LAG_SECONDS
from config.tasks import spawn
from handlers.streams.client import ClientState, StreamClient
from handlers.streams.history import CHUNK_BYTES, CHUNK_SIGNALS, History
from handlers.streams.ring import EncodedSignal, Payload, Ring
from schemas.errors import DatabaseUnavailable
from schemas.stream import SignalFilter

log = logging.getLogger(__name__)

SLICE_SECONDS = 0.005  # how long the event loop is kept from other tasks
# After a batch the fan-out rests for this multiple of the batch's time: signals that arrive meanwhile leave in one send
# per client, and a send costs more than all else. A single signal is not delayed; with few clients none is.
REST = 1.5
LEAST_REST_SECONDS, MOST_REST_SECONDS = 0.001, 0.02
SLICE_STEPS = 64  # how often the clock is read: this many sends take about 0.3 ms
NOWHERE = sys.maxsize  # the offset of a client that has left: past every batch
FRAME_BYTES = 64  # bytes that numbering and framing add to a signal, about
FAREWELL_SECONDS = 5.0  # how long an ending client may take to receive the reason
DATABASE_SECONDS = 10.0  # how long a replay waits for Postgres before its client is told to retry later


class Group:
    """The clients with one filter, which is evaluated once per signal for all of them."""

    __slots__ = ("behind", "filter", "live", "matches")

    def __init__(self, wanted: SignalFilter) -> None:
        self.filter = wanted
        self.matches = wanted.predicate()
        self.live: dict[StreamClient, None] = {}
        self.behind: dict[StreamClient, None] = {}


class Fanout:
    """All clients of this process. `place` is the feed's offset up to which LIVE clients have been served."""

    def __init__(
        self, ring: Ring, history: History, *, buffer_bytes: int, on_gone: Callable[[StreamClient], None]
    ) -> None:
        self.place = 0
        self._ring = ring
        self._history = history
        self._buffer_bytes = buffer_bytes
        self._chunk_bytes = min(CHUNK_BYTES, buffer_bytes)
        self._on_gone = on_gone
        self._groups: dict[SignalFilter, Group] = {}
        # Filters that name providers are looked up by the signal's provider; only the others are evaluated for each.
        self._by_provider: dict[str, dict[Group, None]] = {}
        self._general: dict[Group, None] = {}
        self._ending: dict[StreamClient, float] = {}
        self._wake = asyncio.Event()
        self._woken_at = 0.0
        self._moved = asyncio.Event()  # another one for each move
        self._all_ended = asyncio.Event()
        self._all_ended.set()

    # Called by the feed

    def start(self, place: int) -> None:
        """Begin at an offset: signals before it are history."""
        self.place = place

    def wake(self) -> None:
        """Wake the loop: the ring has grown, or `between_batches` has something to do."""
        if not self._wake.is_set():
            self._woken_at = asyncio.get_running_loop().time()
            self._wake.set()

    async def run(self, between_batches: Callable[[], None]) -> None:
        """Serve until cancelled. `between_batches` is called when all LIVE clients are at `place`."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            began = asyncio.get_running_loop().time()
            try:
                between_batches()
                await self._serve_next()
            except Exception:
                # Which clients have been sent the batch is unknown; LIVE ones resume from what they have received.
                log.exception("the fan-out failed; its clients are sent away to resume")
                self._drop_live()
            if self.place < self._ring.last:
                self._wake.set()
            else:
                rest_seconds = min(REST * (asyncio.get_running_loop().time() - began), MOST_REST_SECONDS)
                if rest_seconds > LEAST_REST_SECONDS:
                    await asyncio.sleep(rest_seconds)

    async def reach(self, place: int) -> None:
        """Wait until the fan-out's offset is not before this one."""
        while self.place < place:
            await self._moved.wait()

    async def all_ended(self) -> None:
        """Wait until no client still has to be sent why its stream ends."""
        await self._all_ended.wait()

    def add(self, client: StreamClient, wanted: SignalFilter) -> None:
        """Add a client at its `cursor`, which is not past `place`."""
        group = self._groups.get(wanted)
        if group is None:
            group = self._groups[wanted] = Group(wanted)
            self._index(group)
        client.group = group
        client.fanout = self
        group.behind[client] = None

    def begin(self, client: StreamClient, name: bytes, payload: Payload) -> None:
        """Send an event to a client that is HELD or new, and resume its delivery from there."""
        client.state = ClientState.BEHIND
        if client.send_event(name, payload):
            self.advance(client)
        elif client.state is ClientState.BEHIND:
            self._wait_for(client)

    def end(self, client: StreamClient, code: str, retry_after: int | None = None) -> None:
        """Send a client the reason why its stream ends; close it once that is received or FAREWELL_SECONDS are over."""
        if client.state in {ClientState.ENDING, ClientState.CLOSED}:
            return
        self._leave(client)
        client.state = ClientState.ENDING
        STREAM_ENDED.labels(client.kind, code).inc()
        if client.end(code, retry_after):
            self._close(client)
        elif client.state is ClientState.ENDING:
            self._ending[client] = asyncio.get_running_loop().time() + FAREWELL_SECONDS
            self._all_ended.clear()

    def drop(self, client: StreamClient) -> None:
        """Close a client without a reason."""
        if client.state is ClientState.CLOSED:
            return
        if client.state is not ClientState.ENDING:
            self._leave(client)
            STREAM_ENDED.labels(client.kind, "GONE").inc()
        self._close(client)

    def sweep(self, now: float) -> None:
        """Close the clients that have not received their reason in time."""
        for client in [client for client, until in self._ending.items() if now >= until]:
            self.drop(client)

    def hold(self, client: StreamClient) -> None:
        """Take a LIVE client out of delivery until `begin`; not while a batch is under way."""
        del client.group.live[client]
        client.group.behind[client] = None
        client.state = ClientState.HELD
        client.cursor = self.place

    def advance(self, client: StreamClient) -> None:
        """Send a client that is behind its next chunk; LIVE when nothing is left."""
        if client.state in {ClientState.ENDING, ClientState.CLOSED} or client.is_fetching:
            return
        client.state = ClientState.BEHIND
        if client.cursor >= self.place:
            self._join(client)
        elif self._ring.covers(client.cursor):
            chunk = self._ring.after(client.cursor, upto=self.place, count=CHUNK_SIGNALS, size_bytes=self._chunk_bytes)
            self._send_chunk(client, chunk)
        else:
            client.is_fetching = True
            spawn(self._fetch_for(client), name="stream replay")

    # Called by a client's connection

    def flushed(self, client: StreamClient) -> None:
        """Handle a full socket that has been emptied."""
        client.stalled_since = None
        if client.state is ClientState.ENDING:
            self._close(client)
        elif client.state is ClientState.BEHIND:
            self.advance(client)

    def lost(self, client: StreamClient) -> None:
        """Handle a lost connection."""
        self.drop(client)

    # Delivery

    async def _serve_next(self) -> None:
        if self.place >= self._ring.last:
            return
        woken_at = self._woken_at
        try:
            batch = await self._history.after(self.place, upto=self._ring.last, size_bytes=self._chunk_bytes)
        except DatabaseUnavailable:  # only when this process has fallen behind its own ring
            await asyncio.sleep(jittered(0.75))
            return
        await self._dispatch(batch)
        STREAM_LAG_SECONDS.observe(asyncio.get_running_loop().time() - woken_at)

    def _drop_live(self) -> None:
        for group in list(self._groups.values()):
            for client in list(group.live):
                self.drop(client)

    async def _dispatch(self, batch: list[EncodedSignal]) -> None:
        # The offset moves first: a client that joins while this waits for its next slice is past the batch already.
        self.place = place = batch[-1].feed_seq
        self._moved.set()
        self._moved = asyncio.Event()
        loop = asyncio.get_running_loop()
        slice_ends = loop.time() + SLICE_SECONDS
        delivered = steps = 0
        for group, matched in self._match(batch):
            self._count_waiting(group, matched)
            for client in (*group.live, None) if matched else (None,):  # None: looking at a group is a step too
                if client is not None and client.cursor < place:
                    delivered += len(matched)
                    if not client.deliver(matched):
                        self._fall_behind(client)
                steps += 1
                if steps % SLICE_STEPS == 0 and loop.time() > slice_ends:
                    await asyncio.sleep(0)
                    slice_ends = loop.time() + SLICE_SECONDS
        STREAM_DELIVERIES.inc(delivered)

    def _match(self, batch: list[EncodedSignal]) -> Iterator[tuple[Group, list[EncodedSignal]]]:
        # Each group and its part of the batch, evaluated as the caller comes to it.
        for group in list(self._general):
            yield group, [signal for signal in batch if group.matches(signal)]
        named: dict[Group, list[EncodedSignal]] = {}
        for signal in batch:
            for group in self._by_provider.get(signal.provider_id, ()):
                if group.matches(signal):
                    named.setdefault(group, []).append(signal)
        yield from named.items()

    def _count_waiting(self, group: Group, matched: list[EncodedSignal]) -> None:
        if not group.behind or not matched:
            return
        size = _size(matched)
        for client in list(group.behind):
            # Signals that a replay has not reached yet wait in Postgres, not here.
            if not client.is_replaying:
                client.waiting_bytes += size
                self._check_slow(client)

    def _fall_behind(self, client: StreamClient) -> None:
        if client.state is not ClientState.LIVE:  # its connection is gone
            return
        del client.group.live[client]
        client.group.behind[client] = None
        client.state = ClientState.BEHIND
        client.cursor = self.place
        client.waiting_bytes = 0
        self._wait_for(client)

    def _send_chunk(self, client: StreamClient, chunk: list[EncodedSignal]) -> None:
        client.cursor = chunk[-1].feed_seq if chunk else self.place
        matches = client.group.matches
        wanted = [signal for signal in chunk if matches(signal)]
        if wanted:
            client.waiting_bytes = max(0, client.waiting_bytes - _size(wanted))
            STREAM_DELIVERIES.inc(len(wanted))
            if not client.deliver(wanted):
                if client.state is ClientState.BEHIND:
                    self._wait_for(client)
                return
        # One chunk a turn: a client that takes all at once must not keep the loop from the others.
        asyncio.get_running_loop().call_soon(self.advance, client)

    def _wait_for(self, client: StreamClient) -> None:
        client.stalled_since = asyncio.get_running_loop().time()
        self._check_slow(client)

    def _check_slow(self, client: StreamClient) -> None:
        if client.waiting_bytes + client.pending_bytes > self._buffer_bytes:
            self.end(client, "SLOW_CONSUMER", 1)

    async def _fetch_for(self, client: StreamClient) -> None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + DATABASE_SECONDS
        while client.state is ClientState.BEHIND:
            try:
                chunk = await self._history.after(client.cursor, upto=self.place, size_bytes=self._chunk_bytes)
            except DatabaseUnavailable:
                if loop.time() > give_up_at:
                    self.end(client, "SERVICE_UNAVAILABLE", 2)
                    return
                await asyncio.sleep(jittered(0.5))
                continue
            except Exception:
                self.drop(client)
                raise
            client.is_fetching = False
            if client.state is ClientState.BEHIND:
                self._send_chunk(client, chunk)
            return

    def _join(self, client: StreamClient) -> None:
        del client.group.behind[client]
        client.group.live[client] = None
        client.state = ClientState.LIVE
        client.waiting_bytes = 0
        client.is_replaying = False

    # Groups

    def _index(self, group: Group) -> None:
        if group.filter.provider_ids is None:
            self._general[group] = None
        for provider_id in group.filter.provider_ids or ():
            self._by_provider.setdefault(provider_id, {})[group] = None

    def _leave(self, client: StreamClient) -> None:
        group = client.group
        group.live.pop(client, None)
        group.behind.pop(client, None)
        if not group.live and not group.behind:
            del self._groups[group.filter]
            self._general.pop(group, None)
            for provider_id in group.filter.provider_ids or ():
                groups = self._by_provider[provider_id]
                del groups[group]
                if not groups:
                    del self._by_provider[provider_id]
        self._on_gone(client)
        client.cursor = NOWHERE

    def _close(self, client: StreamClient) -> None:
        client.state = ClientState.CLOSED
        client.close()
        if self._ending.pop(client, None) is not None and not self._ending:
            self._all_ended.set()


def _size(signals: Iterable[EncodedSignal]) -> int:
    return sum(len(signal.event) + FRAME_BYTES for signal in signals)
