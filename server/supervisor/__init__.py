"""The parent process: PostgreSQL, Valkey, Ray and the gateways as its children."""
