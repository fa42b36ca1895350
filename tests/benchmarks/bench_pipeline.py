"""Measure the whole pipeline, from POST to PUBLISHED, over a whole server: its rate, cost, and memory and disk use.

    python -m tests.benchmarks.bench_pipeline [--quick] [--rate 1000] [--seconds 30] [--placement spread] [--check]

A `run.py serve` of its own with fsync on, simulated market data, the technical model and no rate limits; the load
generator is a process of its own on the same machine, and its CPU is counted apart. Four parts:

- rest: from the start to ready, and the memory of all processes when nothing happens;
- calm: 50 signals a second; POST, and end to end: from when a request was due until a gateway could have its signal
  from Redis, which is after the commit; CPU of all processes for each signal;
- steady: `--rate` signals a second for `--seconds`; CPU by kind of process, where the time goes, what is left behind;
- full: as many as 64 connections can send in `--seconds`, each its next when the last one is answered: what the server
  sustains, since of a rate that is offered no more than that rate can come out.

Each part says how much of the processors the host took away meanwhile: on a virtual machine that others share, a tail
latency or a throughput of a minute in which it took a tenth says little about the server.

`--check` exits with 1 if a figure misses its TARGETS.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import psutil
import uvloop

from config.tasks import cancel, spawn
from db._redis import create_redis
from schemas.feed import FEED_CHANNEL, decode_batch
from tests.benchmarks import footprint
from tests.benchmarks.footprint import Footprint, difference
from tests.benchmarks.http_load import Load, Report, Running, post, run
from tests.benchmarks.scrape import Figures, means, scrape
from tests.support.services import Server, wait_until

TARGETS = {
    "published per second": (1000.0, "at least"),
    "most events under way": (4000.0, "at most"),
    "CPU seconds per 1000": (2.0, "at most"),
    "POST p99 ms at 50/s": (50.0, "at most"),
    "end to end p50 ms at 50/s": (50.0, "at most"),
    "end to end p99 ms at 50/s": (250.0, "at most"),
}
CALM_RATE = 50.0
CONNECTIONS = 64
SYMBOLS = ("BTC", "ETH", "SOL", "DOGE", "AVAX", "LINK", "ARB", "SUI", "XRP", "ADA")
SOURCES = 20
BODIES = 2_000
SETTINGS = {
    "RATE_LIMIT_ENABLED": "false",
    "MARKET_DATA": "simulated",
    "LENS_MODELS": "technical",
    "LOG_LEVEL": "INFO",
}
TIMELINE = """
WITH newest AS (
    SELECT event_id, timeline FROM lens_progress WHERE status = 'PUBLISHED' ORDER BY event_id DESC LIMIT $1
), steps AS (
    SELECT step->>'status' AS status, place,
           (step->>'timestamp')::timestamptz - lag((step->>'timestamp')::timestamptz) OVER (PARTITION BY event_id
                                                                                            ORDER BY place) AS took
    FROM newest, jsonb_array_elements(timeline) WITH ORDINALITY AS each (step, place)
)
SELECT status, percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM took) * 1000)
FROM steps WHERE took IS NOT NULL GROUP BY status ORDER BY min(place)
"""


class Bench:
    """One server under measurement."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port = int(server.settings["PORT"])
        self.figures: dict[str, float] = {}
        self._stolen = Stolen()

    async def rest(self, began: float) -> None:
        """Measure start time and memory when nothing happens."""
        ready = time.monotonic() - began
        memory = (await footprint.look(self.server)).memory
        self.figures["MiB at rest"] = sum(memory.values()) / 2**20
        print(f"rest: ready after {ready:.1f} s, {self.figures['MiB at rest']:.0f} MiB")
        print("  " + ", ".join(f"{kind} {size / 2**20:.0f}" for kind, size in sorted(memory.items())))

    async def calm(self, seconds: float) -> None:
        """Measure latency without queueing."""
        before = footprint.processes(self.server)[0]
        listener = Listener(footprint.valkey_url(self.server))
        await listener.start()
        load = Load(self.port, requests(), 16, seconds, rate=CALM_RATE, keep_bodies=True)
        self._stolen.begin()
        report = await asyncio.to_thread(run, load)
        due = {orjson.loads(body)["event_id"]: at for at, body in report.bodies}
        with suppress(TimeoutError):
            await asyncio.to_thread(wait_until, lambda: due.keys() <= listener.arrivals.keys(), 5.0)
        await listener.stop()
        cpu = difference(footprint.processes(self.server)[0], before)
        lags = sorted(listener.arrivals[each] - at for each, at in due.items() if each in listener.arrivals)
        assert len(lags) == report.answered, f"{report.answered} accepted, {len(lags)} published: {report.statuses}"
        self.figures["POST p99 ms at 50/s"] = report.latency_ms(0.99)
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            self.figures[f"end to end {name} ms at 50/s"] = lags[int(len(lags) * share)] * 1000
        print(f"calm: {len(lags)} signals at {CALM_RATE:g}/s ({self._stolen.share()})")
        print(f"  POST        p50 {report.latency_ms(0.5):6.1f}   p99 {report.latency_ms(0.99):6.1f} ms")
        print(
            "  end to end  p50 {:6.1f}   p99 {:6.1f} ms".format(*(lags[int(len(lags) * s)] * 1000 for s in (0.5, 0.99)))
        )
        self.figures["CPU ms a signal at 50/s"] = sum(cpu.values()) / len(lags) * 1000
        print(f"  CPU of all processes for one signal, ms: {self.figures['CPU ms a signal at 50/s']:.1f}; ", end="")
        print(", ".join(f"{kind} {spent / len(lags) * 1000:.1f}" for kind, spent in cpu.items() if spent > 0.05))
        await self._timeline(len(lags))

    async def steady(self, rate: float, seconds: float) -> None:
        """Measure the cost of a sustained load."""
        before, metrics = await footprint.look(self.server), scrape(self.server.url)
        flow = await self._flow(Load(self.port, requests(), CONNECTIONS, seconds, rate=rate))
        after, later = await footprint.look(self.server), scrape(self.server.url)
        cpu = difference(after.cpu, before.cpu)
        self.figures["CPU seconds per 1000"] = sum(cpu.values()) / flow.accepted * 1000
        flow.show(f"steady: {rate:g}/s offered for {seconds:g} s ({self._stolen.share()})")
        print(f"  CPU seconds per 1000 signals: {self.figures['CPU seconds per 1000']:.2f}")
        for kind, spent in cpu.items():
            if spent / flow.accepted >= 1e-5:
                print(f"    {kind:16}{spent / flow.accepted * 1000:7.3f}")
        print(f"    (load generator {flow.report.cpu_seconds / flow.accepted * 1000:.3f})")
        _show_stages(later, metrics)
        await self._timeline(flow.accepted)
        _show_growth(after, before, flow.accepted)

    async def full(self, seconds: float) -> None:
        """Measure the throughput when every connection sends as fast as it is answered."""
        flow = await self._flow(Load(self.port, requests(), CONNECTIONS, seconds))
        flow.show(f"full: {CONNECTIONS} connections for {seconds:g} s ({self._stolen.share()})")
        self.figures["published per second"] = flow.published_per_second
        self.figures["most events under way"] = flow.most_under_way

    async def _flow(self, load: Load) -> Flow:
        conn = await asyncpg.connect(footprint.postgres_url(self.server))
        self._stolen.begin()
        try:
            return await _follow(conn, load)
        finally:
            await conn.close()

    async def _timeline(self, newest: int) -> None:
        conn = await asyncpg.connect(footprint.postgres_url(self.server))
        try:
            rows = await conn.fetch(TIMELINE, newest)
        finally:
            await conn.close()
        print("  from one line of the timeline to the next, p50 / p99 ms: ", end="")
        print(", ".join(f"{row[0]} {row[1][0]:.0f} / {row[1][1]:.0f}" for row in rows))


