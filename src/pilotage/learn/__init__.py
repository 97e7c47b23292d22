"""Learner: terms of losses, parameters and optimisers."""
