-- migrate:up

-- The archive of full documents is put together from lens_events, lens_enriched, lens_decisions and these tables, which
-- hold what is used for nothing else: prompts to the models and their answers, failures included. With MONGO_URL they
-- are a queue: what has been copied is deleted. Retention goes by event_id, a UUIDv7.

-- One judgement by a model that was sent a prompt, or that failed. Written with the stage's transition.
CREATE TABLE lens_archive_runs (
    event_id      uuid NOT NULL,
    id            uuid NOT NULL,
    model         text NOT NULL,
    model_version text NOT NULL,
    status        text NOT NULL,
    reason_code   text,
    error         text,
    latency_ms    integer NOT NULL,
    tokens_used   bigint,
    prompt_hash   text,
    prompt_digest bytea,            -- of lens_archive_prompts, of the same event
    answer        text,
    stop_reason   text,
    truncated     boolean NOT NULL, -- a text of it was longer than the archive takes
    at            timestamptz NOT NULL,
    PRIMARY KEY (event_id, id)
);

-- The models of one event, and its retries, get the same texts: they are kept once.
CREATE TABLE lens_archive_prompts (
    event_id uuid NOT NULL,
    digest   bytea NOT NULL,
    name     text NOT NULL,
    system   text NOT NULL,
    question text NOT NULL,
    PRIMARY KEY (event_id, digest)
);

-- With MONGO_URL: events whose document there is missing or incomplete. version grows with each reason to copy again.
CREATE TABLE lens_archive_outbox (
    event_id uuid PRIMARY KEY,
    version  integer NOT NULL DEFAULT 1,
    due_at   timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX lens_archive_outbox_due ON lens_archive_outbox (due_at);

-- migrate:down

DROP TABLE lens_archive_outbox, lens_archive_prompts, lens_archive_runs;
