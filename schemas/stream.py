"""Filters of the public feed and of Lens decisions, a socket's commands, and the identity of a stream's reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from typing import Protocol

from marshmallow.validate import Length

from config.documents import Document, Loaded
from config.model_sdks import MODELS
from schemas._fields import Choice, Identifier, about
from schemas._instruments import instrument_key
from schemas._json import parse_object
from schemas._problems import cut_name
from schemas._queries import CommaList, LastGiven, QuerySchema, QueryWhole
from schemas._symbols import is_symbol
from schemas._vocabulary import ASSET_CATEGORIES, ASSET_TYPES, EVENT_TYPES, AssetCategory, AssetType
from schemas.errors import ValidationFailed

MAX_PROVIDERS = 500  # as many as a user can follow


class Filterable(Protocol):
    """The fields that the feed's filters read."""

    asset_category: str
    asset_type: str
    score: int
    provider_id: str


@dataclass(frozen=True, slots=True)
class SignalFilter:
    """The signals that a stream wants: every field that is given must match, with any one of its values.

    Values are in one fixed order, so equal filters are equal objects and share their evaluation.
    """

    categories: tuple[str, ...] | None = None
    asset_types: tuple[str, ...] | None = None
    min_score: int | None = None
    provider_ids: tuple[str, ...] | None = None

    @classmethod
    def of(cls, query: Loaded) -> SignalFilter:
        """Make the filter of a loaded `StreamQuery`; an empty list is no filter."""
        categories, asset_types = query.get("categories", ()), query.get("asset_types", ())
        return cls(
            categories=tuple(name for name in ASSET_CATEGORIES if name in categories) or None,
            asset_types=tuple(name for name in ASSET_TYPES if name in asset_types) or None,
            min_score=query.get("min_score"),
            provider_ids=tuple(sorted({str(each) for each in query.get("provider_ids", ())})) or None,
        )

    @classmethod
    def from_document(cls, document: Loaded) -> SignalFilter:
        """Restore a filter from its `to_document`."""
        return cls(
            categories=_tuple(document.get("categories")),
            asset_types=_tuple(document.get("asset_types")),
            min_score=document.get("min_score"),
            provider_ids=_tuple(document.get("provider_ids")),
        )

    def to_document(self) -> Document:
        """Return the filters that are set, as `session_start` shows them."""
        values = {
            "categories": self.categories,
            "asset_types": self.asset_types,
            "min_score": self.min_score,
            "provider_ids": self.provider_ids,
        }
        return {name: value for name, value in values.items() if value is not None}

    def predicate(self) -> Callable[[Filterable], bool]:
        """Return a function that tells whether a signal matches."""
        checks: list[Callable[[Filterable], bool]] = []
        if self.provider_ids is not None:
            providers = frozenset(self.provider_ids)
            checks.append(lambda signal: signal.provider_id in providers)
        if self.categories is not None:
            categories = frozenset(self.categories)
            checks.append(lambda signal: signal.asset_category in categories)
        if self.asset_types is not None:
            types = frozenset(self.asset_types)
            checks.append(lambda signal: signal.asset_type in types)
        if self.min_score is not None:
            minimum = self.min_score
            checks.append(lambda signal: signal.score >= minimum)
        if not checks:
            return lambda _: True
        return checks[0] if len(checks) == 1 else lambda signal: all(check(signal) for check in checks)


@dataclass(frozen=True, slots=True)
class Viewer:
    """A stream's reader. `user_id` is None without a token and for a demo token; `expires_at` is Unix time.

    `address` is the one that limits count by: `config.addresses.counted_address`.
    """

    address: str
    user_id: str | None = None
    session_id: str | None = None
    is_demo: bool = True
    is_provider: bool = False
    expires_at: float | None = None
    is_proxied: bool = False  # the connection is a proxy's


class StreamQuery(QuerySchema):
    """The query of `GET /api/signals/stream` and `GET /api/signals/ws`."""

    categories = CommaList(Choice(AssetCategory), **about("Only signals of these asset categories."))
    asset_types = CommaList(Choice(AssetType), **about("Only signals of these asset types."))
    min_score = QueryWhole(min=0, max=100, **about("Only signals with at least this score, and the closes of those."))
    provider_ids = CommaList(
        Identifier(),
        validate=Length(max=MAX_PROVIDERS, error=f"must have at most {MAX_PROVIDERS} values"),
        **about("Only signals of these providers."),
    )
    last_event_id = LastGiven(
        **about("Resume after this event, for clients that cannot send the header Last-Event-ID.")
    )
    last_event_id_of_polyfill = LastGiven(data_key="lastEventId", **about("The same, as polyfills send it."))


