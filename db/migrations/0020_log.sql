-- migrate:up

-- The log of everything that records are computed from. Written by `ledger` alone; rows never change. `body` is the leaf:
-- JSON of actors/records/entries.py. A signal's entry has its `feed_seq`; entries about one position have its opening
-- signal, and the provider's id.
CREATE TABLE log_entries (
    index       bigint PRIMARY KEY,
    kind        text NOT NULL,
    body        bytea NOT NULL,
    feed_seq    bigint,
    signal_id   uuid,
    provider_id uuid
);
CREATE UNIQUE INDEX log_entries_signal ON log_entries (signal_id) WHERE kind = 'signal';
CREATE INDEX log_entries_provider ON log_entries (provider_id, index) WHERE provider_id IS NOT NULL;

-- The tiles of up to 256 hashes: those of level 0 once they are full, those above from their first hash on. A hash that
-- stands in one never changes either.
CREATE TABLE log_tiles (
    level  smallint,
    index  bigint,
    hashes bytea NOT NULL,
    PRIMARY KEY (level, index)
);

-- One row: the size of the tree, and how far the feed and the market were read.
-- Hours in which nothing was open have no mark: `reached_at` is the full hour that the log's time has come to.
CREATE TABLE log_state (
    is_only     boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    size        bigint NOT NULL,
    feed_seq    bigint NOT NULL,            -- the newest feed item that is in the log
    marked_at   timestamptz,                -- the full hour of the newest mark
    marked_size bigint NOT NULL DEFAULT 0,  -- the number of entries up to that mark
    reached_at  timestamptz
) WITH (fillfactor = 50);
INSERT INTO log_state (size, feed_seq) VALUES (0, 0);

-- Signed checkpoints that were served: the last of each day, and the newest. `vkey`: the public key that signed it.
CREATE TABLE log_checkpoints (
    size    bigint PRIMARY KEY,
    note    text NOT NULL,
    vkey    text NOT NULL,
    made_at timestamptz NOT NULL
);

-- What the owner of the log needs to know of each position that is open, and of each limit order that waits.
-- Written by `ledger` alone, in the transactions of the log. One that has ended stays for an hour of the log's time with
-- an `open_part` of 0, as the close may be retracted.
CREATE TABLE open_positions (
    signal_id         uuid PRIMARY KEY,
    provider_id       uuid NOT NULL,
    asset_type        text NOT NULL,
    instrument        text NOT NULL,
    side              text NOT NULL CHECK (side IN ('long', 'short')),
    opened_seq        bigint NOT NULL,      -- the feed_seq of its signal: the oldest is closed first
    received_at       timestamptz NOT NULL,
    declared_price    numeric NOT NULL,     -- of an order, its limit
    record_price      numeric,              -- null: unverified
    open_part         bigint NOT NULL,      -- in units of 1e-12 of the whole
    is_filled         boolean NOT NULL,     -- false: a limit order that waits
    take_profit       jsonb NOT NULL,       -- the targets that are left
    target_part       bigint NOT NULL,      -- what each target closes, in units of 1e-12
    stop_loss         numeric,
    liquidation_price numeric,
    floor_price       numeric,
    valid_until       timestamptz,          -- of an order
    watched_from      timestamptz NOT NULL, -- the first minute whose candle counts
    low_level         numeric,              -- a candle whose low is at or below it does something to the position,
    high_level        numeric,              -- likewise one whose high is at or above it
    ended_at          timestamptz           -- null while it is open
) WITH (fillfactor = 80);
CREATE INDEX open_positions_key ON open_positions (provider_id, asset_type, instrument, side, opened_seq);
CREATE INDEX open_positions_instrument ON open_positions (asset_type, instrument);

-- The instruments of those positions, as the source of prices is asked for them. Written by `ledger` alone.
CREATE TABLE open_instruments (
    asset_type    text NOT NULL,
    instrument    text NOT NULL,
    symbol        text NOT NULL,
    platform      text,
    market_id     text,
    expires_on    date,                     -- an option's expiry, a prediction's day of resolution
    checked_until timestamptz NOT NULL,     -- the market's minutes were looked at up to here
    mid           numeric,                  -- the last mid, and its full hour
    mid_at        timestamptz,
    PRIMARY KEY (asset_type, instrument)
) WITH (fillfactor = 80);

-- The splits that are in the log. Written by `ledger` alone.
CREATE TABLE applied_splits (
    asset_type text NOT NULL,
    instrument text NOT NULL,
    day        date NOT NULL,
    PRIMARY KEY (asset_type, instrument, day)
);

-- migrate:down

DROP TABLE applied_splits, open_instruments, open_positions, log_checkpoints, log_state, log_tiles, log_entries;
