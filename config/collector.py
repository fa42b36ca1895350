"""Python's garbage collector, tuned for a server: what a process has loaded at its start stays for its whole life."""

from __future__ import annotations

import gc

YOUNG_OBJECTS = 20_000
"""New containers between two looks at the young ones. With the default of 700 a batch of a hundred signals is looked
through some twenty times while it is still in use; nearly all of it is freed by reference counts anyway."""


def settle() -> None:
    """Leave alone what there is now, some hundred thousand objects: call it once, when all has been loaded."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
