-- migrate:up

-- Which shard of a stage an event belongs to: this modulo LENS_SHARDS. It is the CRC-32 of the source, as
-- config.ids.key_hash computes it; Postgres itself has that function from version 18 on only.
CREATE FUNCTION pg_temp.crc32_of(given text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    data bytea := convert_to(given, 'UTF8');
    sum  bigint := 4294967295;
BEGIN
    FOR place IN 0 .. length(data) - 1 LOOP
        sum := sum # get_byte(data, place);
        FOR bit IN 1 .. 8 LOOP
            sum := (sum >> 1) # (CASE WHEN sum & 1 = 1 THEN 3988292384 ELSE 0 END);
        END LOOP;
    END LOOP;
    RETURN sum # 4294967295;
END $$;

ALTER TABLE lens_progress ADD COLUMN source_hash bigint;
UPDATE lens_progress p SET source_hash = s.hash
FROM lens_events e JOIN (
    SELECT source, pg_temp.crc32_of(source) AS hash FROM (SELECT DISTINCT source FROM lens_events) AS named
) AS s USING (source)
WHERE e.event_id = p.event_id;
ALTER TABLE lens_progress ALTER COLUMN source_hash SET NOT NULL;

DROP FUNCTION pg_temp.crc32_of;

-- migrate:down

ALTER TABLE lens_progress DROP COLUMN source_hash;