class Stolen:
    """The share of the processors' time that the host gave to others (`steal` of /proc/stat) since `begin`."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Start to measure now."""
        self._before = psutil.cpu_times()

    def share(self) -> str:
        """Return the share in words."""
        now, before = psutil.cpu_times(), self._before
        if not hasattr(now, "steal"):
            return "what the host took is not known here"
        spent = sum(now) - sum(before)
        return f"the host took {(now.steal - before.steal) / max(spent, 1e-9):.0%} of the processors"


@dataclass
class Flow:
    """A load on its way through the pipeline; the rates are over the time of the load, from its first second on."""

    report: Report
    accepted: int
    published_per_second: float
    most_under_way: int
    drained_seconds: float

    def show(self, title: str) -> None:
        """Print it."""
        report = self.report
        print(title)
        print(f"  accepted {self.accepted / report.seconds:.0f}/s, published {self.published_per_second:.0f}/s", end="")
        print(f", under way at most {self.most_under_way}, empty {self.drained_seconds:.2f} s after the end")
        print(f"  POST        p50 {report.latency_ms(0.5):6.1f}   p99 {report.latency_ms(0.99):6.1f} ms")
        if len(report.statuses) > 1 or report.unsent:
            print(f"  answers: {dict(report.statuses)}, never sent: {report.unsent}")


