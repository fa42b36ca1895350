"""Measure the streams side by side with other servers: `python -m tests.benchmarks.streams --help`."""