class SocketProblem(Exception):
    """A message of a Lens socket's client that is answered with an error; the socket stays open."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class DecisionFilter:
    """The decisions that a Lens socket wants: given fields must match, each with any one of its values."""

    models: frozenset[str] | None = None
    symbols: frozenset[str] | None = None
    event_types: frozenset[str] | None = None
    _instruments: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_instruments", frozenset(map(instrument_key, self.symbols or ())))

    def matches(self, model: str, symbol: str, event_type: str) -> bool:
        """Return whether a decision matches; its symbol is compared by instrument, however it is spelled."""
        return (
            (self.models is None or model in self.models)
            and (self.symbols is None or instrument_key(symbol) in self._instruments)
            and (self.event_types is None or event_type in self.event_types)
        )


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Send decisions from now on; replaces the subscription there was. `filters` is what the client wrote."""

    filter: DecisionFilter
    filters: Document = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Send no more decisions."""


@dataclass(frozen=True, slots=True)
class Ping:
    """Answer with a pong."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The client is there."""


def parse_command(message: str | bytes) -> Subscribe | Unsubscribe | Ping | Pong:
    """Parse a message of a Lens socket's client. Raises SocketProblem."""
    if not isinstance(message, str):
        raise SocketProblem("INVALID_MESSAGE", "A message must be a JSON object")
    try:
        document = parse_object(message.encode("utf-8", "surrogatepass"), "A message")
    except ValidationFailed as error:
        why = "; ".join(f"{each.field}: {each.message}".removeprefix(": ") for each in error.details)
        text = f"A message must be a JSON object: {why}" if why else error.message
        raise SocketProblem("INVALID_MESSAGE", text) from None
    if "action" not in document:
        match document.get("type"):  # by equality: a value from outside may be unhashable
            case "ping":
                return Ping()
            case "pong":
                return Pong()
        raise SocketProblem("INVALID_MESSAGE", "A message needs an action: subscribe or unsubscribe")
    match document["action"]:
        case "subscribe":
            _check_names(document, {"action", "filters"})
            return _parse_subscribe(document.get("filters"))
        case "unsubscribe":
            _check_names(document, {"action"})
            return Unsubscribe()
        case str(action):
            raise SocketProblem("INVALID_ACTION", f"Unknown action: {cut_name(action)}")
        case _:
            raise SocketProblem("INVALID_ACTION", "Unknown action: it must be subscribe or unsubscribe")


def _check_names(document: Mapping[str, object], known: Set[str]) -> None:
    # Not those of pings and pongs, which cannot ask for anything that would be lost.
    for name in document:
        if name not in known:
            raise SocketProblem("INVALID_MESSAGE", f"Unknown field: {cut_name(name)}")


def _parse_subscribe(filters: object) -> Subscribe:
    if filters is None:
        return Subscribe(DecisionFilter())
    if not isinstance(filters, dict):
        raise SocketProblem("INVALID_FILTER", "filters must be an object")
    for name in filters:
        if name not in {"model", "symbol", "event_type"}:
            raise SocketProblem("INVALID_FILTER", f"Unknown filter: {cut_name(name)}")
    symbols = _values(filters, "symbol", None)
    for symbol in symbols or ():
        if not is_symbol(symbol):
            raise SocketProblem("INVALID_FILTER", f"No symbol is like this: {cut_name(symbol)!r}")
    return Subscribe(
        DecisionFilter(
            models=_values(filters, "model", MODELS),
            symbols=None if symbols is None else frozenset(symbol.upper() for symbol in symbols),
            event_types=_values(filters, "event_type", EVENT_TYPES),
        ),
        filters,
    )


def _values(filters: Mapping[str, object], name: str, vocabulary: tuple[str, ...] | None) -> frozenset[str] | None:
    value = filters.get(name)
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    for each in values:
        if not isinstance(each, str):
            raise SocketProblem("INVALID_FILTER", f"{name} must be a string or a list of strings")
        if vocabulary is not None and each not in vocabulary:
            raise SocketProblem("INVALID_FILTER", f"Unknown {name}: {cut_name(each)}")
    if not values:
        raise SocketProblem("INVALID_FILTER", f"{name} must not be empty")
    return frozenset(values)


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)
