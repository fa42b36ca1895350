"""`/metrics` over several processes, living and dead: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from config.metrics import GATHER_SECONDS, HTTP_REQUEST_SECONDS, HTTP_REQUESTS, GatheredRequests, http_requests
from server._metrics import _collect, collect_metrics, fold_ended_processes

WORK = """
from prometheus_client import Counter, Gauge, Histogram
Counter("jobs_total", "Jobs.", ("kind",)).labels("a").inc({amount})
Histogram("job_seconds", "Seconds.", buckets=(1, 2)).observe(1.5)
Gauge("depth", "Depth.", multiprocess_mode="livesum").set(7)
"""


@pytest.fixture(autouse=True)
def shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the variables that the supervisor sets; this process's own metrics exist already and are not shared."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))


def work(amount: int) -> None:
    """A process that counts and ends."""
    subprocess.run([sys.executable, "-c", WORK.format(amount=amount)], check=True)


def samples(folder: Path) -> dict[str, float]:
    lines = [line for line in _collect(folder).decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_the_counts_of_ended_processes_stay_and_their_gauges_go(tmp_path: Path) -> None:
    work(2)
    work(3)
    for _ in range(2):  # the second time there is nothing left to fold
        found = samples(tmp_path)
        assert found['jobs_total{kind="a"}'] == 5
        assert found['job_seconds_bucket{le="2.0"}'] == 2
        assert found["job_seconds_count"] == 2
        assert found["job_seconds_sum"] == 3
        assert "depth" not in found
    assert {path.name for path in tmp_path.glob("*.db")} == {"counter_ended.db", "histogram_ended.db"}
    work(10)
    assert samples(tmp_path)['jobs_total{kind="a"}'] == 15


def test_the_files_of_living_processes_are_left_alone(tmp_path: Path) -> None:
    work(2)
    for path in list(tmp_path.glob("*.db")):
        kind = path.stem.rpartition("_")[0]
        path.rename(tmp_path / f"{kind}_{os.getpid()}.db")
    fold_ended_processes(tmp_path)
    assert len(list(tmp_path.glob(f"*_{os.getpid()}.db"))) == 3
    assert samples(tmp_path)["depth"] == 7


async def test_metrics_without_a_shared_folder_are_of_this_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")
    HTTP_REQUESTS.labels("GET", "/x", "200").inc()
    text, media_type = await collect_metrics()
    assert b'tradestream_http_requests_total{method="GET",route="/x",status="200"}' in text
    assert media_type.startswith("text/plain")


def counted(route: str, status: int = 200) -> dict[str, float]:
    """Return the count of a route in this process's metrics."""
    labels = {"method": "GET", "route": route, "status": str(status)}
    names = ["requests_total", "request_seconds_count", "request_seconds_sum"]
    found = {name: REGISTRY.get_sample_value(f"tradestream_http_{name}", labels) for name in names}
    for bound in ("0.0025", "0.25", "+Inf"):
        name = "tradestream_http_request_seconds_bucket"
        found[bound] = REGISTRY.get_sample_value(name, labels | {"le": bound})
    return {name: value for name, value in found.items() if value is not None}


async def test_requests_are_counted_together_as_they_would_be_one_by_one() -> None:
    gathered, times = GatheredRequests(), [0.0025, 0.002, 0.25, 0.2501, 70.0]
    for status in (200, 404):
        for seconds in times:
            gathered.add("GET", "/together", status, seconds)
            HTTP_REQUESTS.labels("GET", "/single", str(status)).inc()
            HTTP_REQUEST_SECONDS.labels("GET", "/single", str(status)).observe(seconds)
    assert counted("/together") == {}
    gathered.write()
    gathered.write()  # there is nothing left
    for status in (200, 404):
        assert counted("/together", status) == pytest.approx(counted("/single", status))
        assert counted("/together", status)["requests_total"] == len(times)


async def test_requests_are_counted_by_themselves_in_a_moment() -> None:
    for number in (1, 2):
        http_requests.add("GET", "/soon", 200, 0.1)
        began = time.monotonic()
        while counted("/soon").get("requests_total", 0) < number:
            assert time.monotonic() - began < GATHER_SECONDS + 5
            await asyncio.sleep(0.01)


async def test_a_loop_that_has_ended_keeps_no_request() -> None:
    gathered = GatheredRequests()

    async def serve() -> None:
        gathered.add("GET", "/two-loops", 200, 0.1)

    await asyncio.to_thread(lambda: asyncio.run(serve()))
    await serve()
    for _ in range(500):
        if counted("/two-loops"):
            break
        await asyncio.sleep(0.01)
    assert counted("/two-loops")["requests_total"] == 2


def test_a_request_without_a_loop_is_counted_at_once() -> None:
    GatheredRequests().add("GET", "/at-once", 200, 0.1)
    assert counted("/at-once")["requests_total"] == 1


async def test_gathered_requests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("config.metrics.MOST_REQUESTS", 3)
    gathered = GatheredRequests()
    for _ in range(4):
        gathered.add("GET", "/many", 200, 0.1)
    assert counted("/many")["requests_total"] == 3


async def test_metrics_asked_for_here_count_every_answered_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")
    http_requests.add("GET", "/just-now", 200, 0.1)
    text, _ = await collect_metrics()
    assert b'tradestream_http_requests_total{method="GET",route="/just-now",status="200"} 1.0' in text
