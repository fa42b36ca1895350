"""Tests of the streams with real clients and a real nginx."""
