"""Settings, logging and the small tools that every other layer uses."""
