"""Examples of every request and response, as the documents show them, for the OpenAPI document and for fuzzers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson

from config.documents import Loaded
from schemas._symbols import describe_assets

EXAMPLES: Mapping[str, Loaded] = {
    "Assets": describe_assets(),
    **{
        name: example
        for file in sorted(Path(__file__).parent.glob("*.json"))
        for name, example in orjson.loads(file.read_bytes()).items()
    },
}
"""By the schema's name in the OpenAPI document (`schemas._fields.component_name`)."""
