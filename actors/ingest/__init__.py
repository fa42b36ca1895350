"""Scored signals of other systems: the Redis channel and the Kafka topic, checked and handed to `lens/publish`."""

INGEST = "ingest"
