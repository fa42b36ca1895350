-- migrate:up

-- The source of a message that never became an event: the Redis channel or the Kafka topic of scored signals. Null: the
-- pipeline's own entries.
ALTER TABLE lens_dlq ADD COLUMN way text CHECK (way IN ('redis', 'kafka'));
-- Messages for `ingest` to retry: polled twice a second, so never by scanning all unresolved ones.
CREATE INDEX lens_dlq_resent ON lens_dlq (id) WHERE way IS NOT NULL AND retrying AND resolved_at IS NULL;

-- migrate:down

DROP INDEX lens_dlq_resent;
ALTER TABLE lens_dlq DROP COLUMN way;
