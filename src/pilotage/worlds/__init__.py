"""Worlds: one adapter a file."""