async def _follow(conn: asyncpg.Connection[Any], load: Load) -> Flow:
    """Run the load; look four times a second at how far the feed has come, and how many are on the way."""
    first, samples = await _published(conn), list[tuple[float, int]]()
    running, began, most = Running(load), time.monotonic(), 0
    while not running.has_ended and time.monotonic() < began + load.seconds + 30:
        await asyncio.sleep(0.25)
        samples.append((time.monotonic(), await _published(conn)))
        most = max(most, await conn.fetchval("SELECT count(*) FROM lens_progress WHERE finished_at IS NULL"))
    report = await asyncio.to_thread(running.report)
    accepted, ended = report.succeeded(), time.monotonic()
    for _ in range(3000):
        if await _published(conn) >= first + accepted:
            break
        await asyncio.sleep(0.02)
    drained = time.monotonic()
    assert await _published(conn) == first + accepted, (
        f"{accepted} accepted, {await _published(conn) - first} published"
    )
    # Over the whole flow: from the first answer's second to when the last one was published.
    start = next(at for at, count in samples if count > first)
    rate = accepted / (drained - start + 0.25)
    return Flow(report, accepted, rate, most, drained - ended)


async def _published(conn: asyncpg.Connection[Any]) -> int:
    return int(await conn.fetchval("SELECT last_seq FROM feed_counter"))


class Listener:
    """A subscriber that receives the feed as a gateway does, and records the times."""

    def __init__(self, url: str) -> None:
        self.arrivals: dict[str, float] = {}
        self._redis = create_redis(url)
        self._channel = self._redis.pubsub()

    async def start(self) -> None:
        """Subscribe."""
        await self._channel.subscribe(FEED_CHANNEL)
        self._task = spawn(self._listen(), name="listen to the feed")

    async def stop(self) -> None:
        """Unsubscribe."""
        await cancel(self._task)
        await self._channel.aclose()  # type: ignore[no-untyped-call]
        await self._redis.aclose()

    async def _listen(self) -> None:
        async for message in self._channel.listen():
            if message["type"] == "message":
                now = time.monotonic()
                for item in decode_batch(message["data"]):
                    self.arrivals[orjson.loads(item.data)["id"]] = now


