"""`/metrics` over several processes, living and dead: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.metrics import HTTP_REQUESTS
from server._metrics import _collect, bury_the_dead, collect_metrics

WORK = """
from prometheus_client import Counter, Gauge, Histogram
Counter("jobs_total", "Jobs.", ("kind",)).labels("a").inc({amount})
Histogram("job_seconds", "Seconds.", buckets=(1, 2)).observe(1.5)
Gauge("depth", "Depth.", multiprocess_mode="livesum").set(7)
"""


@pytest.fixture(autouse=True)
def shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the supervisor sets; this process's own metrics were made before, so they stay its own."""
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
    bury_the_dead(tmp_path)
    assert len(list(tmp_path.glob(f"*_{os.getpid()}.db"))) == 3
    assert samples(tmp_path)["depth"] == 7


async def test_without_a_shared_folder_this_process_speaks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR")
    HTTP_REQUESTS.labels("GET", "/x", "200").inc()
    text, media_type = await collect_metrics()
    assert b'tradestream_http_requests_total{method="GET",route="/x",status="200"}' in text
    assert media_type.startswith("text/plain")
