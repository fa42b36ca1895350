-- migrate:up

-- Providers: a signal is attributed to one. A Lens source that is not a user's id names a system provider.
CREATE TABLE providers (
    user_id            uuid PRIMARY KEY,
    display_name       text NOT NULL,
    is_system          boolean NOT NULL DEFAULT false,
    avatar_url         text,
    win_rate           double precision,
    follower_count     integer NOT NULL DEFAULT 0 CHECK (follower_count >= 0),
    verification_level text NOT NULL DEFAULT 'none' CHECK (verification_level IN ('none', 'basic', 'pro', 'elite')),
    created_at         timestamptz NOT NULL DEFAULT now()
);

-- An accepted raw signal. Written once by lens/intake, never changed. event_id is a UUIDv7 of received_at, so the
-- primary key is also the order of arrival.
CREATE TABLE lens_events (
    event_id          uuid PRIMARY KEY,
    received_at       timestamptz NOT NULL,
    event_type        text NOT NULL CHECK (event_type IN ('OPEN_SIGNAL', 'CLOSE_SIGNAL')),
    signal_direction  text NOT NULL CHECK (signal_direction IN ('long', 'short', 'close_long', 'close_short')),
    symbol            text NOT NULL,
    entry_price       numeric NOT NULL CHECK (entry_price > 0),
    size              numeric NOT NULL CHECK (size > 0),
    liquidation_price numeric CHECK (liquidation_price > 0),
    ts_utc            timestamptz NOT NULL,
    source            text NOT NULL,
    asset_type        text NOT NULL,
    asset_data        jsonb,
    commentary        text
);
-- Symbols are looked up ignoring case. The column itself is included because without it Postgres does not take an index
-- over an expression for an index-only scan, which counts rely on.
CREATE INDEX lens_events_symbol ON lens_events (lower(symbol), event_id) INCLUDE (symbol);
CREATE INDEX lens_events_source ON lens_events (source, event_id);

