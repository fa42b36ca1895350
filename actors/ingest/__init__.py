"""Take in scored signals of other systems from Redis and Kafka, check them and hand them to `lens/publish`."""

INGEST = "ingest"
