-- migrate:up

-- received_at: null for signals from before it was kept that came by a way other than Lens.
-- passing_score: what a stream's min_score is compared with, where that is not `score`: a close also passes by the signal
-- that it closes. Decided at the publication, so that live delivery and every replay agree.
ALTER TABLE signals
    ADD COLUMN received_at   timestamptz,
    ADD COLUMN passing_score smallint CHECK (passing_score BETWEEN 0 AND 100);

UPDATE signals s SET received_at = e.received_at FROM lens_events e WHERE e.event_id = s.id;

-- Adds the terms of a signal to what streams send of it; for older signals only as far back as can still be replayed.
UPDATE signals s
SET feed_data = left(s.feed_data, -1)
    || ',"event_type":"' || s.event_type || '"'
    || ',"direction":' || coalesce('"' || s.direction || '"', 'null')
    || ',"entry_price":' || CASE WHEN s.entry_price < 'Infinity' THEN trim_scale(s.entry_price)::text ELSE 'null' END
    || ',"commentary":' || coalesce(to_json(s.commentary)::text, 'null')
    || ',"received_at":'
    || coalesce(to_char(s.received_at AT TIME ZONE 'UTC', '"\""YYYY-MM-DD"T"HH24:MI:SS.MS"Z\""'), 'null') || '}'
WHERE s.feed_seq > (SELECT last_seq FROM feed_counter) - 100000;

-- migrate:down

ALTER TABLE signals DROP COLUMN received_at, DROP COLUMN passing_score;
