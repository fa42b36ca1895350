"""Draws the figures: small PNGs for the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from tests.benchmarks.streams.contenders import EVERY
from tests.benchmarks.streams.measures import BURST_CLIENTS, BURST_SIGNALS, BYSTANDERS_MATCHING, RATE, STEADY_CLIENTS

if TYPE_CHECKING:
    from tests.benchmarks.streams.report import Results

mpl.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"tradestream": "#1b7f5c", "nchan": "#7a8794", "better-sse": "#a9b4bf", "fastapi": "#cfd6dc"}
STYLE = {
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.edgecolor": "#8a939b",
    "axes.grid": False,
}
LOAD = f"{STEADY_CLIENTS:,} clients × {RATE} signals/s"


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw the figures; return the files that were written: none unless everything was measured."""
    if not (results.idle and results.steady and results.burst and results.bystanders):
        return []
    with plt.rc_context(STYLE):
        drawn = {"streams.png": _compared(results), "streams-scale.png": _scale(results)}
    paths = []
    for name, figure in drawn.items():
        figure.savefig(folder / name, dpi=150, metadata={"Software": None})
        plt.close(figure)
        paths.append(folder / name)
    return paths


def _compared(results: Results) -> Any:
    figure, axes = plt.subplots(2, 2, figsize=(12.4, 5.4), layout="constrained")
    steady, burst, idle = results.steady, results.burst, results.idle
    _bars(
        axes[0][0],
        f"CPU per delivery, µs\n{LOAD}; less is better",
        {name: load.cpu_us for name, load in steady.items()},
        {
            name: "" if load.is_kept_up else f"delivers {load.delivered / load.expected:.0%}"
            for name, load in steady.items()
        },
    )
    _bars(
        axes[0][1],
        f"Deliveries a second\n{BURST_SIGNALS} signals at once to {BURST_CLIENTS} clients; more is better",
        {name: found.per_second for name, found in burst.items()},
    )
    _bars(
        axes[1][0],
        f"Latency from publishing to reading, p99, ms (log scale)\n{LOAD}; less is better",
        {name: load.latency_ms(0.99) for name, load in steady.items()},
        {name: "" if load.is_kept_up else "and growing" for name, load in steady.items()},
        is_log=True,
    )
    _bars(
        axes[1][1],
        f"Memory per silent connection, KB (PSS)\n{results.extent.memory_clients:,} connections; less is better",
        {name: found.kb_per_connection for name, found in idle.items()},
    )
    return figure


def _bars(
    axes: Any, title: str, values: dict[str, float], notes: dict[str, str] | None = None, *, is_log: bool = False
) -> None:
    titles = {each.name: each.title for each in EVERY}
    names = [each.name for each in EVERY if each.name in values]
    bars = axes.barh([titles[name] for name in names], [values[name] for name in names], height=0.62)
    for bar, name in zip(bars, names, strict=True):
        bar.set_color(COLOURS[name])
    labels = [f"{_number(values[name])}  {(notes or {}).get(name, '')}".rstrip() for name in names]
    axes.bar_label(bars, labels, padding=4)
    axes.set_title(title)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    if is_log:
        axes.set_xscale("log")
        axes.set_xlim(right=max(values.values()) * 30)
    else:
        axes.set_xlim(0, max(values.values()) * 1.35)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _scale(results: Results) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(12.4, 3.6), layout="constrained")
    titles = {each.name: each.title for each in EVERY}
    for name in (each.name for each in EVERY if each.name in results.steady):
        quantiles = results.steady[name].quantiles
        shares = [100 * index / (len(quantiles) - 1) for index in range(len(quantiles))]
        left.plot(
            quantiles, shares, color=COLOURS[name], label=titles[name], linewidth=2 if name == "tradestream" else 1.4
        )
    left.set_xscale("log")
    left.set_title(f"Deliveries that have arrived, %\n{LOAD}")
    left.set_xlabel("ms after publishing (log scale)")
    left.legend(frameon=False, loc="lower right", fontsize=8)
    left.axhline(99, color="#b0b8bf", linewidth=0.8, linestyle=":")
    for name, points in results.bystanders.items():
        _line(right, points, COLOURS[name])
    right.set_title(
        f"CPU per signal, µs\n{BYSTANDERS_MATCHING} clients want it, each other one has a filter of its own"
    )
    right.set_xlabel("clients that do not want it")
    return figure


def _line(axes: Any, points: Sequence[tuple[int, float]], colour: str) -> None:
    numbers, costs = zip(*points, strict=True)
    axes.plot(numbers, costs, marker="o", color=colour)
    for number, cost in points:
        axes.annotate(f"{cost:.0f}", (number, cost), textcoords="offset points", xytext=(0, 7), ha="center")
    axes.set_ylim(0, max(costs) * 1.5)
    axes.set_xlim(-max(numbers) * 0.05, max(numbers) * 1.08)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
