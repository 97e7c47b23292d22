"""Losses: pure functions of per-decision tensors; reduction is separate."""
