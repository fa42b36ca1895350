"""The demo's people: providers with their trading styles, strategies, and followers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from config.documents import Document
from server.demo.markets import INSTRUMENTS
from server.demo.trading import Style

PASSWORD = "tradestream-demo-2026"  # noqa: S105 - of accounts that exist in development only, printed at the end
KING = "CryptoKing_42"
"""The name of the person whose account is shown to newcomers."""


@dataclass(frozen=True, slots=True)
class Person:
    """A person with an account. `referrer` is the name of the person who referred them."""

    name: str
    referrer: str | None = None
    is_passive: bool = False  # registered and verified, then inactive: a referral that stays pending

    @property
    def email(self) -> str:
        """Return the person's e-mail address."""
        return f"{self.name.lower().replace(' ', '.').replace('_', '-')}@demo.example.com"

    @property
    def avatar_url(self) -> str:
        """Return the URL of a picture drawn from the name."""
        return f"https://api.dicebear.com/9.x/shapes/svg?seed={self.name.replace(' ', '-')}"


@dataclass(frozen=True, slots=True)
class Trader:
    """A name that trades by a style: a strategy, which posts raw signals to Lens, or a provider with a profile.

    `charm` is the likelihood that a person follows the provider.
    """

    name: str
    symbols: str
    style: Style
    charm: float = 0.0
    bio: str = ""
    days: float | None = None  # of trading; None: all that there are

    @property
    def markets(self) -> list[str]:
        """Return the symbols of the markets."""
        return self.symbols.split("|")

    @property
    def is_newcomer(self) -> bool:
        """Return whether it is a provider with too few signals to be verified."""
        return 0 < self.charm < 0.2

    @property
    def person(self) -> Person:
        """Return the provider's person."""
        # The king is left a few referrals short of gold, so that his link can be tried by hand.
        is_first = self.name in (KING, "OptionsFlow", "MacroOracle")
        return Person(self.name, None if is_first else KING if self.charm > 0.6 else "OptionsFlow")

    @property
    def profile(self) -> Document:
        """Return the body of `POST /api/providers/become`."""
        handle = "".join(each for each in self.name.lower() if each.isalnum())[:15]
        way, specialty = ("with", "momentum") if self.style.threshold > 0 else ("against", "mean-reversion")
        kinds = sorted({INSTRUMENTS[each].asset_type for each in self.markets})
        risk = "conservative" if self.style.patience > 30 else "moderate"
        return {
            "display_name": self.name,
            "bio": self.bio,
            "strategy_description": f"I trade {way} strong moves of {self.style.bars} bars, and take profits early.",
            "risk_level": "aggressive" if {"crypto", "option"} & {*kinds} else risk,
            "specialties": [*kinds, specialty],
            "avatar_url": self.person.avatar_url,
            "banner_url": f"https://picsum.photos/seed/{handle}/1200/300",
            "website_url": f"https://{handle}.example.com",
            "twitter_handle": handle,
        }


_CRYPTO, _STOCKS = "BTC|ETH|SOL", "AAPL|GOOG|NVDA|TSLA|QQQ|SPY"
_RATES, _WEEK = "Will rates be cut this winter?", "Will BTC close above 70000 this week?"

