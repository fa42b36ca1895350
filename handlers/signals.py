"""Serve the public signals: the live feed, lists, one in full, and what providers publish."""

from __future__ import annotations

from decimal import Decimal

from tornado.iostream import StreamClosedError

from actors.lens.messages import PUBLISH, Retract
from config.clock import now
from config.documents import Document, Loaded
from config.ids import parse_uuid
from db import social
from db._postgres import connection
from db.providers.outcomes import WHOLE, decode_legs
from db.signals.reads import SignalFilters, SignalRow, get_signal
from handlers._http.base import GatewayHandler, known_id
from handlers._http.endpoint import endpoint
from handlers._http.routes import Route
from handlers._signal_pages import page_of_signals
from handlers._submissions import IDEMPOTENCY_KEY, KEY_HEADER, hand_in
from handlers.auth._account_handler import AccountHandler
from handlers.streams.connections import (
    EVENT_ID,
    EVENT_STREAM_HEADERS,
    RECONNECT,
    chunk,
    is_passing,
    last_event_ids,
    later,
    response_head,
    take_socket,
    takes_events,
    viewer_of,
)
from handlers.streams.resume import StreamSession
from handlers.streams.sockets import SocketHandler
from schemas.errors import AppError, NotFound, Unauthorized
from schemas.lens import SignalAccepted
from schemas.signals import AllSignalsQuery, NewSignalSchema, PageOfSignals, RetractedSignal, Signal
from schemas.stream import SignalFilter, StreamQuery

COMMENTS_SHOWN = 50  # of a signal in full; the rest by their own list

_RESUME = {"Last-Event-ID": "The id of the last event received: the stream goes on after it."}


class _Opening(GatewayHandler):
    """The base of stream openings. An opening that resumes after an event is counted by a limit of its own."""

    header_first = True  # an EventSource keeps its URL, and gives in the header the id it received last

    def limit_name(self, route: Route) -> str:
        """Name the limit: streams that end together return together, and a 429 ends an EventSource for good."""
        given = self.last_event_id()
        return route.resume_limit_name if given and EVENT_ID.fullmatch(given) else route.name

    def limit_gate(self) -> str | None:
        """Require that the session exists, else it is no resuming: an invented id counts as any opening."""
        services = self.gateway.services
        return None if services is None else services.feed.session_key(self.last_event_id() or "")

    async def admit(self, query: Loaded) -> StreamSession:
        """Admit as `LiveFeed.admit` does, for a caller whose login may end meanwhile. Raises Unauthorized."""
        feed, given = self.services.feed, self.last_event_id()
        viewer = viewer_of(self.caller, self.request.remote_ip or "")
        # Only an EventSource that reconnects sends the header: its last connection is over, whatever a proxy says.
        is_reconnect = given is not None and given == self.request.headers.get("Last-Event-ID")
        opened = await feed.admit(viewer, SignalFilter.of(query), given, is_reconnect=is_reconnect)
        if self.caller.claims is not None and await self.gateway.revoked.is_revoked(self.caller.claims):
            feed.abandon(opened)
            raise Unauthorized("The session of this token has ended")
        return opened

    def last_event_id(self) -> str | None:
        """Return the event that the client says it received last."""
        return next(iter(last_event_ids(self.request, header_first=self.header_first)), None)


