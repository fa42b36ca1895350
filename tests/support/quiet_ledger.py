"""The owner of the log for tests of what reads it: it appends the feed, in a market that is always shut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from actors.ledger.ledger import LogOwner
from actors.ledger.messages import LEDGER
from actors.lens.market.quotes import Bar, PricedInstrument, Resolution, VenueQuote
from config.settings import Settings
from tests.support.local_actors import LocalActors
from tests.support.users_factory import NOON


class ShutMarket:
    """A source of prices that has none: nothing is marked, and nothing ends by itself."""

    async def quote(self, instrument: PricedInstrument) -> VenueQuote | None:
        """See PriceSource."""
        return None

    async def minutes(self, instrument: PricedInstrument, since: datetime) -> Sequence[Bar]:
        """See PriceSource."""
        return ()

    async def resolution(self, instrument: PricedInstrument) -> Resolution | None:
        """See PriceSource."""
        return None

    async def close(self) -> None:
        """See PriceSource."""


def quiet_ledger() -> LogOwner:
    """Return an owner of the log for whom it is always noon, but for the feed's own times."""
    return LogOwner(ShutMarket(), lambda: NOON)


@contextmanager
def with_log_key(settings: Settings) -> Iterator[Settings]:
    """Settings with a place of their own for the log's key."""
    with TemporaryDirectory(prefix="tradestream-log-") as folder:
        yield settings.replace(data_dir=Path(folder))


async def append_feed(actors: LocalActors) -> None:
    """Append all of the feed to the log."""
    owner = actors.behaviours[LEDGER]
    assert isinstance(owner, LogOwner)
    await owner.keeper.catch_up()
