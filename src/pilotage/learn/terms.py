"""What a learner is told to do: terms of objectives, each term with its parameters, optimiser and passes over the
data. Imports no torch: recipes are made of these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pilotage.data.piece import Piece, UsageError
from pilotage.losses.reduce import check_reduction


@dataclass(frozen=True)
class Objective:
    """One loss, how it is reduced over an optimiser step, and its weight in the term's sum.

    where: a bool column; decisions where it is false are left out, of the reduction's counts too. by: a column whose
    value each decision's loss is multiplied with, counts as they are: weights of samples.
    """

    loss: Piece
    reduction: str = "token"
    weight: float = 1.0
    where: str = ""
    by: str = ""

    def __post_init__(self) -> None:
        check_reduction(self.reduction)


@dataclass(frozen=True)
class Term:
    """Objectives that share an optimiser.

    parameters: "" all, "actor", "critic", or a prefix of parameter names. epochs: passes over the step's data.
    minibatches: optimiser steps a pass (1: the whole batch each). minibatch_decisions: instead, decisions an optimiser
    step (only where policies score single decisions). max_grad_norm: global clip, None for none. schedule: factor on
    the learning rate from progress in [0, 1). every: batches between updates of this term (1: each batch). after:
    batches before its first update, such as those in which a critic warms up. unit: what neither minibatches nor
    micro-batches may cut: "" leaves it to the policy (decisions, or episodes where scores need the past), "group" keeps
    groups whole, for losses that compare episodes.
    """

    objectives: Mapping[str, Objective]
    parameters: str = ""
    optimiser: Piece = field(default_factory=lambda: Piece("pilotage.learn.optimisers:adam"))
    schedule: Piece = field(default_factory=lambda: Piece("pilotage.learn.schedules:constant"))
    epochs: int = 1
    minibatches: int = 1
    minibatch_decisions: int | None = None
    max_grad_norm: float | None = 1.0
    every: int = 1
    unit: str = ""
    after: int = 0

    def __post_init__(self) -> None:
        if self.unit not in ("", "group"):
            raise UsageError(f"unit is group, or empty for what the policy scores; not {self.unit!r}")
        if self.unit and self.minibatch_decisions:
            raise UsageError("minibatches of whole groups are counted by minibatches, not by minibatch_decisions")
        if self.epochs < 1 or self.minibatches < 1 or self.every < 1:
            raise UsageError("epochs, minibatches and every are at least 1")
        if self.after < 0:
            raise UsageError(f"after is at least 0 batches, not {self.after}")
        if self.max_grad_norm is not None and self.max_grad_norm <= 0:
            raise UsageError("max_grad_norm is above 0, or none")


@dataclass(frozen=True)
class Target:
    """A named copy of the policy that follows it: every `every` batches, parameters move by the share `rate`.

    parameters: which of them follow, as in Term; the others keep their first values. rate 1 makes it a snapshot.
    warm: at the n-th move the share is at least 9 / (10 + n), so that an average does not linger at its start.
    """

    parameters: str = ""
    rate: float = 0.005
    every: int = 1
    warm: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1 or self.every < 1:
            raise UsageError("a target's rate is above 0 and at most 1, and every at least 1")
