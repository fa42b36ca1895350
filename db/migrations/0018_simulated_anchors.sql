-- migrate:up

-- What each instrument of the simulated market starts at: its first declared price, never changed again. Written by
-- whoever prices a signal with MARKET_DATA=simulated; the first of several wins.
CREATE TABLE simulated_anchors (
    asset_type  text NOT NULL,
    instrument  text NOT NULL,
    price       numeric NOT NULL CHECK (price > 0),
    declared_at timestamptz NOT NULL,
    PRIMARY KEY (asset_type, instrument)
);

-- migrate:down

DROP TABLE simulated_anchors;
