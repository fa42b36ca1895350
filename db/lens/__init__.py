"""The SQL of the Lens pipeline: acceptance, stages, and what is read from outside."""
