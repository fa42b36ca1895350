"""The Lens pipeline: enqueue, enrich, evaluate, publish."""
