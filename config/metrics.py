"""Every metric of the system. Names are `tradestream_*`, units are base units, and no label is unbounded.

Gateways and actor processes write to files that they share (`PROMETHEUS_MULTIPROC_DIR`); `/metrics` adds them up.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

# HTTP, by gateway. `route` is the pattern of the route table, never the requested path.
HTTP_REQUESTS = Counter("tradestream_http_requests_total", "Requests answered.", ("method", "route", "status"))
HTTP_REQUEST_SECONDS = Histogram(
    "tradestream_http_request_seconds",
    "Time from a request's headers to the end of its response; a stream's ends when it is open.",
    ("method", "route", "status"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
HTTP_TURNED_AWAY = Counter(
    "tradestream_http_connections_turned_away_total",
    "Connections that were closed at once, because there were too many: in all, or from one address.",
    ("bound",),
)

# Accounts. `method`: password, or the name of an OAuth provider.
LOGINS = Counter(
    "tradestream_logins_total",
    "Logins: granted; bad_credentials, unverified (a password's); or what the frontend is answered for an OAuth login.",
    ("method", "result"),
)
REGISTRATIONS = Counter(
    "tradestream_registrations_total", "Registrations: made, or taken (the address was).", ("method", "result")
)
REFRESHES = Counter(
    "tradestream_refreshes_total",
    "Refresh tokens presented: granted; unknown; ended (its session has); reused (it was copied: its session ends).",
    ("result",),
)
MAIL_WAITING = Gauge(
    "tradestream_mail_waiting", "E-mails in the outbox.", ("purpose",), multiprocess_mode="livemostrecent"
)
MAIL_OLDEST_SECONDS = Gauge(
    "tradestream_mail_oldest_seconds",
    "Age of the e-mail that has waited longest.",
    ("purpose",),
    multiprocess_mode="livemostrecent",
)
MAIL_EMAILS = Counter(
    "tradestream_emails_total",
    "E-mails: sent; failed (an attempt, there will be another); given_up; needless (nobody to send it to).",
    ("purpose", "outcome"),
)

# The Lens pipeline, by stage.
EVENTS_ACCEPTED = Counter("tradestream_lens_events_accepted_total", "Raw signals answered with 201.")
STAGE_SECONDS = Histogram(
    "tradestream_lens_stage_seconds",
    "Time from taking an event into a stage's memory to the commit of its transition, or to its uncommitted hand-over.",
    ("stage",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0),
)
STAGE_OUTCOMES = Counter(
    "tradestream_lens_stage_outcomes_total",
    "Attempts that ended. advanced: handed on, committed or not; one that got lost on the way is made again.",
    ("stage", "outcome"),
)
STAGE_ACTIVE = Gauge(
    "tradestream_lens_stage_active", "Events in a stage's memory.", ("stage",), multiprocess_mode="livesum"
)
STAGE_DEPTH = Gauge(
    "tradestream_lens_stage_depth",
    "Events before a stage, in Postgres. What is handed on uncommitted counts where it was accepted or stored last.",
    ("stage",),
    multiprocess_mode="livemostrecent",
)
DEAD_LETTERS = Gauge(
    "tradestream_lens_dead_letters", "Unresolved dead letters.", ("stage",), multiprocess_mode="livemostrecent"
)
MODEL_SECONDS = Histogram(
    "tradestream_lens_model_seconds",
    "Time of one model's judgement.",
    ("model", "status"),
    buckets=(0.001, 0.01, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)

# The archive of full documents. Nothing waits in memory; `waiting` is MongoDB's, and grows while it is unavailable.
ARCHIVE_RUNS = Counter(
    "tradestream_lens_archive_runs_total", "Models' runs: stored, or dropped because they could not be.", ("outcome",)
)
ARCHIVE_COPIES = Counter(
    "tradestream_lens_archive_copies_total",
    "Documents: copied to MongoDB, or refused by it (they stay in Postgres and are tried again later).",
    ("outcome",),
)
ARCHIVE_LAG_SECONDS = Gauge(
    "tradestream_lens_archive_lag_seconds",
    "How long the document that has waited longest should have been in MongoDB.",
    multiprocess_mode="livemax",
)
ARCHIVE_EXPIRED = Counter(
    "tradestream_lens_archive_expired_total", "Rows and documents deleted because they were too old.", ("store",)
)

# The actor layer, by actor as it is named in Ray: a bounded set. Mailboxes are the senders'.
MAILBOX_DEPTH = Gauge(
    "tradestream_mailbox_depth", "Messages that wait to be sent.", ("actor",), multiprocess_mode="livesum"
)
MAILBOX_BATCH_MESSAGES = Histogram(
    "tradestream_mailbox_batch_messages",
    "Messages in one call.",
    ("actor",),
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
)
MAILBOX_CALL_SECONDS = Histogram(
    "tradestream_mailbox_call_seconds",
    "Time of one call, from the sender's side.",
    ("actor",),
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
MAILBOX_RETRIES = Counter("tradestream_mailbox_retries_total", "Calls that were made again.", ("actor",))
MAILBOX_REFUSED = Counter("tradestream_mailbox_refused_total", "Messages refused by a full mailbox.", ("actor",))
MAILBOX_EXPIRED = Counter("tradestream_mailbox_expired_total", "Messages past their deadline.", ("actor",))
ACTOR_BATCH_SECONDS = Histogram(
    "tradestream_actor_batch_seconds",
    "Time in which an actor processed a batch.",
    ("actor",),
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
ACTOR_MESSAGES = Counter("tradestream_actor_messages_total", "Messages processed, by result.", ("actor", "result"))
ACTOR_FIGURES = Gauge(
    "tradestream_actor_figures",
    "What an actor says of itself (entities in memory and the like).",
    ("actor", "figure"),
    multiprocess_mode="livemostrecent",
)

# The streams, by gateway. `kind`: sse, ws or lens; `reason`: an error's code, or GONE for a client that left.
POOL_CONNECTIONS = Gauge(
    "tradestream_postgres_pool_connections",
    "Connections to Postgres in the pools of gateways and actors, every few seconds: open ones, and those in use.",
    ("owner", "state"),
    multiprocess_mode="livesum",
)
STORE_UNAVAILABLE = Gauge(
    "tradestream_store_unavailable",
    "Processes that find postgres or redis unavailable.",
    ("store",),
    multiprocess_mode="livesum",
)
STREAMS_OPEN = Gauge("tradestream_streams_open", "Open streams.", ("kind",), multiprocess_mode="livesum")
STREAM_ENDED = Counter("tradestream_streams_ended_total", "Streams that ended.", ("kind", "reason"))
STREAM_DELIVERIES = Counter("tradestream_stream_deliveries_total", "Signals and decisions handed to a client's socket.")
STREAM_LAG_SECONDS = Histogram(
    "tradestream_stream_lag_seconds",
    "Time from a batch's arrival in the gateway until it was handed to its last client.",
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
FEED_FETCHED = Counter("tradestream_feed_fetched_total", "Signals that Redis has skipped, fetched from Postgres.")

# Scored signals of other systems. `way`: redis or kafka.
INGEST_MESSAGES = Counter(
    "tradestream_ingest_messages_total",
    "Messages: published, known (stored before), invalid or refused (now dead letters), resent (dead letters that are "
    "published now), dropped (by a full buffer), lost (not even a dead letter).",
    ("way", "result"),
)
INGEST_BUFFERED = Gauge(
    "tradestream_ingest_buffered",
    "Messages in memory that are not durable here yet.",
    ("way",),
    multiprocess_mode="livemostrecent",
)
INGEST_CONNECTED = Gauge(
    "tradestream_ingest_connected", "Whether a way in is open.", ("way",), multiprocess_mode="livemostrecent"
)
INGEST_LAG = Gauge(
    "tradestream_ingest_lag",
    "Messages of the Kafka topic that are not read yet.",
    multiprocess_mode="livemostrecent",
)

# Market data. `query` is one of the pipeline's six, `provider` the name of an adapter.
MARKET_QUESTIONS = Counter(
    "tradestream_market_questions_total",
    "Signals' queries: cached, shared (a call was under way), called (one was begun), held (none was allowed).",
    ("query", "met"),
)
MARKET_CALLS = Counter("tradestream_market_calls_total", "Calls to a provider.", ("query", "outcome"))
MARKET_CALL_SECONDS = Histogram(
    "tradestream_market_call_seconds",
    "Time of one call to a provider.",
    ("query",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
MARKET_BREAKER = Gauge(
    "tradestream_market_breaker",
    "The worst state of a provider's circuit breaker: 0 closed, 1 half-open, 2 open.",
    ("provider",),
    multiprocess_mode="livemax",
)


def observe_many(series: Histogram, values: Iterable[float]) -> None:
    """Observe a batch at once: each write goes to a shared file, and most of a batch fall into few buckets."""
    bounds, total, buckets = series._upper_bounds, 0.0, Tally[int]()  # noqa: SLF001 - it has no such method
    for value in values:
        total += value
        buckets[bisect_left(bounds, value)] += 1
    if buckets:
        series._sum.inc(total)  # noqa: SLF001
    for place, count in buckets.items():
        series._buckets[place].inc(count)  # noqa: SLF001


GATHER_SECONDS = 0.25
MOST_REQUESTS = 10_000  # whose times are kept: some 300 KB


class GatheredRequests:
    """Write counts and times of requests together, a quarter of a second after the first one.

    Each write to a shared file asks for the process's id and takes a lock; by itself, a request needed four. A process
    that is killed loses those of its last quarter of a second.
    """

    def __init__(self) -> None:
        self._seconds: dict[tuple[str, str, int], list[float]] = {}
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None  # whose timer will write

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        times = self._seconds.get((method, route, status))
        if times is None:
            times = self._seconds[method, route, status] = []
        times.append(seconds)
        self._count += 1
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.write()
            return
        if loop is not self._loop:
            self._loop = loop
            loop.call_later(GATHER_SECONDS, self.write)
        if self._count >= MOST_REQUESTS:
            self.write()

    def write(self) -> None:
        """Update the metrics: before they are read in this process, and at its end."""
        gathered, self._seconds, self._count, self._loop = self._seconds, {}, 0, None
        for (method, route, status), seconds in gathered.items():
            HTTP_REQUESTS.labels(method, route, str(status)).inc(len(seconds))
            observe_many(HTTP_REQUEST_SECONDS.labels(method, route, str(status)), seconds)


http_requests = GatheredRequests()
