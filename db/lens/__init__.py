"""The SQL of the Lens pipeline: intake, stages, and what the API reads."""
