-- migrate:up

-- A provider's profile. A system provider's is empty. A person's row is written by providers/{k}, a system provider's
-- by lens/publish, once, at its first signal.
ALTER TABLE providers
    ADD COLUMN name_key             text,  -- a person's display_name as names are compared; null: a system provider
    ADD COLUMN bio                  text,
    ADD COLUMN strategy_description text,
    ADD COLUMN banner_url           text,
    ADD COLUMN website_url          text,
    ADD COLUMN twitter_handle       text,
    ADD COLUMN risk_level           text CHECK (risk_level IN ('conservative', 'moderate', 'aggressive')),
    ADD COLUMN specialties          text[] NOT NULL DEFAULT '{}',
    DROP COLUMN win_rate,
    DROP COLUMN follower_count,
    DROP COLUMN verification_level;
-- People's names must differ. A source of Lens may have any name, but it cannot be taken afterwards.
CREATE UNIQUE INDEX providers_name ON providers (name_key);
CREATE INDEX providers_system_name ON providers (lower(display_name)) WHERE is_system;

-- The track record, in figures: a row per provider. Written by providers/{k} alone, as it consumes the feed. The exact
-- sums, and beside them the figures that follow from them, rounded once to 4 decimals: lists are sorted by what they
-- show.
CREATE TABLE provider_stats (
    provider_id        uuid PRIMARY KEY REFERENCES providers (user_id),
    applied_seq        bigint NOT NULL DEFAULT 0,   -- the newest signal that is in it: none counts twice
    total_signals      integer NOT NULL DEFAULT 0,
    win_count          integer NOT NULL DEFAULT 0,
    loss_count         integer NOT NULL DEFAULT 0,
    breakeven_count    integer NOT NULL DEFAULT 0,
    return_sum         numeric NOT NULL DEFAULT 0,  -- of the closed signals' returns
    return_square_sum  numeric NOT NULL DEFAULT 0,
    return_peak        numeric NOT NULL DEFAULT 0,  -- the highest that return_sum ever was, at least 0
    drawdown_peak      numeric NOT NULL DEFAULT 0,  -- of the deepest drawdown: the return_peak that it fell from
    drawdown_low       numeric NOT NULL DEFAULT 0,  -- and the return_sum that it fell to
    current_streak     integer NOT NULL DEFAULT 0,  -- PROFIT in a row
    longest_streak     integer NOT NULL DEFAULT 0,
    follower_count     integer NOT NULL DEFAULT 0 CHECK (follower_count >= 0),
    most_followers     integer NOT NULL DEFAULT 0,  -- the highest that follower_count ever was
    win_rate           double precision,            -- null: nothing closed
    avg_return         double precision,
    total_return       double precision NOT NULL DEFAULT 0,
    sharpe_ratio       double precision,            -- null under 2 closed signals, or when they are all alike
    max_drawdown       double precision NOT NULL DEFAULT 0,
    verification_level text NOT NULL DEFAULT 'none' CHECK (verification_level IN ('none', 'basic', 'pro', 'elite')),
    verified_at        timestamptz
) WITH (fillfactor = 80);
CREATE INDEX provider_stats_followers ON provider_stats (follower_count DESC, provider_id);
CREATE INDEX provider_stats_win_rate ON provider_stats (win_rate DESC NULLS LAST, provider_id);
CREATE INDEX provider_stats_return ON provider_stats (avg_return DESC NULLS LAST, provider_id);
CREATE INDEX provider_stats_streak ON provider_stats (current_streak DESC, provider_id);
CREATE INDEX provider_stats_verified ON provider_stats (provider_id) WHERE verification_level <> 'none';

-- The feed offset of each shard of providers/{k}; written in the transaction that applies what it read.
CREATE TABLE provider_tails (
    shards   integer NOT NULL, -- of how many it is one
    shard    integer NOT NULL,
    feed_seq bigint NOT NULL,
    PRIMARY KEY (shards, shard)
) WITH (fillfactor = 50);

