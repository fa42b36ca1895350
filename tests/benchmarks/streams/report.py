"""The figures as a table and against their targets; `write` puts the table into the README and draws the charts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.streams.contenders import EVERY
from tests.benchmarks.streams.measures import (
    BURST_CLIENTS,
    BURST_SIGNALS,
    BYSTANDERS_MATCHING,
    RATE,
    STEADY_CLIENTS,
    Burst,
    Extent,
    Idle,
    Load,
)

REPOSITORY = Path(__file__).resolve().parents[3]
README = REPOSITORY / "README.md"
BEGIN, END = "<!-- streams: begin -->\n", "<!-- streams: end -->"
OURS, NCHAN, FASTAPI = "tradestream", "nchan", "fastapi"

PSS_KB = 8.0
HEALTH_MS = 50.0
BURST_TIMES = {NCHAN: 3, FASTAPI: 50}
FLAT = 1.5  # bound of a signal's cost with the most bystanders, as a ratio of its cost with none


@dataclass
class Results:
    """All measurements, by the servers' names."""

    extent: Extent
    idle: dict[str, Idle] = field(default_factory=dict)
    steady: dict[str, Load] = field(default_factory=dict)
    burst: dict[str, Burst] = field(default_factory=dict)
    bystanders: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Return the servers that were measured."""
        measured = {*self.idle, *self.steady, *self.burst, *self.bystanders}
        return [each.name for each in EVERY if each.name in measured]


@dataclass(frozen=True)
class Verdict:
    """A target, and whether it was met."""

    title: str
    is_met: bool
    figures: str


def judge(results: Results) -> list[Verdict]:
    """Print the targets that were met and missed; return the missed ones."""
    verdicts = list(_verdicts(results))
    for each in verdicts:
        print(f"{'met   ' if each.is_met else 'MISSED'}  {each.title}: {each.figures}")
    for name, load in results.steady.items():
        if load.faults:
            print(f"        {name}: {load.faults} times a client was sent another signal than the next")
    return [each for each in verdicts if not each.is_met]


def table(results: Results) -> str:
    """Return the figures in Markdown, one column for each server."""
    titles = {each.name: each.title for each in EVERY}
    names = results.names
    lines = [
        "| | " + " | ".join(titles[name] for name in names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for title, cell in _rows(results):
        cells = [cell(name) for name in names]
        if any(cells):
            lines.append(f"| {title} | " + " | ".join(each or "–" for each in cells) + " |")
    return "\n".join(lines) + "\n"


def write(results: Results) -> None:
    """Put the table between its comments in the README, and the charts into docs/."""
    from tests.benchmarks.streams.charts import draw

    text = README.read_text()
    before, found, rest = text.partition(BEGIN)
    _, ended, after = rest.partition(END)
    assert found, f"{README} has no {BEGIN!r}"
    assert ended, f"{README} has no {END!r}"
    README.write_text(before + BEGIN + table(results) + END + after)
    for path in draw(results, REPOSITORY / "docs"):
        print(f"{path.relative_to(REPOSITORY)} is written")


def _rows(results: Results) -> Iterator[tuple[str, Callable[[str], str]]]:
    idle, steady, burst, bystanders = results.idle, results.steady, results.burst, results.bystanders
    load = f"{STEADY_CLIENTS:,} clients × {RATE} signals/s"

    def late(name: str, share: float) -> str:
        found = steady.get(name)
        if found is None:
            return ""
        return f"{'' if found.is_kept_up else '> '}{_number(found.latency_ms(share))} ms"

    yield (
        f"CPU per delivery, {load}",
        lambda name: f"{_number(steady[name].cpu_us)} µs" if name in steady else "",
    )
    yield "… delivered of what was due", lambda name: _share(steady[name]) if name in steady else ""
    yield "… latency, median", lambda name: late(name, 0.5)
    yield "… latency, p99", lambda name: late(name, 0.99)
    yield (
        f"Deliveries a second, {BURST_SIGNALS} signals at once to {BURST_CLIENTS} clients",
        lambda name: f"{_number(burst[name].per_second)}" if name in burst else "",
    )
    yield (
        "Memory per silent connection",
        lambda name: _memory(idle[name]) if name in idle else "",
    )
    yield (
        "`/health` p99 with those open",
        lambda name: f"{_number(idle[name].health_p99_ms)} ms" if name in idle else "",
    )
    yield (
        "… while a signal a second goes to all",
        lambda name: f"{_number(idle[name].busy_health_p99_ms)} ms" if name in idle else "",
    )
    for index, number in enumerate(results.extent.bystanders):
        yield (
            f"CPU per signal, {BYSTANDERS_MATCHING} clients want it, {number:,} do not",
            lambda name, at=index: f"{_number(bystanders[name][at][1])} µs" if name in bystanders else "",
        )


def _verdicts(results: Results) -> Iterator[Verdict]:
    if OURS in results.steady and NCHAN in results.steady:
        ours, nchan = results.steady[OURS], results.steady[NCHAN]
        yield Verdict(
            "CPU per delivery at most nchan's",
            ours.is_kept_up and ours.cpu_us <= nchan.cpu_us,
            f"{ours.cpu_us:.2f} µs, {nchan.cpu_us:.2f} µs",
        )
        late = ours.latency_ms(0.99), nchan.latency_ms(0.99)
        yield Verdict("p99 latency at most nchan's", late[0] <= late[1], f"{late[0]:.1f} ms, {late[1]:.1f} ms")
    for name, times in BURST_TIMES.items():
        if OURS in results.burst and name in results.burst:
            rates = results.burst[OURS].per_second, results.burst[name].per_second
            yield Verdict(
                f"a burst at least {times} times as fast as {name}'s",
                rates[0] >= times * rates[1],
                f"{rates[0]:,.0f}/s, {rates[1]:,.0f}/s: {rates[0] / rates[1]:.1f} times",
            )
    if OURS in results.idle:
        found = results.idle[OURS]
        most = max(found.kb_per_connection, found.most_kb_per_connection)
        yield Verdict(f"at most {PSS_KB} KB per silent connection", most <= PSS_KB, f"{most:.1f} KB")
        yield Verdict(
            f"/health p99 below {HEALTH_MS} ms with {found.most_clients:,} connections",
            max(found.health_p99_ms, found.busy_health_p99_ms) < HEALTH_MS,
            f"{found.health_p99_ms:.1f} ms silent, {found.busy_health_p99_ms:.1f} ms with signals to all",
        )
    if OURS in results.bystanders:
        costs = [cost for _, cost in results.bystanders[OURS]]
        yield Verdict(
            "a signal costs the same however many do not match",
            costs[-1] <= FLAT * costs[0],
            ", ".join(f"{number:,}: {cost:.0f} µs" for number, cost in results.bystanders[OURS]),
        )


def _memory(found: Idle) -> str:
    few = f"{_number(found.kb_per_connection)} KB at {found.clients:,}"
    if found.most_clients == found.clients:
        return few  # the number that it was asked to hold
    return f"{few}; {_number(found.most_kb_per_connection)} KB at {found.most_clients:,}"


def _share(load: Load) -> str:
    return "all" if load.is_kept_up else f"{load.delivered / load.expected:.0%}"


def _number(value: float) -> str:
    # Two or three digits that mean something.
    if value >= 1000:
        return f"{round(value, 2 - len(str(int(value)))):,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
