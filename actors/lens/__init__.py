"""Run the Lens pipeline: enqueue, enrich, evaluate, publish."""
