-- migrate:up

-- What a provider says of itself. A system provider says nothing.
ALTER TABLE providers
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
-- A source of Lens may be called as it likes; people must not be called alike.
CREATE UNIQUE INDEX providers_name ON providers (lower(display_name)) WHERE NOT is_system;
CREATE INDEX providers_any_name ON providers (lower(display_name));

-- The track record, in figures. Written by providers/{k} alone: row by row as the feed goes on. No row: nothing yet.
-- Exact sums, from which the rounded figures follow; those are columns too, because lists are sorted by them.
CREATE TABLE provider_stats (
    provider_id        uuid PRIMARY KEY REFERENCES providers (user_id),
    total_signals      integer NOT NULL DEFAULT 0,
    win_count          integer NOT NULL DEFAULT 0,
    loss_count         integer NOT NULL DEFAULT 0,
    breakeven_count    integer NOT NULL DEFAULT 0,
    return_sum         numeric NOT NULL DEFAULT 0,  -- of the closed signals' returns
    return_square_sum  numeric NOT NULL DEFAULT 0,
    return_peak        numeric NOT NULL DEFAULT 0,  -- the highest that return_sum ever was, at least 0
    drawdown_peak      numeric NOT NULL DEFAULT 0,  -- of the deepest drawdown: the peak it came from
    drawdown_low       numeric NOT NULL DEFAULT 0,  -- and where it ended
    current_streak     integer NOT NULL DEFAULT 0,  -- PROFIT in a row
    longest_streak     integer NOT NULL DEFAULT 0,
    follower_count     integer NOT NULL DEFAULT 0 CHECK (follower_count >= 0),
    most_followers     integer NOT NULL DEFAULT 0,  -- the highest that follower_count ever was
    signal_likes_total bigint NOT NULL DEFAULT 0,
    win_rate           double precision,            -- null: nothing closed
    avg_return         double precision,
    total_return       double precision NOT NULL DEFAULT 0,
    sharpe_ratio       double precision,            -- null under 2 closed signals, or when they are all alike
    max_drawdown       double precision NOT NULL DEFAULT 0,
    verification_level text NOT NULL DEFAULT 'none' CHECK (verification_level IN ('none', 'basic', 'pro', 'elite')),
    verified_at        timestamptz,
    updated_at         timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 80);
CREATE INDEX provider_stats_followers ON provider_stats (follower_count DESC, provider_id);
CREATE INDEX provider_stats_win_rate ON provider_stats (win_rate DESC NULLS LAST, provider_id);
CREATE INDEX provider_stats_return ON provider_stats (avg_return DESC NULLS LAST, provider_id);
CREATE INDEX provider_stats_streak ON provider_stats (current_streak DESC, provider_id);

-- How far each shard of providers/{k} has read the feed; written in the transaction that takes in what it read.
CREATE TABLE provider_tails (
    actor    text PRIMARY KEY,
    feed_seq bigint NOT NULL
);

-- What became of an opening signal. PENDING until a closing one of the same provider, symbol and side takes it up.
CREATE TABLE signal_outcomes (
    signal_id   uuid PRIMARY KEY,
    provider_id uuid NOT NULL,
    symbol      text NOT NULL,
    direction   text NOT NULL CHECK (direction IN ('long', 'short')),
    entry_price numeric NOT NULL,
    opened_seq  bigint NOT NULL,
    opened_at   timestamptz NOT NULL,
    status      text NOT NULL CHECK (status IN ('PENDING', 'PROFIT', 'LOSS', 'BREAKEVEN')),
    return      numeric,
    closed_at   timestamptz,
    closed_by   uuid UNIQUE,
    closed_seq  bigint
) WITH (fillfactor = 80);
CREATE INDEX signal_outcomes_open ON signal_outcomes (provider_id, opened_seq) WHERE status = 'PENDING';
CREATE INDEX signal_outcomes_closed ON signal_outcomes (provider_id, closed_seq) WHERE status <> 'PENDING';
CREATE INDEX signal_outcomes_closed_at ON signal_outcomes (closed_at) WHERE status <> 'PENDING';

-- Who follows whom. Written by the provider's owner, with its follower_count.
CREATE TABLE follows (
    follower_id      uuid NOT NULL REFERENCES users,
    provider_id      uuid NOT NULL REFERENCES providers (user_id),
    notify_on_signal boolean NOT NULL,
    followed_at      timestamptz NOT NULL,
    PRIMARY KEY (follower_id, provider_id)
);
CREATE INDEX follows_provider ON follows (provider_id, followed_at);

-- How many a user follows, so that the limit holds whatever shards its follows go to; and whether it ever followed one.
CREATE TABLE following_counts (
    follower_id       uuid PRIMARY KEY REFERENCES users,
    following         integer NOT NULL CHECK (following >= 0),
    first_followed_at timestamptz NOT NULL
) WITH (fillfactor = 80);

-- Every follow (+1) and unfollow (-1): what a board of a week or a month is made of.
CREATE TABLE follower_changes (
    provider_id uuid NOT NULL,
    at          timestamptz NOT NULL,
    delta       smallint NOT NULL CHECK (delta IN (-1, 1))
);
CREATE INDEX follower_changes_provider ON follower_changes (provider_id, at);
CREATE INDEX follower_changes_at ON follower_changes USING brin (at);

-- migrate:down

DROP TABLE follower_changes, following_counts, follows, signal_outcomes, provider_tails, provider_stats;
DROP INDEX providers_name, providers_any_name;
ALTER TABLE providers
    DROP COLUMN bio, DROP COLUMN strategy_description, DROP COLUMN banner_url, DROP COLUMN website_url,
    DROP COLUMN twitter_handle, DROP COLUMN risk_level, DROP COLUMN specialties,
    ADD COLUMN win_rate double precision,
    ADD COLUMN follower_count integer NOT NULL DEFAULT 0 CHECK (follower_count >= 0),
    ADD COLUMN verification_level text NOT NULL DEFAULT 'none'
        CHECK (verification_level IN ('none', 'basic', 'pro', 'elite'));