-- The outcome of an opening signal. PENDING until a signal of the same provider, symbol and side closes it: the oldest
-- first.
CREATE TABLE signal_outcomes (
    signal_id   uuid PRIMARY KEY,
    provider_id uuid NOT NULL,
    symbol      text NOT NULL,
    direction   text NOT NULL CHECK (direction IN ('long', 'short')),
    entry_price numeric NOT NULL CHECK (entry_price > 0),
    opened_seq  bigint NOT NULL,
    opened_at   timestamptz NOT NULL,
    status      text NOT NULL CHECK (status IN ('PENDING', 'PROFIT', 'LOSS', 'BREAKEVEN')),
    return      numeric,       -- to 12 decimals
    closed_at   timestamptz,
    closed_by   uuid UNIQUE,
    closed_seq  bigint
) WITH (fillfactor = 80);
CREATE INDEX signal_outcomes_open ON signal_outcomes (provider_id, symbol, direction, opened_seq)
    WHERE status = 'PENDING';
CREATE INDEX signal_outcomes_closed ON signal_outcomes (provider_id, closed_seq) WHERE status <> 'PENDING';
CREATE INDEX signal_outcomes_closed_at ON signal_outcomes (closed_at) WHERE status <> 'PENDING';

-- The streaks of providers that are people, written with their stats: signals closed with a PROFIT in a row, and days in
-- a row with a published signal. Dates are those of the user's zone at the time.
CREATE TABLE provider_streaks (
    provider_id   uuid NOT NULL REFERENCES providers (user_id),
    streak_type   text NOT NULL CHECK (streak_type IN ('profitable_signal', 'provider_signal')),
    current_count integer NOT NULL,
    longest_count integer NOT NULL,
    started_on    date NOT NULL,
    last_on       date NOT NULL,   -- the latest day that counted
    seen_on       date NOT NULL,   -- the day of the latest activity in `zone`
    zone          text NOT NULL,   -- as it was then
    PRIMARY KEY (provider_id, streak_type)
) WITH (fillfactor = 80);

-- Streaks that have ended.
CREATE TABLE provider_streak_runs (
    provider_id uuid NOT NULL REFERENCES providers (user_id),
    streak_type text NOT NULL,
    count       integer NOT NULL,
    started_on  date NOT NULL,
    ended_on    date NOT NULL      -- the last day of it
);
CREATE INDEX provider_streak_runs_provider ON provider_streak_runs (provider_id, streak_type, ended_on);

-- Follows. Written by the provider's owner, with its follower_count.
CREATE TABLE follows (
    follower_id      uuid NOT NULL REFERENCES users,
    provider_id      uuid NOT NULL REFERENCES providers (user_id),
    notify_on_signal boolean NOT NULL,
    followed_at      timestamptz NOT NULL,
    PRIMARY KEY (follower_id, provider_id)
);
CREATE INDEX follows_provider ON follows (provider_id, followed_at);

-- How many providers a user follows, so that the limit holds across the shards of its follows; and whether it ever
-- followed one. The one table that several owners write: each under a lock on the user's row.
CREATE TABLE following_counts (
    follower_id       uuid PRIMARY KEY REFERENCES users,
    following         integer NOT NULL CHECK (following >= 0),
    first_followed_at timestamptz
) WITH (fillfactor = 80);

-- Every follow (+1) and unfollow (-1), from which a board of a week or a month is computed. In the order of (feed_seq,
-- id) the changes of a provider stand where they happened among its signals.
CREATE TABLE follower_changes (
    id          bigint GENERATED ALWAYS AS IDENTITY,
    provider_id uuid NOT NULL,
    at          timestamptz NOT NULL,
    delta       smallint NOT NULL CHECK (delta IN (-1, 1)),
    feed_seq    bigint NOT NULL DEFAULT 0  -- the provider's applied_seq at that time
);
CREATE INDEX follower_changes_provider ON follower_changes (provider_id, at);
CREATE INDEX follower_changes_at ON follower_changes USING brin (at);

-- migrate:down

DROP TABLE follower_changes, following_counts, follows, provider_streak_runs, provider_streaks, signal_outcomes,
    provider_tails, provider_stats;
DROP INDEX providers_name, providers_system_name;
ALTER TABLE providers
    DROP COLUMN name_key, DROP COLUMN bio, DROP COLUMN strategy_description, DROP COLUMN banner_url,
    DROP COLUMN website_url, DROP COLUMN twitter_handle, DROP COLUMN risk_level, DROP COLUMN specialties,
    ADD COLUMN win_rate double precision,
    ADD COLUMN follower_count integer NOT NULL DEFAULT 0 CHECK (follower_count >= 0),
    ADD COLUMN verification_level text NOT NULL DEFAULT 'none'
        CHECK (verification_level IN ('none', 'basic', 'pro', 'elite'));
