-- migrate:up

-- Records from the market. All written by providers/{k} alone, as it reads the log; amounts are whole numbers of 1e-12.

-- How far each shard has read the log; written in the transaction that applies what was read.
CREATE TABLE provider_offsets (
    shards    integer NOT NULL,
    shard     integer NOT NULL,
    index     bigint NOT NULL,     -- the first entry that was not read
    day_index bigint NOT NULL,     -- the entry that ended the last day, whose books are closed; -1: none
    PRIMARY KEY (shards, shard)
) WITH (fillfactor = 50);

DROP TABLE provider_tails;  -- of the feed, which was read before

ALTER TABLE provider_stats ADD COLUMN applied_index bigint NOT NULL DEFAULT -1;  -- the newest entry that is in it

-- The entries that are about no provider: marks, splits, resolutions.
CREATE INDEX log_entries_market ON log_entries (index) WHERE provider_id IS NULL;

-- A provider's book (actors/records/book.py) as of an entry: at the end of a day, and after some hundreds of its own.
-- What comes later is computed from the log when it is shown.
CREATE TABLE record_books (
    provider_id   uuid PRIMARY KEY,
    applied_index bigint NOT NULL,   -- the newest entry that is in it
    is_active     boolean NOT NULL,  -- a day without entries changes it, too
    book          bytea NOT NULL
);
CREATE INDEX record_books_active ON record_books (provider_id) WHERE is_active;

-- The last mid of each instrument, in today's shares, for what is shown between days. Written by the first shard.
CREATE TABLE record_mids (
    asset_type text,
    instrument text,
    mid        numeric NOT NULL,
    hour       timestamptz NOT NULL,
    PRIMARY KEY (asset_type, instrument)
) WITH (fillfactor = 80);

-- The days of a provider's curve: those on which something was open.
CREATE TABLE record_days (
    provider_id uuid NOT NULL,
    day         date NOT NULL,
    result      numeric NOT NULL,
    equity      numeric NOT NULL,
    realised    numeric NOT NULL,
    open_result numeric NOT NULL,
    exposure    numeric NOT NULL,
    drawdown    numeric NOT NULL,
    PRIMARY KEY (provider_id, day)
);

-- What boards are computed from: a row per provider with a record, as of the end of its last day.
CREATE TABLE record_stats (
    provider_id    uuid PRIMARY KEY,
    day            date NOT NULL,
    as_of_seq      bigint NOT NULL,          -- the feed_seq of the newest signal before the day's end
    positions      bigint NOT NULL,          -- ever opened,
    unverified     bigint NOT NULL,          -- of them without a quote
    open_positions bigint NOT NULL,
    stale          bigint NOT NULL DEFAULT 0,  -- of these without a mark for a day
    bets           bigint NOT NULL,          -- closed and open
    wins           bigint NOT NULL,
    losses         bigint NOT NULL,
    gain_sum       numeric NOT NULL,
    loss_sum       numeric NOT NULL,         -- ≤ 0
    days           bigint NOT NULL,          -- with exposure
    day_sum        numeric NOT NULL,
    day_square_sum numeric NOT NULL,         -- of 1e-24
    first_on       date,                     -- the first day with exposure
    equity         numeric NOT NULL,
    open_result    numeric NOT NULL,
    max_drawdown   numeric NOT NULL,
    worst_day      numeric,
    daily_loss     numeric,                  -- the loss that 95 % of days stay within, ≥ 0
    eligible_since date                      -- the first day on which every gate was passed; kept for ever
) WITH (fillfactor = 80);

-- What a night says of providers among all others; written by the first shard once all have closed the day. The tenth
-- by the daily loss, 1 the smallest; and who moved with whom.
CREATE TABLE record_risks (
    provider_id uuid PRIMARY KEY,
    risk_score  smallint NOT NULL CHECK (risk_score BETWEEN 1 AND 10)
) WITH (fillfactor = 80);
CREATE TABLE record_correlations (
    provider_id uuid,
    other_id    uuid,
    correlation double precision NOT NULL,
    PRIMARY KEY (provider_id, other_id)
);

-- An outcome is closed in legs; the market, too, can end it. Since the log, `closed_seq` is the number of the entry that
-- closed it, from 1: no less than the feed_seq of any signal before, by which older outcomes are ordered. One that is
-- PENDING with an `open_part` of 0 waits for a resolution that did not come in time, and is left out.
ALTER TABLE signal_outcomes
    ADD COLUMN open_part     bigint NOT NULL DEFAULT 1000000000000,  -- of it, in units of 1e-12
    ADD COLUMN record_entry  numeric,        -- null: unverified
    ADD COLUMN record_return numeric,        -- to 12 decimals, of the prices that count
    ADD COLUMN close_reason  text CHECK (close_reason IN (
        'signal', 'take_profit', 'stop_loss', 'liquidation', 'floor', 'expiry', 'resolution', 'delisted')),
    ADD COLUMN legs          jsonb NOT NULL DEFAULT '[]',  -- amounts in units of 1e-12
    ADD COLUMN is_unmarked   boolean NOT NULL DEFAULT false;  -- a leg had no quote: it waits for the next mark
DROP INDEX signal_outcomes_open;
CREATE INDEX signal_outcomes_open ON signal_outcomes (provider_id, asset_type, symbol, direction, opened_seq)
    WHERE status = 'PENDING' AND open_part > 0;
CREATE INDEX signal_outcomes_unmarked ON signal_outcomes (provider_id) WHERE is_unmarked;

-- migrate:down

DROP INDEX signal_outcomes_open, signal_outcomes_unmarked;
CREATE INDEX signal_outcomes_open ON signal_outcomes (provider_id, asset_type, symbol, direction, opened_seq)
    WHERE status = 'PENDING';
ALTER TABLE signal_outcomes
    DROP COLUMN is_unmarked, DROP COLUMN open_part, DROP COLUMN record_entry, DROP COLUMN record_return, DROP COLUMN close_reason,
    DROP COLUMN legs;
DROP TABLE record_correlations, record_risks, record_stats, record_days, record_mids, record_books, provider_offsets;
DROP INDEX log_entries_market;
ALTER TABLE provider_stats DROP COLUMN applied_index;
CREATE TABLE provider_tails (
    shards   integer NOT NULL,
    shard    integer NOT NULL,
    feed_seq bigint NOT NULL,
    PRIMARY KEY (shards, shard)
) WITH (fillfactor = 50);
