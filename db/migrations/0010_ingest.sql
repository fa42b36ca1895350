-- migrate:up

-- The way by which a message came in that never became an event: the Redis channel or the Kafka topic of scored signals.
-- Null: the pipeline's own entries.
ALTER TABLE lens_dlq ADD COLUMN way text CHECK (way IN ('redis', 'kafka'));
-- What `ingest` takes up: looked for twice a second, so never by going through all that is unresolved.
CREATE INDEX lens_dlq_resent ON lens_dlq (id) WHERE way IS NOT NULL AND retrying AND resolved_at IS NULL;

-- migrate:down

DROP INDEX lens_dlq_resent;
ALTER TABLE lens_dlq DROP COLUMN way;
