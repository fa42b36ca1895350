"""Measures the streams side by side with others' servers: `python -m tests.benchmarks.streams --help`."""