# Three have insight, three cheat, all others trade by chance. Boards of declared prices show the cheats first; those of
# market prices do not.
PROVIDERS: Sequence[Trader] = (
    Trader(KING, _CRYPTO, Style(10, 1.5, 3, 3, 16, 4, insight=0.75), 0.80, "Trading since 2017. Momentum."),
    Trader("OptionsFlow", "AAPL options|GOOG options", Style(3, -1.6, 4, 4, 36, 24), 0.66, "Reads the tape."),
    Trader("MacroOracle", f"{_RATES}|{_WEEK}", Style(10, 1.5, 6, 4, 60, 24), 0.62, "Prices questions."),
    Trader("SteadyEddie", "EUR/USD|GBP/USD|SPY", Style(20, -1.6, 2, 3.5, 24, insight=0.7), 0.70, "Boring on purpose."),
    Trader("MoonPromise", _CRYPTO, Style(10, 1.5, 1.5, 3, 24, 4, cheat="declares better prices"), 0.60, "Up only."),
    Trader("NeverRed", _STOCKS, Style(10, -1.5, 2, 9, 24, 12, cheat="never closes losers"), 0.58, "99 % wins. Look!"),
    Trader("TrendSurferAna", "NVDA|TSLA|GOOG", Style(20, 1.6, 6, 3, 72, 12, exits="levels"), 0.55, "Rather late."),
    Trader("DipBuyerDave", "QQQ|SPY|GOOG", Style(20, -1.6, 3, 5, 48, 12, enters="limit"), 0.58, "I wait for my price."),
    Trader("QuantQuokka", "GOOG|NVDA|QQQ", Style(3, -1.6, 3, 3, 20, 8, insight=0.7), 0.64, "By the numbers."),
    Trader("LadyLeverage", "SOL|ETH", Style(10, 1.5, 5, 3, 30, 8, exits="levels"), 0.45, "Read the drawdown first."),
    Trader("FXFinch", "EUR/USD|GBP/USD", Style(20, 1.6, 3, 2, 48, 8), 0.32, "London open, coffee, EUR/USD."),
    Trader("PatientPetra", "SPY|QQQ|GOOG", Style(10, 1.5, 5, 4, 80, 20, exits="halves"), 0.38, "Half now, half later."),
    Trader("GammaGuru", "GOOG options", Style(20, 1.6, 4, 3, 48, 12), 0.30, "Long gamma, short patience."),
    Trader("TheContrarian", "TSLA|ETH", Style(3, -1.6, 3, 3, 30, 12), 0.28, "If it feels good, fade it."),
    Trader("NightOwlNoor", "GBP/USD|SOL", Style(20, -1.6, 2, 3, 24, 8), 0.24, "Asia session only."),
    Trader("PollWatcher", _RATES, Style(20, 1.6, 4, 4, 48, 12), 0.22, "Markets for everything."),
    Trader("GutFeelGus", "TSLA|NVDA", Style(20, 0.8, 4, 4, 24, 24), 0.18, "No system. Vibes."),
    Trader("RookieRay", "QQQ", Style(20, 0.8, 3, 3, 20, 30), 0.12, "New here. Learning in public."),
    Trader("LuckyLuke", "BTC", Style(10, 0.8, 1, 2, 6), 0.35, "One coin, one chart, big candles.", days=6.0),
)
HOLDER = Trader("buy_and_hold", "", Style(10, 1.5, 9, 9, 9))
"""The strategy that buys everything at the beginning, and holds it."""
STRATEGIES: Sequence[Trader] = (
    Trader("strategy_alpha", "ETH|BTC", Style(10, 1.5, 3, 3, 40, 6)),
    Trader("mean_reversion_v2", "EUR/USD|SPY", Style(20, -1.6, 2, 3, 24, 6)),
    Trader("volume_hunter", "NVDA|TSLA", Style(20, 1.6, 3, 3, 24, 8)),
)

_FIRST = (
    "Amara", "Ben", "Chloe", "Diego", "Elif", "Farid", "Greta", "Hana", "Ivan", "Jun", "Kofi", "Lena", "Mateo", "Nadia",
    "Omar", "Priya", "Quinn", "Rosa", "Sven", "Tara", "Umut", "Vera", "Wei", "Ximena", "Yusuf", "Zoe", "Arlo", "Bianca",
    "Cem", "Dora", "Emil", "Freya", "Gil", "Hugo", "Ines", "Jonas", "Katya", "Liam", "Mona", "Nils", "Ola", "Pia",
    "Remy",
)  # fmt: skip
_LAST = ("Okafor", "Weber", "Rossi", "Silva", "Tanaka", "Novak", "Haddad", "Jensen", "Moreau", "Patel", "Kim", "Lind")
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


@dataclass(frozen=True, slots=True)
class Cast:
    """The participants: all of them, or few enough for a test."""

    providers: Sequence[Trader] = PROVIDERS
    strategies: Sequence[Trader] = STRATEGIES
    followers: Sequence[Person] = FOLLOWERS
    days: float = 90.0  # boards of skill want sixty
    holder: Trader = HOLDER

    @property
    def traders(self) -> list[Trader]:
        """Return every trader."""
        return [*self.providers, *self.strategies]

    def days_of(self, trader: Trader) -> float:
        """Return the days that a trader has been trading."""
        return 2.0 if trader.is_newcomer else trader.days or self.days

    @property
    def people(self) -> list[Person]:
        """Return everybody with an account, referrers before those whom they refer."""
        everybody = [*(each.person for each in self.providers), *self.followers]
        return [each for each in everybody if each.referrer is None] + [each for each in everybody if each.referrer]


SMALL = Cast(PROVIDERS[:6], STRATEGIES[:1], FOLLOWERS[:10], days=30.0)
"""Every asset type, and a person who refers seven, as in the document."""

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