class SignalStream(_Opening):
    """`/api/signals/stream`"""

    _is_gone = False

    @endpoint(
        "Stream signals as server-sent events",
        query=StreamQuery(),
        errors=(503,),
        headers=_RESUME,
        media_type="text/event-stream",
    )
    async def get(self, query: Loaded) -> None:
        """Streams the feed, until either side ends it. A first opening and one that resumes have limits of their own.

        | Event | Data |
        |---|---|
        | `session_start` | `session_id, timestamp, is_demo, resumed, resume_error?, filters`; each connection's first |
        | `signal` | an item of `GET /api/signals`, and its `price` if the asset has one |
        | `retraction` | `signal_id, provider_id, retracted_at`: a signal that passed the filters was taken back |
        | `heartbeat` | `timestamp, connected_providers`; every 15 s if nothing else is configured |
        | `error` | `code`, `retry_after` (seconds) where waiting helps; the last one, the server closes |

        All but `error` have the id `{session_id}:{n}`, n = 1, 2, 3 … without a gap. A client that sends the last id as
        `Last-Event-ID` within 15 minutes, to any gateway, gets what it has missed, once and in order, under the same
        numbers (`"resumed": true`); an EventSource does so by itself. The query may say the id, too: `last_event_id` or
        `lastEventId`. A client that is not resumed is told why (`"resumed": false`):

        | `resume_error` | What it means |
        |---|---|
        | `unknown` | no session has, or had, such an event |
        | `expired` | it ended more than 15 minutes ago, or remembers only later events |
        | `identity` | it is another reader's: begun with another token, or without one, or open at this moment |

        A second reader with the last id of an open session gets a session of its own, which continues after that id.

        | Code of an `error` | What to do |
        |---|---|
        | `SLOW_CONSUMER` | you read too slowly: reconnect with the last id; nothing is lost |
        | `SERVER_DRAINING` | reconnect with the last id after `retry_after` |
        | `MAX_LIFETIME` | reconnect with the last id at once |
        | `SERVICE_UNAVAILABLE` | nothing can be opened now; `message` says why. Try again with the last id |
        | `TOKEN_EXPIRED` | close, get a new token, and open with it and the last id |
        | `SESSION_REVOKED`, `FORBIDDEN` | close: the login session has ended, or you may not read this any more |

        `SERVICE_UNAVAILABLE` is the whole stream then (200), only for clients that send `Accept: text/event-stream`, as
        every EventSource does; all others get 503. 400, 401, 429 and the 503 of a server that holds as many streams as
        it may end an EventSource for good: make a new one when `Retry-After` has passed.
        """
        await self._open(query)

    async def _open(self, query: Loaded) -> None:
        for name, value in EVENT_STREAM_HEADERS:
            self.set_header(name, value)
        if self.request.method == "HEAD":
            await self.flush()  # before finish(), which would announce an empty body
            self.finish()
            return
        # The feed takes the connection over; we write the head, because what follows it is no response of Tornado's.
        self.set_header("Connection", "close")
        chunked = self.request.version == "HTTP/1.1"  # else the end of the connection is the end of the body
        if chunked:
            self.set_header("Transfer-Encoding", "chunked")
        feed = self.services.feed
        opened = await self.admit(query)
        head = response_head(self._headers) + (chunk(RECONNECT) if chunked else RECONNECT)
        try:
            if self._is_gone:
                raise StreamClosedError
            connection = take_socket(self.detach())
        except OSError:
            feed.abandon(opened)
            raise
        feed.open_stream(opened, connection, head, chunked=chunked)

    def on_connection_close(self) -> None:
        """Note that the client disconnected while its session was looked up."""
        self._is_gone = True
        super().on_connection_close()

    def is_counted(self) -> bool:
        """Do not count an opening that can only be deferred: clients retry until the feed is available."""
        services = self.gateway.services
        return services is None or not self._takes_events or services.feed.is_ready

    @property
    def _takes_events(self) -> bool:
        return self.request.method == "GET" and takes_events(self.request.headers.get("Accept"))

    def _render(self, error: AppError) -> bytes:
        # Any status but 200 ends an EventSource for good. It is deferred instead, by a stream that says why and ends.
        if not is_passing(error) or not self._takes_events:
            return super()._render(error)
        for name, value in EVENT_STREAM_HEADERS:
            self.set_header(name, value)
        self.set_header("Connection", "close")  # the next connection may reach a process that is ready
        self.set_status(200)
        return later(error, self._verdict)


class SignalSocket(_Opening, SocketHandler):
    """`/api/signals/ws`"""

    header_first = False
    _opening: StreamSession | None = None

    @endpoint(
        "Stream signals as WebSocket messages", query=StreamQuery(), status=101, errors=(400, 403, 503), headers=_RESUME
    )
    async def get(self, query: Loaded) -> None:
        """The events, errors and resuming of `GET /api/signals/stream` as JSON messages `{"event", "id", "data"}`.

        The handshake comes once the stream is admitted; until then refusals are HTTP responses, as everywhere.
        """
        self.check_handshake()
        feed = self.services.feed
        self._opening = await self.admit(query)
        try:
            await self.shake_hands()
        finally:
            if self._opening is not None:
                feed.abandon(self._opening)

    def open(self) -> None:
        """Tornado's hook after the handshake."""
        self.prepare_connection()
        assert self._opening is not None
        opened, self._opening = self._opening, None
        self.services.feed.open_socket(opened, self)

    def on_message(self, message: str | bytes) -> None:
        """Ignore the client's messages: the feed is sent one way."""


