"""Policies: one kind a file."""
