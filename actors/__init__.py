"""The owners of state: rules of the domain live here."""
