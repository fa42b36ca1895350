-- migrate:up

-- BTC, BTC/USD and BTC-PERP are one instrument, an option's is its contract with the full expiry: null where the symbol
-- itself is the name (schemas._instruments). A signal that is not ranked counts, and opens and closes nothing.
ALTER TABLE signals
    ADD COLUMN instrument text,
    ADD COLUMN is_ranked  boolean NOT NULL DEFAULT true;

UPDATE signals SET instrument = regexp_replace(symbol, '(/USD|-PERP)$', '')
WHERE asset_type IN ('crypto', 'stock', 'etf') AND symbol ~ '.(/USD|-PERP)$';

UPDATE signals s SET instrument = rtrim(substring(s.symbol FROM '^\S+ [0-9.]+[CP]')) || ' ' || coalesce(
    s.asset_data->>'expiry',
    CASE
        WHEN expiry ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' THEN expiry
        WHEN part[3] IS NOT NULL THEN lpad(part[3], 4, '20') || '-' || lpad(part[1], 2, '0') || '-' || lpad(part[2], 2, '0')
        ELSE (extract(year FROM day)::int + ((part[1]::int, part[2]::int) < (extract(month FROM day), extract(day FROM day)))::int)
             || '-' || lpad(part[1], 2, '0') || '-' || lpad(part[2], 2, '0')
    END)
FROM (
    SELECT id, substring(symbol FROM '\S+$') AS expiry, string_to_array(substring(symbol FROM '\S+$'), '/') AS part,
           created_at AT TIME ZONE 'America/New_York' AS day
    FROM signals WHERE asset_type = 'option' AND symbol ~ '^\S+ [0-9.]+[CP] ([0-9]+/[0-9]+(/[0-9]+)?|[0-9]{4}-[0-9]{2}-[0-9]{2})$'
) AS read
WHERE read.id = s.id;

-- Positions are matched by asset type and instrument; `symbol` is the instrument's name.
ALTER TABLE signal_outcomes ADD COLUMN asset_type text NOT NULL DEFAULT 'crypto';
UPDATE signal_outcomes o SET asset_type = s.asset_type, symbol = coalesce(s.instrument, s.symbol)
FROM signals s WHERE s.id = o.signal_id AND (s.asset_type <> 'crypto' OR s.instrument IS NOT NULL);
DROP INDEX signal_outcomes_open;
CREATE INDEX signal_outcomes_open ON signal_outcomes (provider_id, asset_type, symbol, direction, opened_seq)
    WHERE status = 'PENDING';

-- The filter `symbol` compares instruments too: any spelling finds every spelling.
DROP INDEX signals_symbol;
ALTER TABLE signals DROP COLUMN symbol_key;
ALTER TABLE signals ADD COLUMN symbol_key text NOT NULL
    GENERATED ALWAYS AS (regexp_replace(lower(symbol), '(.)(/usd|-perp)$', '\1')) STORED;
CREATE INDEX signals_symbol ON signals (symbol_key, created_at DESC, id DESC)
    INCLUDE (symbol, asset_type, action, score, provider_id, feed_seq);

DROP INDEX lens_events_symbol;
CREATE INDEX lens_events_symbol ON lens_events (regexp_replace(lower(symbol), '(.)(/usd|-perp)$', '\1'), event_id)
    INCLUDE (symbol);
DROP INDEX lens_decisions_symbol;
CREATE INDEX lens_decisions_symbol ON lens_decisions (regexp_replace(lower(symbol), '(.)(/usd|-perp)$', '\1'), id)
    INCLUDE (symbol);

-- migrate:down

DROP INDEX lens_decisions_symbol, lens_events_symbol;
CREATE INDEX lens_events_symbol ON lens_events (lower(symbol), event_id) INCLUDE (symbol);
CREATE INDEX lens_decisions_symbol ON lens_decisions (lower(symbol), id) INCLUDE (symbol);
DROP INDEX signals_symbol;
ALTER TABLE signals DROP COLUMN symbol_key;
ALTER TABLE signals ADD COLUMN symbol_key text NOT NULL
    GENERATED ALWAYS AS (regexp_replace(lower(symbol), '/usd$', '')) STORED;
CREATE INDEX signals_symbol ON signals (symbol_key, created_at DESC, id DESC)
    INCLUDE (symbol, asset_type, action, score, provider_id, feed_seq);
DROP INDEX signal_outcomes_open;
ALTER TABLE signal_outcomes DROP COLUMN asset_type;
CREATE INDEX signal_outcomes_open ON signal_outcomes (provider_id, symbol, direction, opened_seq)
    WHERE status = 'PENDING';
ALTER TABLE signals DROP COLUMN is_ranked, DROP COLUMN instrument;
