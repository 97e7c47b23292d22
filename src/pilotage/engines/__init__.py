"""Engines: where the work runs (this process by default)."""
