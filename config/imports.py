"""Import a package without the optional packages that it would load, which nothing here uses."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Make imports of these modules fail inside the block, as if they were not installed, unless they are loaded."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None there means: not to be found
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
