"""Read the histograms of `/metrics`, and compare two readings."""

from __future__ import annotations

import re
from collections import Counter
from urllib.request import urlopen

_SAMPLE = re.compile(r"^(tradestream_\w+)_(sum|count)\{([^}]*)\} (\S+)$", re.MULTILINE)
Figures = Counter[tuple[str, str, str]]


def scrape(url: str) -> Figures:
    """Return sums and counts by (metric, labels, `sum` or `count`)."""
    with urlopen(f"{url}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return Counter({(name, labels, part): float(value) for name, part, labels, value in _SAMPLE.findall(text)})


def means(after: Figures, before: Figures, metric: str) -> dict[str, tuple[int, float]]:
    """Return each series' observations between two readings, and their mean, by its labels."""
    found = {}
    for (name, labels, part), value in after.items():
        count = value - before[name, labels, "count"]
        if name == metric and part == "count" and count:
            total = after[name, labels, "sum"] - before[name, labels, "sum"]
            found[labels] = (int(count), total / count)
    return found
