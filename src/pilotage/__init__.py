"""Pilotage: policy optimisation, one loop and 48 published methods as differences from their baselines."""
