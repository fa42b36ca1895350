"""Ask a vendor for many quotes in one call, where its limit counts calls: those that are wanted within a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol, runtime_checkable

from actors.lens.market._cache import Cell
from actors.lens.market._guard import CallGuard
from actors.lens.market._http import CallFailed
from actors.lens.market.quotes import Listing
from actors.lens.quote import VenueQuote
from schemas._vocabulary import AssetType

_GATHER_SECONDS: Final = 0.05  # the stage waits 2 s for a quote


@runtime_checkable
class BatchVendor(Protocol):
    """A vendor that answers for up to `batch` listings of one asset type in one call."""

    label: str
    weight: int
    batch: int

    async def quotes(self, listings: Sequence[Listing]) -> Mapping[Listing, VenueQuote | CallFailed | None]:
        """Return each listing's newest quote, or why it has none. Raises CallFailed where there is no answer."""


@dataclass(slots=True)
class _QuoteBatch:
    """The listings of one call, each with the cell that gets its quote; `cell` has the call itself."""

    cell: Cell = field(default_factory=Cell)
    cells: dict[Listing, Cell] = field(default_factory=dict)


class QuoteBatches:
    """Gather listings into calls. A cell's answer is fresh for `fresh_seconds`."""

    def __init__(
        self, vendor: BatchVendor, guard: CallGuard, fresh_seconds: float, monotonic: Callable[[], float]
    ) -> None:
        self._vendor = vendor
        self._guard = guard
        self._fresh_seconds = fresh_seconds
        self._monotonic = monotonic
        self._gathering: dict[AssetType, _QuoteBatch] = {}

    def join(self, cell: Cell, listing: Listing) -> None:
        """Let the next call fill the cell; the cell has the reason if none may be made now."""
        batch = self._gathering.get(listing.asset_type)
        if batch is None or len(batch.cells) >= self._vendor.batch:
            batch = _QuoteBatch()
            ask = partial(self._ask, batch, listing.asset_type)
            if not self._guard.begin(batch.cell, "quote", listing.name, self._vendor.weight, ask):
                cell.failure = batch.cell.failure
                return
            assert batch.cell.call is not None
            batch.cell.call.add_done_callback(partial(self._end, batch))
            self._gathering[listing.asset_type] = batch
        batch.cells[listing] = cell
        cell.failure, cell.call = None, batch.cell.call

    async def _ask(self, batch: _QuoteBatch, asset_type: AssetType) -> None:
        await asyncio.sleep(_GATHER_SECONDS)
        self._close(batch, asset_type)
        answers = await self._vendor.quotes(tuple(batch.cells))
        now = self._monotonic()
        for listing, cell in batch.cells.items():
            answer = answers.get(listing)
            if isinstance(answer, CallFailed):
                cell.fail(answer, now)
            else:
                seconds = self._fresh_seconds
                cell.store(answer, now, refresh=seconds, fresh=seconds, keep=seconds)

    def _close(self, batch: _QuoteBatch, asset_type: AssetType) -> None:
        if self._gathering.get(asset_type) is batch:
            del self._gathering[asset_type]

    def _end(self, batch: _QuoteBatch, _: asyncio.Task[None]) -> None:
        """Hand on why the call failed, if it did, to every cell. A call may fail before it was sent: it is closed."""
        for listing, cell in batch.cells.items():
            self._close(batch, listing.asset_type)
            cell.call = None
            if batch.cell.failure is not None:
                cell.fail(batch.cell.failure, self._monotonic())
