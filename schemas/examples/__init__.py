"""Examples of every request and response, as the documents show them, for the OpenAPI document and for fuzzers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas._fields import Schema
from schemas.examples import accounts, community, lens, signals

EXAMPLES: Mapping[type[Schema], dict[str, Any]] = {
    **accounts.EXAMPLES,
    **signals.EXAMPLES,
    **community.EXAMPLES,
    **lens.EXAMPLES,
}
