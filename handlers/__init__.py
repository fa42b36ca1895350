"""One file per area of the API: load, authorise, ask, dump."""
