"""Rollouts: policy, world and tasks to groups; one plan a file."""
