"""Settings, logging and the small tools every other room uses."""
