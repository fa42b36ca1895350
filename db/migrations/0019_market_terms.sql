-- migrate:up

-- What a producer asks for beyond the documents. Null: the default, or nothing.
ALTER TABLE lens_events
    ADD COLUMN order_type     text CHECK (order_type IN ('market', 'limit')),
    ADD COLUMN take_profit    jsonb,        -- prices, of equal parts
    ADD COLUMN stop_loss      numeric,
    ADD COLUMN valid_until    timestamptz,
    ADD COLUMN close_fraction numeric CHECK (close_fraction > 0 AND close_fraction <= 1),
    DROP CONSTRAINT lens_events_entry_price_check,
    ADD CONSTRAINT lens_events_entry_price_check CHECK (entry_price > 0 OR (
        entry_price = 0 AND event_type = 'CLOSE_SIGNAL' AND asset_type IN ('option', 'prediction')));

-- The same of a published signal, and the market's quote at its receipt. `record_price` is the price that counts, null
-- where there was no quote. `way_in`: how the signal came. The salt is hashed with the texts, so that what they were can
-- be shown, and not guessed once both are deleted.
ALTER TABLE signals
    ADD COLUMN order_type        text CHECK (order_type IN ('market', 'limit')),
    ADD COLUMN take_profit       jsonb,
    ADD COLUMN stop_loss         numeric,
    ADD COLUMN liquidation_price numeric,
    ADD COLUMN valid_until       timestamptz,
    ADD COLUMN close_fraction    numeric CHECK (close_fraction > 0 AND close_fraction <= 1),
    ADD COLUMN quote_bid         numeric,
    ADD COLUMN quote_ask         numeric,
    ADD COLUMN quote_mid         numeric,
    ADD COLUMN quote_at          timestamptz,
    ADD COLUMN quote_source      text,
    ADD COLUMN record_price      numeric,
    ADD COLUMN way_in            text CHECK (way_in IN ('lens', 'redis', 'kafka', 'backfill')),
    ADD COLUMN text_salt         uuid DEFAULT gen_random_uuid(),
    ADD COLUMN retracted_at      timestamptz;

-- migrate:down

ALTER TABLE signals
    DROP COLUMN order_type, DROP COLUMN take_profit, DROP COLUMN stop_loss, DROP COLUMN liquidation_price,
    DROP COLUMN valid_until, DROP COLUMN close_fraction, DROP COLUMN quote_bid, DROP COLUMN quote_ask,
    DROP COLUMN quote_mid, DROP COLUMN quote_at, DROP COLUMN quote_source, DROP COLUMN record_price,
    DROP COLUMN way_in, DROP COLUMN text_salt, DROP COLUMN retracted_at;
ALTER TABLE lens_events
    DROP COLUMN order_type, DROP COLUMN take_profit, DROP COLUMN stop_loss, DROP COLUMN valid_until,
    DROP COLUMN close_fraction,
    DROP CONSTRAINT lens_events_entry_price_check,
    ADD CONSTRAINT lens_events_entry_price_check CHECK (entry_price > 0) NOT VALID;
