"""Local servers that speak as the outside world does, on loopback, with its faults."""