def requests(*, sources: int = SOURCES) -> list[bytes]:
    """Return requests with signals that differ in symbol, price, size and source; most of them fresh."""
    chosen = random.Random(7)  # the same load every time
    at = datetime.now(UTC).isoformat(timespec="seconds")
    made = []
    for _ in range(BODIES):
        price, direction = round(chosen.uniform(1, 60_000), 2), chosen.choice(("long", "short"))
        body = {
            "event_type": "OPEN_SIGNAL",
            "symbol": chosen.choice(SYMBOLS),
            "signal_direction": direction,
            "entry_price": price,
            "size": round(chosen.uniform(0.01, 5), 3),
            "liquidation_price": round(price * (0.8 if direction == "long" else 1.2), 2),
            "ts_utc": at.replace("+00:00", "Z"),
            "source": f"strategy_{chosen.randrange(sources)}",
        }
        made.append(post("/api/v1/signals", orjson.dumps(body)))
    return made


def _show_stages(after: Figures, before: Figures) -> None:
    print("  stages, from taking an event to its commit, mean ms: ", end="")
    stages = means(after, before, "tradestream_lens_stage_seconds")
    print(", ".join(f"{_label(labels)} {mean * 1000:.1f}" for labels, (_, mean) in stages.items()))
    print("  actor: batches, messages in one, ms of a call (as its senders see it)")
    sizes = means(after, before, "tradestream_mailbox_batch_messages")
    calls = means(after, before, "tradestream_mailbox_call_seconds")
    for labels, (count, size) in sizes.items():
        if labels in calls and _label(labels).startswith("lens/"):
            print(f"    {_label(labels):16}{count:7}{size:8.1f}{calls[labels][1] * 1000:8.1f}")


def _label(labels: str) -> str:
    return labels.partition('="')[2].rstrip('"')


def _show_growth(after: Footprint, before: Footprint, signals: int) -> None:
    print("  bytes left behind by one signal: rows + indexes")
    for table, (rows, indexes) in sorted(after.tables.items()):
        grown = rows - before.tables[table][0], indexes - before.tables[table][1]
        if sum(grown) / signals >= 1:
            print(f"    {table:20}{grown[0] / signals:8.0f} + {grown[1] / signals:.0f}")
    print(f"    write-ahead log     {(after.wal - before.wal) / signals:8.0f} (recycled)")
    print(f"    log files           {(after.logs - before.logs) / signals:8.0f} (rotated)")
    print(f"    Valkey's memory     {(after.valkey_memory - before.valkey_memory) / signals:8.1f}", end="")
    print(f" ({before.valkey_keys} keys before, {after.valkey_keys} after;", end="")
    print(f" its file {(after.valkey_file - before.valkey_file) / signals:.1f})")
    memory = ", ".join(
        f"{kind} {size / 2**20:.0f} ({(size - before.memory[kind]) / 2**20:+.0f})"
        for kind, size in sorted(after.memory.items())
    )
    print(f"  memory of the processes, MiB: {memory}")


async def measure(options: argparse.Namespace) -> int:
    """Measure all parts; return 1 with `--check` if a target is missed."""
    settings = SETTINGS | {"ACTOR_PLACEMENT": options.placement}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, Server(Path(folder) / "data", **settings) as server:
        began = time.monotonic()
        server.start()
        await asyncio.to_thread(server.wait_ready, 180.0)
        bench = Bench(server)
        await bench.rest(began)
        await asyncio.to_thread(run, Load(bench.port, requests(), 16, 3.0, rate=200.0))
        await asyncio.sleep(1.0)
        await bench.calm(5.0 if options.quick else 20.0)
        await bench.steady(options.rate, 8.0 if options.quick else options.seconds)
        await bench.full(5.0 if options.quick else options.seconds)
    return _judge(bench.figures) if options.check else 0


def _judge(figures: dict[str, float]) -> int:
    missed = 0
    for name, (bound, sense) in TARGETS.items():
        met = figures[name] >= bound if sense == "at least" else figures[name] <= bound
        missed += not met
        print(f"{'met   ' if met else 'MISSED'} {name}: {figures[name]:.2f}, {sense} {bound:g}")
    return 1 if missed else 0


def main() -> int:
    """Parse and measure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rate", type=float, default=1000.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--placement", default="together", help="ACTOR_PLACEMENT")
    return uvloop.run(measure(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
