-- migrate:up

-- Signals that their providers took back. A retraction has a `feed_seq` of its own: it comes after its signal in the one
-- order of the feed. Written by lens/publish alone, with `signals.retracted_at`; rows never change.
CREATE TABLE retractions (
    feed_seq     bigint PRIMARY KEY,
    signal_id    uuid NOT NULL UNIQUE REFERENCES signals (id),
    provider_id  uuid NOT NULL,
    retracted_at timestamptz NOT NULL
);
CREATE INDEX retractions_provider ON retractions (provider_id, retracted_at);

-- migrate:down

DROP TABLE retractions;