class AllSignals(AccountHandler):
    """`/api/signals`"""

    @endpoint("List published signals", query=AllSignalsQuery(), responds=PageOfSignals(), errors=(503,))
    async def get(self, query: Loaded) -> bytes:
        """The newest first. Every filter that is given must match."""
        paging = {"limit": query.pop("limit"), "offset": query.pop("offset")}
        return await page_of_signals(self.services, SignalFilters(**query), **paging)

    @endpoint(
        "Publish a signal",
        body=NewSignalSchema(),
        responds=SignalAccepted(),
        status=201,
        errors=(422, 503),
        headers={KEY_HEADER: IDEMPOTENCY_KEY},
    )
    async def post(self, body: Loaded) -> object:
        """Answers once Lens has stored it; it is then enriched, judged, scored and published as the caller's."""
        return await hand_in(self, {**body, "source": str(self.user_id), "ts_utc": None})


class OneSignal(GatewayHandler):
    """`/api/signals/{signal_id}`"""

    @endpoint("Get a signal in full", responds=Signal(), errors=(404, 503))
    async def get(self, signal_id: str) -> object:
        """The signal with its score, its outcome, and its reactions and comments."""
        viewer = parse_uuid(self.caller.subject or "")
        async with connection(self.services.pool) as conn:
            signal = await get_signal(conn, known_id(signal_id, "Signal"), viewer)
            if signal is None:
                raise NotFound("Signal not found")
            comments = await social.list_comments(conn, signal.id, limit=COMMENTS_SHOWN)
        return _describe(signal) | {"comments": comments}


class Retraction(AccountHandler):
    """`/api/signals/{signal_id}/retract`"""

    @endpoint("Retract one's own signal", responds=RetractedSignal(), errors=(404, 409, 503))
    async def post(self, signal_id: str) -> object:
        """Takes back a mistake; it is no way out of a position. Repeating it answers the same.

        It is refused (409, with the condition that fails) later than 10 seconds after the signal's receipt; where the
        market's mid has moved since by more than 2 bps and half the spread, or nothing tells whether it has; and for
        the fourth signal in 30 days. Another provider's signal is 403. The signal stays where it is, with
        `retracted_at`; streams that sent it send the event `retraction`. Its position counts as if it had never been.
        """
        asked = Retract(known_id(signal_id, "Signal"), self.user_id, now())
        return await self.ask(PUBLISH, str(self.user_id), asked)


def _quote_of(signal: SignalRow) -> Document:
    prices = {"bid": signal.quote_bid, "ask": signal.quote_ask, "mid": signal.quote_mid}
    shown = {name: None if price is None else float(price) for name, price in prices.items()}
    return {**shown, "at": signal.quote_at, "source": signal.quote_source}


def _outcome_of(signal: SignalRow) -> Document | None:
    """Return the outcome of the position that a signal opened; None of one that opened nothing, or was taken back."""
    is_gone = signal.outcome is None and (signal.is_read or signal.retracted_at is not None)
    if not signal.is_position or signal.event_type == "CLOSE_SIGNAL" or is_gone:
        return None
    legs = decode_legs(signal.legs) if signal.legs else ()
    return {
        "status": signal.outcome or "PENDING",  # until the position is recorded
        "return_": _fraction(signal.outcome_return),
        "record_return": _fraction(signal.record_return),
        "closed_at": signal.closed_at,
        "closed_by": signal.closed_by,
        "close_reason": signal.close_reason or (None if signal.closed_by is None else "signal"),
        "awaiting": bool(signal.is_awaiting),
        "legs": [
            {
                "at": each.at,
                "price": float(each.price),
                "fraction": each.part / WHOLE,
                "return_": each.returned / WHOLE,
                "record_return": None if each.record_return is None else each.record_return / WHOLE,
                "reason": each.reason,
                "closed_by": each.closed_by,
            }
            for each in legs
        ],
    }


def _fraction(value: Decimal | None) -> float | None:
    return None if value is None else float(value)


def _describe(signal: SignalRow) -> Document:
    document = {name: getattr(signal, name) for name in SignalRow.__match_args__}
    is_closing = signal.event_type == "CLOSE_SIGNAL"
    return document | {
        "signal_id": signal.id,
        "action": signal.action.upper(),
        "entry_price": None if signal.entry_price is None else float(signal.entry_price),
        "record_price": None if signal.record_price is None else float(signal.record_price),
        "verified": signal.quote_at is not None,
        "quote": None if signal.quote_at is None else _quote_of(signal),
        "opportunity_score": signal.score,
        "opportunity_tier": signal.tier,
        "opportunity_factors": signal.factors,
        "order_type": None if is_closing or signal.direction is None else signal.order_type or "market",
        "close_fraction": (signal.close_fraction or 1) if is_closing else None,
        "outcome": _outcome_of(signal),
        "is_closing": is_closing,
    }
