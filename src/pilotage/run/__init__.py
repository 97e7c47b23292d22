"""Runs: the recipe, the loop, checkpoints, logs, evaluation, statistics, comparison."""
