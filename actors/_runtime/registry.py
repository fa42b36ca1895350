"""List the kinds of actor, and give a process one ActorRef to each actor, by kind and shard."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import ray
from ray.exceptions import ActorDiedError, RayError

from actors._runtime.placement import ActorProcess, ActorSpec, place
from actors._runtime.ref import ActorRef, MailboxLimits
from actors._runtime.runtime import NAMESPACE, Stats, remote_runtime
from actors._runtime.transport import BytesTransport, Transport, Undelivered
from actors.ingest import INGEST
from actors.leaderboards.messages import LEADERBOARDS
from actors.ledger.messages import LEDGER
from actors.lens.messages import ENRICH, EVALUATE, INTAKE, PUBLISH
from actors.providers.messages import PROVIDERS
from actors.users.messages import USERS
from config.ids import key_hash
from config.masking import redact
from config.settings import Settings
from schemas.errors import ActorUnavailable, AppError

log = logging.getLogger(__name__)

T = TypeVar("T")

_Handle = Any  # Ray's handle of an actor: its methods are those of ActorRuntime, each with a `remote`

# Every kind of actor in the system; those of the pipeline have LENS_SHARDS shards.
SPECS: tuple[ActorSpec, ...] = (
    # A commit costs its process some 3 ms whatever it holds: under load twice as many signals share one.
    ActorSpec(
        INTAKE, "actors.lens.intake:Intake", limits=MailboxLimits(pause_seconds_each=0.0005, pause_seconds=0.015)
    ),
    ActorSpec(ENRICH, "actors.lens.enrich:Enrich"),
    ActorSpec(EVALUATE, "actors.lens.evaluate:Evaluate"),
    ActorSpec(PUBLISH, "actors.lens.publish:Publish"),
    ActorSpec(INGEST, "actors.ingest.ingest:Ingest"),
    ActorSpec(LEDGER, "actors.ledger.ledger:LogOwner"),
    ActorSpec(LEADERBOARDS, "actors.leaderboards.leaderboards:Leaderboards"),
    ActorSpec(USERS, "actors.users.users:Users", shards=2),
    ActorSpec(PROVIDERS, "actors.providers.providers:Providers", shards=2),
)

LANE = frozenset({INTAKE, ENRICH, EVALUATE, PUBLISH})

JOIN_SECONDS = 30.0
CREATE_SECONDS = 60.0  # a process takes 1–3 s of a core to start, and they all start at once
PROBE_SECONDS = 1.0


def specs_of(settings: Settings) -> tuple[ActorSpec, ...]:
    """Return every kind of actor, with the numbers of shards that the settings want."""
    return tuple(replace(spec, shards=settings.lens_shards) if spec.kind in LANE else spec for spec in SPECS)


def shard_of(key: str, shards: int) -> int:
    """Return the shard that owns `key`: stable across processes, machines and versions of Python."""
    return key_hash(key) % shards


async def connect(settings: Settings) -> None:
    """Join the running Ray cluster. Raises ActorUnavailable when that takes longer than 30 s.

    The process's signal handlers stay as they are. On the main thread only.
    """
    if settings.ray_address is None:
        raise ActorUnavailable("RAY_ADDRESS is not set: a gateway joins a Ray that runs already")
    # It warns that it leaves SIGTERM alone in this thread, which is intended.
    logging.getLogger("ray._private.worker").addFilter(lambda record: "SIGTERM" not in record.getMessage())
    join = partial(ray.init, settings.ray_address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
    try:
        with _signal_handlers_kept():
            async with asyncio.timeout(JOIN_SECONDS):
                await _in_thread(join)  # takes a second, or blocks for ever
    except (TimeoutError, ConnectionError, RayError, RuntimeError) as error:
        raise ActorUnavailable(
            f"Ray at {settings.ray_address} cannot be joined: {str(error) or 'no answer'}"
        ) from error


async def disconnect() -> None:
    """Leave Ray; the actors stay, and so do the signal handlers. On the main thread only."""
    with _signal_handlers_kept():
        await _in_thread(ray.shutdown)


@contextmanager
def _signal_handlers_kept() -> Iterator[None]:
    """Restore Python's signal handlers: Ray's own, below them, prints a stack trace at SIGTERM and aborts 3 s later.

    Leaving Ray removes the handler altogether. Setting Python's again restores it in either case.
    """
    handlers = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)


class RayProcess:
    """Reach a process of actors; look it up, or create it, when no living one is known."""

    def __init__(self, process: ActorProcess, processes: tuple[ActorProcess, ...], settings: Settings) -> None:
        self.actor_names = process.actor_names
        self._runtime = remote_runtime(process)
        self._arguments = (process, settings, partial(ActorRegistry, settings, (), processes))
        self._handle: _Handle | None = None
        self._search: asyncio.Future[_Handle] | None = None

    async def send(self, actor: str, batch: bytes) -> bytes:
        """Send a batch to an actor and return the encoded replies. Raises Undelivered."""
        try:
            answer: bytes = await (await self._living()).deliver.remote(actor, batch)
        except (RayError, ValueError) as error:
            self._note(error)
            raise Undelivered(_first_line(error)) from None
        return answer

    async def ping(self) -> dict[str, Stats]:
        """Return the stats of its actors. Raises RayError, ValueError."""
        try:
            stats: dict[str, Stats] = await (await self._living()).ping.remote()
        except (RayError, ValueError) as error:
            self._note(error)
            raise
        return stats

    async def drain(self, seconds: float) -> bool:
        """Let the actors finish, and end the process for good. Raises RayError, ValueError."""
        handle, self._handle = await self._living(), None
        try:
            finished: bool = await handle.drain.remote(seconds)
        finally:
            await _in_thread(partial(ray.kill, handle))
        return finished

    async def _living(self) -> _Handle:
        if self._handle is None:
            if self._search is None or self._search.done():
                self._search = _in_thread(self._create)
            # Shared and shielded: a caller that gives up waiting must not lead to another one, each in its own thread.
            self._handle = await asyncio.shield(self._search)
        return self._handle

    def _create(self) -> _Handle:
        if not ray.is_initialized():  # otherwise Ray would start a cluster of its own
            raise ValueError("this process has not joined Ray")
        return self._runtime.remote(*self._arguments)

    def _note(self, error: Exception) -> None:
        if isinstance(error, ActorDiedError):  # final: an actor that is always restarted dies with its node, too
            self._handle = None


class ActorRegistry:
    """Give one process (a gateway, or a process of actors) its references to all actors. Belongs to one event loop.

    In a process of actors `processes` is the placement that its creator decided, and `neighbours` are its own actors.
    """

    def __init__(
        self,
        settings: Settings,
        specs: Sequence[ActorSpec] = (),
        processes: tuple[ActorProcess, ...] = (),
        neighbours: Mapping[str, Transport] | None = None,
    ) -> None:
        placed = processes or place(specs or specs_of(settings), settings.actor_placement)
        self._neighbours = neighbours or {}
        self._specs = {spec.kind: spec for process in placed for spec, _ in process.actors}
        self._processes = [RayProcess(each, placed, settings) for each in placed]
        self._by_actor = {name: process for process in self._processes for name in process.actor_names}
        self._refs: dict[str, ActorRef] = {}

    async def start(self) -> None:
        """Create the actors that do not exist, and wait until all have started.

        Raises ActorUnavailable that names those which did not start within 60 s, and why.
        """
        deadline = asyncio.get_running_loop().time() + CREATE_SECONDS
        waiting = dict.fromkeys(self._by_actor, "no answer")
        while waiting:
            for name, answer in (await self._ping(tuple(waiting))).items():
                if isinstance(answer, AppError):
                    waiting[name] = answer.message
                elif answer["ready"]:
                    del waiting[name]
                else:
                    waiting[name] = answer["trouble"] or "starting"
            if waiting and asyncio.get_running_loop().time() > deadline:
                reasons = "; ".join(f"{name} ({reason})" for name, reason in waiting.items())
                raise ActorUnavailable(f"Actors that did not start within {CREATE_SECONDS:.0f} s: {reasons}")
            if waiting:
                await asyncio.sleep(0.05)

    def ref(self, kind: str, key: str) -> ActorRef:
        """Return the ActorRef to the owner of `key` in `kind`, the same one every time. KeyError: no such kind."""
        shards = self._specs[kind].shards
        return self.ref_to(kind, shard_of(key, shards) if shards > 1 else 0)

    def ref_to(self, kind: str, shard: int) -> ActorRef:
        """Return the ActorRef to a shard of `kind`, the same one every time."""
        spec = self._specs[kind]
        name = spec.name_of(shard)
        ref = self._refs.get(name)
        if ref is None:
            deliver = partial(self._by_actor[name].send, name)
            transport = self._neighbours.get(name) or BytesTransport(deliver, spec.limits.batch_bytes)
            ref = self._refs[name] = ActorRef(name, transport, spec.limits)
        return ref

    async def probe(self) -> Mapping[str, Stats | AppError]:
        """Return each actor's stats, or the error if none come within a second; `ready` is false while it starts."""
        return await self._ping(tuple(self._by_actor), seconds=PROBE_SECONDS)

    async def close(self) -> None:
        """Drain and close the ActorRefs. The actors stay."""
        await asyncio.gather(*(ref.close() for ref in self._refs.values()))

    async def stop_actors(self, seconds: float = 10.0) -> bool:
        """Let every actor finish and end it for good; return whether all did. The next start creates them."""
        finished = await asyncio.gather(
            *(process.drain(seconds) for process in self._processes), return_exceptions=True
        )
        return all(each is True for each in finished)

    async def _ping(self, names: Sequence[str], seconds: float = CREATE_SECONDS) -> dict[str, Stats | AppError]:
        async def one(process: RayProcess) -> Mapping[str, Stats | AppError]:
            try:
                async with asyncio.timeout(seconds):
                    return await process.ping()
            except TimeoutError:
                return {name: ActorUnavailable(f"{name} does not answer") for name in process.actor_names}
            except (RayError, ValueError) as error:
                return {name: ActorUnavailable(f"{name}: {_first_line(error)}") for name in process.actor_names}

        asked = dict.fromkeys(self._by_actor[name] for name in names)
        found: dict[str, Stats | AppError] = {}
        for answers in await asyncio.gather(*map(one, asked)):
            found |= answers
        return {name: found[name] for name in names}


def _in_thread(call: Callable[[], T]) -> asyncio.Future[T]:
    """Run a blocking call of Ray in a daemon thread: some block for ever, and must not keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def resolve(resolution: Callable[[], None]) -> None:
        if not future.done():
            resolution()

    def run() -> None:
        try:
            result = call()
        except Exception as error:  # noqa: BLE001 - passed on to the awaiting caller
            resolution: Callable[[], None] = partial(future.set_exception, error)
        else:
            resolution = partial(future.set_result, result)
        with suppress(RuntimeError):  # the loop may be closed by now
            loop.call_soon_threadsafe(resolve, resolution)

    threading.Thread(target=run, name="ray", daemon=True).start()
    return future


def _first_line(error: BaseException) -> str:
    """Return the first line of a Ray error. The rest of its text holds addresses, process ids and tracebacks."""
    return f"{type(error).__name__}: {redact(str(error)).strip().partition(chr(10))[0][:200]}"
