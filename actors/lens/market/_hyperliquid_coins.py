"""Map a signal's symbol to Hyperliquid's name for the coin."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from schemas._instruments import crypto_pair

# All its markets are quoted in dollars. A pair in anything else (ETH/BTC) is another market, with other prices.
_DOLLARS: Final = "(?:USDC|USDT|USD)"
_SEPARATED: Final = re.compile(rf"([^/]+?)(?:[/_-]{_DOLLARS})?(?:[/_-]PERP)?", re.IGNORECASE)
_RUN_TOGETHER: Final = re.compile(rf"([^/_-]+){_DOLLARS}", re.IGNORECASE)


class Coins:
    """The names that the venue knows. Symbols are matched ignoring case: ours are upper case, and `kPEPE` is not."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._names)

    def learn(self, names: Iterable[str]) -> None:
        """Adopt the venue's names. `@107` is the index of a spot pair, which no symbol can be."""
        self._names = {name.upper(): name for name in names if not name.startswith("@")}

    def find(self, symbol: str) -> str | None:
        """Return the coin of `BTC`, `BTC/USD`, `BTC-PERP`, `BTCUSDT`, or a spot pair (`PURR/USDC`); None if unknown."""
        separated, run_together = _SEPARATED.fullmatch(symbol), _RUN_TOGETHER.fullmatch(symbol)
        pair = crypto_pair(symbol)  # also one of another exchange's spelling, as `BINANCE:BTCUSDT`
        base = None if pair is None or pair.quote is not None else pair.base
        candidates = (
            separated[1] if separated else None,
            symbol,
            run_together[1] if run_together else None,
            base,
            f"K{base}" if base else None,  # a thousand of them
        )
        return next((name for each in candidates if each and (name := self._names.get(each.upper()))), None)

    @staticmethod
    def power_of(coin: str, symbol: str) -> int:
        """Return the power of ten of the units in the coin that a symbol was found as: `PEPE` is sold as `kPEPE`."""
        pair = crypto_pair(symbol)
        return 3 if pair is not None and coin == f"k{pair.base}" else 0

    @staticmethod
    def guess(symbol: str) -> str | None:
        """Return the coin that a symbol most likely means, while the venue's names are not known yet."""
        separated = _SEPARATED.fullmatch(symbol)
        return separated[1].upper() if separated else None
