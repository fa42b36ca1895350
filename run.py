"""The command line: `python run.py` serves; see `--help`."""
