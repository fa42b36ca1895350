"""The demo's people: providers with their trading styles, strategies, and followers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

from server.demo.rules import Style

DOMAIN = "demo.example.com"
PASSWORD = "tradestream-demo-2026"  # noqa: S105 - of accounts that exist in development only, printed at the end


@dataclass(frozen=True, slots=True)
class Person:
    """A person with an account. `referrer` is the name of the person who referred them."""

    name: str
    referrer: str | None = None
    is_passive: bool = False  # registered and verified, then inactive: a referral that stays pending

    @property
    def email(self) -> str:
        """Return the person's e-mail address."""
        return f"{self.name.lower().replace(' ', '.').replace('_', '-')}@{DOMAIN}"

    @property
    def avatar_url(self) -> str:
        """Return the URL of a picture drawn from the name."""
        return f"https://api.dicebear.com/9.x/shapes/svg?seed={self.name.replace(' ', '-')}"

    @property
    def timezone(self) -> str:
        """Return the person's time zone."""
        zones = ("America/New_York", "Europe/London", "Europe/Berlin", "Asia/Singapore", "Asia/Tokyo", "UTC")
        return zones[crc32(self.name.encode()) % len(zones)]


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider: profile, markets, trading style, and the likelihood of being followed."""

    person: Person
    bio: str
    method: str
    risk_level: str
    specialties: tuple[str, ...]
    markets: tuple[str, ...]
    style: Style
    charm: float
    is_newcomer: bool = False  # with too few signals to be verified

    @property
    def name(self) -> str:
        """Return the provider's name."""
        return self.person.name

    @property
    def profile(self) -> dict[str, object]:
        """Return the body of `POST /api/providers/become`."""
        handle = "".join(each for each in self.name.lower() if each.isalnum())[:15]
        return {
            "display_name": self.name,
            "bio": self.bio,
            "strategy_description": self.method,
            "risk_level": self.risk_level,
            "specialties": list(self.specialties),
            "avatar_url": self.person.avatar_url,
            "banner_url": f"https://picsum.photos/seed/{handle}/1200/300",
            "website_url": f"https://{handle}.example.com",
            "twitter_handle": handle,
        }


@dataclass(frozen=True, slots=True)
class Strategy:
    """A program that posts raw signals to Lens, and is a provider by that."""

    name: str
    markets: tuple[str, ...]
    style: Style


KING = "CryptoKing_42"
"""The name of the person whose account is shown to newcomers."""


def _provider(
    name: str, bio: str, method: str, risk: str, specialties: str, markets: str, style: Style, charm: float
) -> Provider:
    # The king is left a few referrals short of gold, so that his link can be tried by hand.
    referrer = None if name in (KING, "OptionsFlow", "MacroOracle") else KING if charm > 0.6 else "OptionsFlow"
    return Provider(
        Person(name, referrer), bio, method, risk, tuple(specialties.split()), tuple(markets.split("|")), style, charm,
        is_newcomer=charm < 0.2,
    )  # fmt: skip


