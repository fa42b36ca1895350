-- migrate:up

-- Sessions of open streams while Redis, where they usually are, is unavailable. Usually empty.
CREATE TABLE stream_sessions (
    session    text PRIMARY KEY,
    epoch      bigint NOT NULL, -- raised by each take-over: an older one never replaces a newer
    n          bigint NOT NULL, -- of the newest event that is recorded
    record     bytea NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX stream_sessions_expiry ON stream_sessions (expires_at);

-- migrate:down

DROP TABLE stream_sessions;
