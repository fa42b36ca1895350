-- migrate:up

-- Records from the market. All written by providers/{k} alone, as it reads the log; amounts are whole numbers of 1e-12.

-- How far each shard has read the log; written in the transaction that applies what was read.
CREATE TABLE provider_offsets (
    shards integer NOT NULL,
    shard  integer NOT NULL,
    index  bigint NOT NULL,        -- the first entry that was not read
    PRIMARY KEY (shards, shard)
) WITH (fillfactor = 50);

ALTER TABLE provider_stats ADD COLUMN applied_index bigint NOT NULL DEFAULT -1;  -- the newest entry that is in it

-- A provider's book (actors/records/curve.py) at the end of its last day.
CREATE TABLE record_books (
    provider_id   uuid PRIMARY KEY,
    day           date NOT NULL,
    applied_index bigint NOT NULL,  -- the entry of the mark that closed the day
    book          bytea NOT NULL
);

-- The days of a provider's curve; `result` is null where nothing was open.
CREATE TABLE record_days (
    provider_id uuid NOT NULL,
    day         date NOT NULL,
    result      numeric,
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

-- An outcome is closed in legs; the market, too, can end it.
ALTER TABLE signal_outcomes
    ADD COLUMN open_part     bigint NOT NULL DEFAULT 1000000000000,  -- of it, in units of 1e-12
    ADD COLUMN record_entry  numeric,        -- null: unverified
    ADD COLUMN record_return numeric,        -- to 12 decimals, of the prices that count
    ADD COLUMN close_reason  text CHECK (close_reason IN (
        'signal', 'take_profit', 'stop_loss', 'liquidation', 'floor', 'expiry', 'resolution', 'delisted')),
    ADD COLUMN legs          jsonb;          -- null: none yet, or one that closed all of it

-- migrate:down

ALTER TABLE signal_outcomes
    DROP COLUMN open_part, DROP COLUMN record_entry, DROP COLUMN record_return, DROP COLUMN close_reason,
    DROP COLUMN legs;
DROP TABLE record_stats, record_days, record_books, provider_offsets;
ALTER TABLE provider_stats DROP COLUMN applied_index;
