"""Experiments: one file a paper, its criterion written before the run; what came out is in `results`."""
