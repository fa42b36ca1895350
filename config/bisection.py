"""Find the items at fault in a batch that fails as a whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


async def bisect_failures(
    items: Sequence[Item],
    attempt: Callable[[Sequence[Item]], Awaitable[object]],
    *,
    passing: tuple[type[Exception], ...] = (),
) -> list[tuple[Item, Exception]]:
    """Attempt all items together and, if that fails, its halves; return the items that fail alone, with their errors.

    An attempt either takes effect for all of its items or fails. Errors of the types in `passing` are no item's fault:
    the first one is raised, and the items that were attempted before it stay done.
    """
    if not items:
        return []
    try:
        await attempt(items)
    except passing:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets it
        if len(items) == 1:
            return [(items[0], error)]
        middle = len(items) // 2
        return [
            *await bisect_failures(items[:middle], attempt, passing=passing),
            *await bisect_failures(items[middle:], attempt, passing=passing),
        ]
    return []
