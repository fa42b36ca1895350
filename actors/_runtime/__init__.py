"""Run the actors: names, references, processes, transactions. No domain."""
