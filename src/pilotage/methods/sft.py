"""SFT: maximum likelihood of demonstrations.

    L = -(1/N) Σ_d log π(a_d | s_d)

For language the demonstrations are the world's worked solutions; for actions they are recorded episodes of another
recipe (`data`; PPO by default), of which the half with the highest returns is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pilotage import learn, losses, rollouts
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective
from pilotage.methods.method import method
from pilotage.methods.roots import rate_of, speaks
from pilotage.methods.stacks import stacked
from pilotage.run.recipe import Recipe


@method(
    "sft",
    family="likelihood",
    paper="behaviour cloning: Pomerleau 1991",
    line="maximum likelihood of demonstrations",
    baseline=None,
    parts=("rollout", "loss"),
    kind="baseline",
)
def sft(base: Recipe) -> Mapping[str, Any]:
    """Demonstrations in place of play, likelihood in place of the policy gradient."""
    speaking = speaks(base)
    source: dict[str, Any] = (
        {"rollout": piece(rollouts.demonstrations.Demonstrations), "prompts_per_step": 128, "steps": 600}
        if speaking
        else {
            "rollout": piece(rollouts.stored.Stored),
            "data": stacked("ppo", replace(base, seed=0)),  # one record for all seeds
            "prompts_per_step": 8,
        }
    )
    return {
        **source,
        "samples_per_prompt": 1,
        "terms.policy.objectives.policy": Objective(piece(losses.imitation.likelihood)),
        "terms.policy.optimiser.learning_rate": rate_of(base.policy, "imitation_rate"),
        "terms.policy.schedule": piece(learn.schedules.cosine, final=0.05, warmup=0.05),
    }
