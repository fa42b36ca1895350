"""The enumerations of the domain, each written once: a type, and its values in the order in which they are shown.

`server/_document.py` describes them for clients, `tests/integration/test_vocabulary.py` compares the database's checks.
The models' names are settings: `config.settings.MODELS`.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

# Assets
AssetType = Literal["crypto", "stock", "option", "etf", "forex", "prediction"]
AssetCategory = Literal["crypto", "equities", "forex", "prediction"]
OptionType = Literal["call", "put"]
PredictionPlatform = Literal["polymarket", "kalshi"]

# Raw signals
EventType = Literal["OPEN_SIGNAL", "CLOSE_SIGNAL"]
Direction = Literal["long", "short", "close_long", "close_short"]
Side = Literal["long", "short"]  # of a prediction: its YES, its NO
EventState = Literal["RECEIVED", "ENQUEUED", "ENRICHED", "MODEL_DONE", "PUBLISHED", "REJECTED", "FAILED"]
EventStage = Literal["ENQUEUE", "ENRICH", "EVALUATE", "PUBLISH", "COMPLETE", "DEAD_LETTER"]

# Models
DecisionKind = Literal["FOLLOW_ENTER", "IGNORE", "FOLLOW_EXIT", "HOLD", "TIGHTEN_STOP"]
ModelStatus = Literal["SUCCESS", "TIMEOUT", "API_ERROR", "SCHEMA_ERROR", "RATE_LIMITED"]
OrderType = Literal["market", "limit"]
StopMethod = Literal["fixed", "atr", "trailing"]

# Dead letters
DeadLetterStage = Literal["enqueue", "enrich", "evaluate", "publish"]
ReasonCode = Literal[
    "VALIDATION_ERROR",
    "TIMEOUT",
    "NETWORK_ERROR",
    "PROVIDER_ERROR",
    "MODEL_ERROR",
    "SCHEMA_ERROR",
    "RATE_LIMITED",
    "PUBLISH_ERROR",
    "INTERNAL_ERROR",
]
Broker = Literal["redis", "kafka"]

# Public signals
PublicAction = Literal["buy", "sell", "hold", "yes", "no"]
PublishedAction = Literal["buy", "sell", "yes", "no"]
VoteSide = Literal["BUY", "SELL", "HOLD"]
OpportunityTier = Literal["HOT", "GOOD", "NEUTRAL", "LOW"]
OutcomeStatus = Literal["PENDING", "PROFIT", "LOSS", "BREAKEVEN"]
CloseReason = Literal["signal", "take_profit", "stop_loss", "liquidation", "floor", "expiry", "resolution", "delisted"]
WayIn = Literal["lens", "redis", "kafka", "backfill"]
ReactionType = Literal["like", "fire", "rocket", "sad"]

# Providers
RiskLevel = Literal["conservative", "moderate", "aggressive"]
VerificationLevel = Literal["none", "basic", "pro", "elite"]
EquityPeriod = Literal["week", "month", "year", "all"]
ProviderSort = Literal["followers", "win_rate", "return", "streak"]
SkillBoard = Literal["skill", "steady"]
LiveBoard = Literal["followers", "win_rate", "return", "streak", "rising"]
Board = Literal[SkillBoard, LiveBoard]
Gate = Literal["bets", "days", "age_days", "unverified_share", "luck", "closed", "streak", "gained"]
Period = Literal["all", "month", "week"]
ChangePeriod = Literal["week", "month"]
ProviderStreakType = Literal["profitable_signal", "provider_signal"]

# Users
Permission = Literal[
    "read:signals",
    "read:providers",
    "write:settings",
    "write:watchlist",
    "write:follows",
    "write:reactions",
    "read:achievements",
    "write:provider",
]
ReadyStatus = Literal["ready", "not_ready"]
Theme = Literal["dark", "light", "system"]
UserStreakType = Literal["login", "analysis_post"]
ReferralStatus = Literal["pending", "qualified"]
ReferralTierId = Literal["bronze", "silver", "gold"]
TokenPurpose = Literal["verification", "reset", "attempts"]
PreferenceList = Literal["watchlist", "saved_views"]


def values_of(vocabulary: object) -> tuple[str, ...]:
    """Return the values of a Literal of this module, or of a tuple."""
    return vocabulary if isinstance(vocabulary, tuple) else get_args(vocabulary)


ASSET_TYPES: Final[tuple[AssetType, ...]] = get_args(AssetType)
ASSET_CATEGORIES: Final[tuple[AssetCategory, ...]] = get_args(AssetCategory)
EVENT_TYPES: Final[tuple[EventType, ...]] = get_args(EventType)
SKILL_BOARDS: Final[tuple[SkillBoard, ...]] = get_args(SkillBoard)
BOARDS: Final[tuple[Board, ...]] = get_args(Board)
LIVE_BOARDS: Final[tuple[LiveBoard, ...]] = get_args(LiveBoard)
ORDER_TYPES: Final[tuple[OrderType, ...]] = get_args(OrderType)
STOP_METHODS: Final[tuple[StopMethod, ...]] = get_args(StopMethod)
PUBLISHED_ACTIONS: Final[tuple[PublishedAction, ...]] = get_args(PublishedAction)

MAY_END_WORTHLESS: Final[frozenset[str]] = frozenset({"option", "prediction"})
"""The asset types whose positions can be closed at a price of 0."""
DIRECTIONS_OF: Final[dict[EventType, tuple[Direction, ...]]] = {
    "OPEN_SIGNAL": ("long", "short"),
    "CLOSE_SIGNAL": ("close_long", "close_short"),
}
"""The directions that a signal of each type may have."""
OPENED_BY: Final[dict[str, Side]] = {"buy": "long", "yes": "long", "sell": "short", "no": "short"}
"""The side of the position that an action opens; `hold` opens none."""
UPPER_ACTIONS: Final = tuple(each.upper() for each in values_of(PublicAction))
"""The actions as details, feeds and settings write them."""