PROVIDERS: Sequence[Provider] = (
    _provider(KING, "Trading since 2017. Focus on momentum strategies.",
              "I focus on RSI reversals and MACD crossovers, and I take profits early.",
              "aggressive", "crypto momentum", "ETH|SOL|BTC", Style("momentum", 0.8, 4.0, 30, 2), 0.80),
    _provider("OptionsFlow", "Reads the tape so that you need not.", "At the money, two months out, never to expiry.",
              "aggressive", "options flow", "AAPL options|GOOG options", Style("deeply_oversold", 1.2, 2.5, 12, 3),
              0.66),
    _provider("MacroOracle", "Ex-rates desk. Prices questions, not opinions.",
              "I trade probabilities that lag behind the price they are about.",
              "moderate", "predictions macro", "GOOG predictions|BTC predictions", Style("momentum", 1.5, 2.0, 24, 6),
              0.62),
    _provider("SteadyEddie", "Boring on purpose.", "Small gains, wide stops, one rule: back into the band.",
              "conservative", "forex mean-reversion", "EUR/USD|GBP/USD", Style("reversion", 0.6, 3.5, 40), 0.70),
    _provider("TrendSurferAna", "I would rather be late than wrong.", "Breakouts of twenty bars, trailing nothing.",
              "moderate", "stocks breakouts", "NVDA|TSLA|GOOG", Style("breakout", 4.0, 1.5, 48, 1), 0.55),
    _provider("DipBuyerDave", "Below the band I am in.", "Out at the first bounce.",
              "moderate", "stocks etf dips", "QQQ|SPY|GOOG", Style("reversion", 0.7, 5.0, 36), 0.58),
    _provider("QuantQuokka", "Two-bar RSI with a trend filter. Marsupial approved.", "Connors-style, by the numbers.",
              "moderate", "stocks quant", "GOOG|NVDA|QQQ", Style("deeply_oversold", 0.9, 3.0, 10), 0.64),
    _provider("LadyLeverage", "High risk, read the drawdown first.", "I chase momentum and pay for it now and then.",
              "aggressive", "crypto leverage", "SOL|ETH", Style("momentum", 3.0, 3.0, 20), 0.45),
    _provider("FXFinch", "London open, coffee, EUR/USD.", "Breakouts on the hour.",
              "moderate", "forex", "EUR/USD|GBP/USD", Style("breakout", 3.0, 1.5, 48), 0.32),
    _provider("PatientPetra", "Four trades a week is a lot.", "Slow momentum, wide targets.",
              "conservative", "etf stocks", "SPY|QQQ|GOOG", Style("momentum", 5.0, 3.0, 80, 10), 0.38),
    _provider("GammaGuru", "Long gamma, short patience.", "I buy breakouts with options, theta be damned.",
              "aggressive", "options volatility", "GOOG options", Style("breakout", 2.0, 1.0, 16, 2), 0.30),
    _provider("TheContrarian", "If it feels good, fade it.", "RSI extremes, both ways.",
              "aggressive", "stocks crypto", "TSLA|ETH", Style("deeply_oversold", 1.5, 2.0, 24), 0.28),
    _provider("NightOwlNoor", "Asia session only.", "Mean reversion while others sleep.",
              "moderate", "forex crypto", "GBP/USD|SOL", Style("reversion", 1.0, 2.0, 18), 0.24),
    _provider("PollWatcher", "Markets for everything.", "Questions near a coin's toss, exits by the clock.",
              "moderate", "predictions", "BTC predictions", Style("breakout", 2.0, 2.0, 30), 0.22),
    _provider("GutFeelGus", "No system. Vibes.", "New highs get bought, I guess.",
              "aggressive", "stocks", "TSLA|NVDA", Style("breakout", 4.0, 4.0, 24, 24), 0.18),
    _provider("RookieRay", "New here. Learning in public.", "Breakouts, I think.",
              "moderate", "etf", "QQQ", Style("breakout", 3.0, 3.0, 20, 30), 0.12),
    _provider("BitcoinBea", "One coin, one chart, big candles.", "With the trend of the long recording.",
              "aggressive", "crypto bitcoin", "BTC", Style("momentum", 1.0, 2.0, 6), 0.35),
)  # fmt: skip

STRATEGIES: Sequence[Strategy] = (
    Strategy("strategy_alpha", ("ETH", "BTC"), Style("momentum", 2.0, 2.0, 40, 4)),
    Strategy("mean_reversion_v2", ("EUR/USD", "SPY"), Style("reversion", 0.8, 2.5, 24)),
    Strategy("volume_hunter", ("NVDA", "TSLA"), Style("breakout", 1.5, 1.5, 24, 4)),
)

_FIRST = (
    "Amara", "Ben", "Chloe", "Diego", "Elif", "Farid", "Greta", "Hana", "Ivan", "Jun", "Kofi", "Lena", "Mateo", "Nadia",
    "Omar", "Priya", "Quinn", "Rosa", "Sven", "Tara", "Umut", "Vera", "Wei", "Ximena", "Yusuf", "Zoe", "Arlo", "Bianca",
    "Cem", "Dora", "Emil", "Freya", "Gil", "Hugo", "Ines", "Jonas", "Katya", "Liam", "Mona", "Nils", "Ola", "Pia",
    "Remy",
)  # fmt: skip
_LAST = (
    "Okafor", "Weber", "Rossi", "Silva", "Tanaka", "Novak", "Haddad", "Jensen", "Moreau", "Patel", "Kim", "Garcia",
    "Lind",
)  # fmt: skip

FOLLOWERS: Sequence[Person] = tuple(
    # The king's link referred the first seven, two of whom stay inactive; every fourth of the others was referred by
    # another follower.
    Person(
        f"{first} {_LAST[number * 5 % len(_LAST)]}",
        KING if number < 7 else PROVIDERS[1 + number % 6].name if number % 4 == 0 else None,
        is_passive=number in (5, 6),
    )
    for number, first in enumerate(_FIRST)
)

COMMENTS: Sequence[str] = (
    "Great call! I'm in.", "Nice entry, where is your stop?", "I took the other side of this one.",
    "Same read here, waiting for the close.", "How long do you plan to hold?", "That was fast.",
    "The volume does not convince me.", "Third one in a row, well done.", "Is this still valid after the last candle?",
    "Added a small position.", "Textbook.", "I missed it by a minute.",
)  # fmt: skip
REPLIES: Sequence[str] = (
    "Below the last swing low.", "Until the band is reached, or a day.", "Thanks!", "Fair point.",
    "Still valid for me.", "We will see.",
)  # fmt: skip