-- The progress of an event: the one row of it that changes, kept narrow and apart from the facts, so that a transition
-- touches three small indexes and not those of lens_events.
CREATE TABLE lens_progress (
    event_id    uuid PRIMARY KEY,
    status      text NOT NULL CHECK (status IN
                    ('RECEIVED', 'ENQUEUED', 'ENRICHED', 'MODEL_DONE', 'PUBLISHED', 'REJECTED', 'FAILED')),
    stage       text NOT NULL CHECK (stage IN ('ENQUEUE', 'ENRICH', 'EVALUATE', 'PUBLISH', 'COMPLETE', 'DEAD_LETTER')),
    attempt     smallint NOT NULL DEFAULT 0,
    round       smallint NOT NULL DEFAULT 0,    -- how often it came back from the dead-letter queue; then no gate counts
    due_at      timestamptz NOT NULL,           -- not before: retries wait here, never in a worker
    lease_until timestamptz NOT NULL,           -- a stage that holds it has answered by then, or the sweeper re-takes it
    timeline    jsonb NOT NULL,                -- [{status, timestamp, details?}]
    failures    jsonb NOT NULL DEFAULT '[]',    -- of this stage: [{at, reason_code, error_message, model?}]
    finished_at timestamptz,
    edited      jsonb,                          -- the signal as a retry changed it, in full; null: as in lens_events
    asked       text[],                         -- the models that this round asks; null: every one
    announced   text[]                          -- published in an earlier round: the models whose decisions were published
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX lens_progress_status ON lens_progress (status, event_id);
CREATE INDEX lens_progress_open ON lens_progress (stage, due_at) WHERE finished_at IS NULL;

CREATE TABLE lens_idempotency (
    source      text NOT NULL,
    key         text NOT NULL,
    body_hash   bytea NOT NULL,
    event_id    uuid NOT NULL,
    received_at timestamptz NOT NULL,
    PRIMARY KEY (source, key)
);
CREATE INDEX lens_idempotency_age ON lens_idempotency USING brin (received_at);

-- The enriched document: the models' input. Needed until the event ends, then kept as its archive for
-- LENS_ARCHIVE_DAYS; profile and flags stay.
CREATE TABLE lens_enriched (
    event_id        uuid PRIMARY KEY,
    feature_profile text NOT NULL,
    quality_flags   jsonb NOT NULL,
    document        jsonb,
    enriched_at     timestamptz NOT NULL
);

-- One decision per event and model. symbol and event_type are copied from the (unchanging) event for the filters.
CREATE TABLE lens_decisions (
    id            uuid PRIMARY KEY,
    event_id      uuid NOT NULL,
    model         text NOT NULL,
    symbol        text NOT NULL,
    event_type    text NOT NULL,
    decision      text NOT NULL CHECK (decision IN ('FOLLOW_ENTER', 'IGNORE', 'FOLLOW_EXIT', 'HOLD', 'TIGHTEN_STOP')),
    confidence    double precision NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    entry_plan    jsonb,
    risk_plan     jsonb,
    size_pct      double precision NOT NULL,
    reasons       jsonb NOT NULL,
    model_version text NOT NULL,
    latency_ms    integer NOT NULL,
    tokens_used   integer NOT NULL DEFAULT 0,
    prompt_hash   text,
    evaluated_at  timestamptz NOT NULL,
    UNIQUE (event_id, model)
);
-- id is a UUIDv7 of evaluated_at: each of these is also in the order of time.
CREATE INDEX lens_decisions_symbol ON lens_decisions (lower(symbol), id) INCLUDE (symbol);
CREATE INDEX lens_decisions_model ON lens_decisions (model, id);
CREATE INDEX lens_decisions_decision ON lens_decisions (decision, id);
CREATE INDEX lens_decisions_event_type ON lens_decisions (event_type, id);
CREATE INDEX lens_decisions_confidence ON lens_decisions (confidence, id);

-- Dead letters. id is a UUIDv7 of created_at. event_id is null for a message that never became an event.
CREATE TABLE lens_dlq (
    id              uuid PRIMARY KEY,
    event_id        uuid,
    stage           text NOT NULL CHECK (stage IN ('enqueue', 'enrich', 'evaluate', 'publish')),
    model           text,
    reason_code     text NOT NULL,
    error_message   text NOT NULL,
    payload         jsonb NOT NULL,
    edited_payload  jsonb,
    attempts        jsonb NOT NULL, -- [{at, reason_code, error_message}]
    retry_count     integer NOT NULL,
    retrying        boolean NOT NULL DEFAULT false, -- its event is being processed again
    last_retry_at   timestamptz,
    resolved_at     timestamptz,
    resolution_note text,
    created_at      timestamptz NOT NULL
);
CREATE UNIQUE INDEX lens_dlq_one_open ON lens_dlq (event_id, stage, coalesce(model, '')) WHERE resolved_at IS NULL;
CREATE INDEX lens_dlq_event ON lens_dlq (event_id, id);
CREATE INDEX lens_dlq_stage ON lens_dlq (stage, id);
CREATE INDEX lens_dlq_reason ON lens_dlq (reason_code, id);
CREATE INDEX lens_dlq_open ON lens_dlq (id) INCLUDE (stage) WHERE resolved_at IS NULL;
CREATE INDEX lens_dlq_resolved ON lens_dlq (id) WHERE resolved_at IS NOT NULL;

-- A published signal: immutable. feed_seq is the dense order of the public feed; only lens/publish assigns it.
CREATE TABLE signals (
    id                 uuid PRIMARY KEY,
    feed_seq           bigint NOT NULL UNIQUE,
    provider_id        uuid NOT NULL REFERENCES providers (user_id),
    asset_type         text NOT NULL,
    asset_category     text NOT NULL,
    symbol             text NOT NULL,
    action             text NOT NULL CHECK (action IN ('buy', 'sell', 'hold', 'yes', 'no')),
    event_type         text NOT NULL CHECK (event_type IN ('OPEN_SIGNAL', 'CLOSE_SIGNAL')),
    direction          text CHECK (direction IN ('long', 'short')),
    entry_price        numeric,
    size               numeric,
    score              smallint NOT NULL CHECK (score BETWEEN 0 AND 100),
    tier               text NOT NULL,
    confidence         double precision,
    factors            jsonb,
    strategy_breakdown jsonb,
    market_context     jsonb,
    reasoning          text NOT NULL,
    commentary         text,
    asset_data         jsonb NOT NULL,
    feed_data          text NOT NULL, -- the feed's JSON of this signal, encoded once: what every stream and replay sends
    created_at         timestamptz NOT NULL
);
CREATE INDEX signals_provider ON signals (provider_id, feed_seq);

CREATE TABLE feed_counter (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    last_seq bigint NOT NULL
);
INSERT INTO feed_counter (last_seq) VALUES (0);

-- migrate:down

DROP TABLE feed_counter, signals, lens_dlq, lens_decisions, lens_enriched, lens_idempotency, lens_progress, lens_events,
    providers;
