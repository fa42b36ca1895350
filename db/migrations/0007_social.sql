-- migrate:up

-- The key of the filter `symbol`: BTC finds BTC/USD too. A column, so that an index over it alone serves counts.
ALTER TABLE signals ADD COLUMN symbol_key text NOT NULL
    GENERATED ALWAYS AS (regexp_replace(lower(symbol), '/usd$', '')) STORED;

-- Lists are in the order of publication time. Each index holds all columns that filters use: a page is found, and a
-- list counted, without reading the table, whose rows are wide.
CREATE INDEX signals_newest ON signals (created_at DESC, id DESC)
    INCLUDE (asset_type, action, score, provider_id, feed_seq);
CREATE INDEX signals_symbol ON signals (symbol_key, created_at DESC, id DESC)
    INCLUDE (symbol, asset_type, action, score, provider_id, feed_seq);
CREATE INDEX signals_asset_type ON signals (asset_type, created_at DESC, id DESC)
    INCLUDE (action, score, provider_id, feed_seq);
CREATE INDEX signals_of_provider ON signals (provider_id, created_at DESC, id DESC)
    INCLUDE (asset_type, action, score, feed_seq);
DROP INDEX signals_provider;

-- Reactions of users to signals. One that was taken back stays, inactive: taking it back again is no error.
CREATE TABLE reactions (
    user_id       uuid NOT NULL REFERENCES users,
    signal_id     uuid NOT NULL REFERENCES signals,
    reaction_type text NOT NULL CHECK (reaction_type IN ('like', 'fire', 'rocket', 'sad')),
    is_active     boolean NOT NULL,
    reacted_at    timestamptz NOT NULL,
    PRIMARY KEY (user_id, signal_id, reaction_type)
);

-- id is a UUIDv7 of created_at. A deleted comment keeps its row; it is shown, without its text, while it has replies.
CREATE TABLE comments (
    id         uuid PRIMARY KEY,
    signal_id  uuid NOT NULL REFERENCES signals,
    user_id    uuid NOT NULL REFERENCES users,
    parent_id  uuid REFERENCES comments, -- of the same signal, and without a parent itself
    content    text NOT NULL,
    is_edited  boolean NOT NULL,
    created_at timestamptz NOT NULL,
    deleted_at timestamptz
);
CREATE INDEX comments_signal ON comments (signal_id, created_at, id) WHERE parent_id IS NULL;
CREATE INDEX comments_parent ON comments (parent_id, created_at, id) WHERE parent_id IS NOT NULL;
CREATE INDEX comments_user ON comments (user_id, signal_id);

-- Counters, kept in the transactions that change them: active reactions, and comments that are not deleted.
CREATE TABLE signal_counters (
    signal_id uuid PRIMARY KEY REFERENCES signals,
    likes     integer NOT NULL DEFAULT 0,
    fires     integer NOT NULL DEFAULT 0,
    rockets   integer NOT NULL DEFAULT 0,
    sads      integer NOT NULL DEFAULT 0,
    comments  integer NOT NULL DEFAULT 0
) WITH (fillfactor = 70);

-- The sum of the likes of a provider's signals, counted with them.
CREATE TABLE provider_likes (
    provider_id uuid PRIMARY KEY REFERENCES providers (user_id),
    likes       bigint NOT NULL
) WITH (fillfactor = 70);

-- migrate:down

DROP TABLE provider_likes, signal_counters, comments, reactions;
DROP INDEX signals_newest, signals_symbol, signals_asset_type, signals_of_provider;
CREATE INDEX signals_provider ON signals (provider_id, feed_seq);
ALTER TABLE signals DROP COLUMN symbol_key;
