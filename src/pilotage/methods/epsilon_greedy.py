"""Epsilon-greedy: a share of the rounds is played uniformly, the rest by the action that the oracle predicts best.

    π(a|x) = ε / K + (1 - ε) [a = argmax_b f(x, b)]

The simplest exploration: Sutton & Barto 2018, section 2.2. Each step is a generation: a batch of rounds, then one fit
of the oracle f to the last generation's rounds, without importance weights. The oracle is logistic; `policy.scorer`
says otherwise. The root of all bandit methods here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import data, learn, rollouts
from pilotage.data.piece import piece
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "epsilon-greedy",
    family="bandit",
    paper="Sutton & Barto 2018, section 2.2",
    line="uniform exploration for a share of the rounds, greedy for the rest",
    baseline=None,
    parts=("policy", "rollout", "store", "learner"),
    kind="baseline",
    policy="bandit",
    worlds=("bandit",),
)
def epsilon_greedy(base: Recipe) -> Mapping[str, Any]:
    """Rounds of length 1, a memory of one generation, a fit in place of gradients."""
    return {
        "policy.explore": "epsilon-greedy",
        "rollout": piece(rollouts.rounds.Rounds),
        "store": piece(data.memory.Memory),
        "terms": {},
        "learner": piece(learn.bandit.Fit),
        "prompts_per_step": 1000,
        "samples_per_prompt": 1,
        "steps": 30,
        "evaluation.every": 5,
        "evaluation.tasks": 1000,
    }
