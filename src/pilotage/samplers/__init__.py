"""Samplers: what to try or to train on next."""
