"""Where actors run: names, references, processes, transactions. No domain."""
