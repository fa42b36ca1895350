"""The SQL of providers: track records, follows, profiles."""
