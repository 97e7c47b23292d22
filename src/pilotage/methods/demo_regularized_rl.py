"""Demonstration-regularised RL: clone the expert, then maximise the reward less λ times the KL to the clone.

    V_h(s) = λ log Σ_a q_h(a|s) exp(Q_h(s,a)/λ),   π_h ∝ q_h exp(Q_h/λ),   q the clone,   λ = ε N_E / (H S A)

Tiapkin et al. 2024, arXiv 2310.17303. Cloning N_E episodes makes KL(expert || clone) = O(1/N_E), so that λ may grow
with N_E and the regularised problem needs only O(1 / (λ ε)) episodes. Three methods: UCBVI-Ent+ (counts), LSVI-UCB-Ent
(features), and rewards learnt from preferences between episodes of the clone (human feedback).

What is ours, for the paper has no experiments and no released code: the bonus is UCBVI's (Hoeffding's form, scaled);
the paper's, Bernstein's, is `learner.form=bernstein`, scaled too. Values are held below what can still be got, not H;
the certified gap's own bonus is b²/span (with Bernstein's: H span β/n); the clone of the linear variant has one-hot
features, so that the expert is sure to be among them, and κ = A/(N_E + A); the last policy is judged, not a mixture
(its value is the mean of `regret`). The expert is optimal but for 5 % of random actions. λ at 0 and no probing is the
baseline to the bit. Direction: KL(expert || clone) is what cloning makes small, KL(π || clone) what is penalised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import learn
from pilotage.data.piece import Piece, piece
from pilotage.methods.method import method
from pilotage.run.recipe import Recipe

PAPER = "Tiapkin et al. 2024, arXiv 2310.17303"


def _as(learner: Piece, base: Recipe) -> Piece:
    """The learner with the settings of the baseline's."""
    return learner.having(**base.learner.settings)


@method(
    "demo-regularized-rl",
    family="tabular",
    paper=PAPER,
    line="UCBVI-Ent+: reward less the KL to a clone of demonstrations, with soft backups",
    baseline="ucbvi",
    parts=("rollout", "learner", "regulariser"),
    claim="episodes needed fall as 1/N_E with the number of expert demonstrations: Poly(S, A, H) / (ε² N_E)",
    policy="table",
    worlds=("finite",),
)
def demo_regularized_rl(base: Recipe) -> Mapping[str, Any]:
    """A soft backup towards the clone, and one step an episode that tries the least certain action."""
    return {"rollout.probe": True, "learner": _as(piece(learn.optimism.Regularised), base)}


@method(
    "demo-regularized-rl-linear",
    family="tabular",
    paper=PAPER,
    line="LSVI-UCB-Ent: the same on features",
    baseline="lsvi-ucb",
    parts=("rollout", "learner", "regulariser"),
    claim="episodes needed fall as 1/N_E with the number of expert demonstrations: Poly(d, H) / (ε² N_E)",
    policy="table",
    worlds=("finite",),
)
def demo_regularized_rl_linear(base: Recipe) -> Mapping[str, Any]:
    """As with counts, with Gram matrices."""
    return {"rollout.probe": True, "learner": _as(piece(learn.optimism.Regularised), base)}


@method(
    "demo-regularized-rlhf",
    family="tabular",
    paper=PAPER,
    line="rewards from preferences between the clone's episodes, and no pessimism: the KL absorbs their error",
    baseline="demo-regularized-rl",
    parts=("learner",),
    claim="near-optimal from demonstrations and preferences, without pessimism",
    policy="table",
    worlds=("finite",),
)
def demo_regularized_rl_feedback(base: Recipe) -> Mapping[str, Any]:
    """The rewards that are paid are not read; those fitted to 200 labelled pairs are."""
    return {"learner": _as(piece(learn.feedback.Feedback), base)}
