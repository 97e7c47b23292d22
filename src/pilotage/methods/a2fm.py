"""A²FM's APO: every mode of answering is tried on each prompt, and costly modes are taxed where the cheap one would do.

    group of 3ρ + κ:  ρ answers forced into each of instant, reasoning and tool mode, κ in the mode that is chosen
    R = r_acc · r_form · r_adaptive,  r_adaptive = 1 if instant, else 1 - p^α,  p = mean r_acc of forced instant answers

A²FM 2025, arXiv 2510.12838. A mode is chosen by the text that an answer begins with; a forced prefix is injected and
not trained, a chosen one is, and that is how routing is learnt. What a tool replies is not trained. Advantages are
GRPO's over the whole group. ρ = κ = 3 and α = 2 are the paper's.

The released code runs models and trains none, so the rest is a reading, and a setting: p could come from all forced
answers (`credit.tax.rate`), be a running average (`over`), or leave the answer itself out; the parts of the reward are
multiplied (`form=additive` weights them), so that a violated form is worth 0; the paper's tax is for simple queries,
which a gate would make literal (`gate`; without one p^α fades by itself). At p = 1 a right answer in a costly mode is
worth as little as a wrong one: `floor` says what is left of it. Modes compete within a group: one that is weaker by
nature gets negative advantages when forced; `baseline=mode` compares forced answers with those of their mode only.
Without forced answers (`rollout.forced=0`) p has to come from chosen ones: `credit.tax.rate=instant`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import credit, rollouts
from pilotage.data.piece import Piece, piece
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe


@method(
    "a2fm",
    family="policy gradient",
    paper="A²FM 2025, arXiv 2510.12838",
    line="GRPO with answers forced into every mode, and a tax on costly modes where the cheap one suffices",
    baseline="grpo",
    parts=("rollout", "credit"),
    claim="instant answers 50.2 → 58.6 % at 55.6 → 54.7 points (SuperGPQA); cost per right answer -45 % (32B)",
    worlds=("modes",),
)
def a2fm(base: Recipe) -> Mapping[str, Any]:
    """Forced answers, the tax, groups of twelve, and what the choice of modes is worth; `rollout.forced=0` without the
    tax is GRPO to the bit."""
    return {
        "rollout": piece(rollouts.modes.Modes, forced=3),
        "samples_per_prompt": 12,
        "credit.tax": piece(credit.modes.Taxed),
        "evaluation.measures.routing": Piece("pilotage.run.routing:Routing"),
    }
