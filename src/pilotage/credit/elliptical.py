"""A bonus for answers that are novel within their group, seen by hidden states of the start: the elliptical bonus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pilotage.credit.novelty import POOLINGS, embeddings, leverages, sparse_projection
from pilotage.credit.reference import Frozen
from pilotage.credit.shaping import shaping, with_returns
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.losses.reduce import moments
from pilotage.policies.base import Policy

FORMS = ("leverage", "leave-one-out")
SCALINGS = ("none", "std", "z")
GATES = ("none correct", "some correct", "all correct", "itself wrong")


@shaping
class Elliptical(Frozen):
    """Adds novelty to returns, r ← alpha r + beta l at an answer's last token, with l from its group's features.

        h = R' mean_t(state_t) less the group's mean,   l_i = h_i' (ridge I + Σ_j h_j h_j')^-1 h_i

    States are last-layer ones of the policy as the run began; R is a sparse random projection to `dimension` numbers
    (0: none), drawn anew each step (`redraw`), all in float64. Invalid episodes are in no sum and get no bonus.

    form: "leverage" l, or "leave-one-out" l / (1 - l), which leaves the answer itself out of the sum.
    normalise: "none", "std" or "z" (also less the mean) over all bonuses of the step that no gate holds back.
    off: where the bonus is 0: for a group with "none correct", "some correct" or "all correct", for an answer that is
        "itself wrong"; correct is a return of at least `correct`.
    persist: of so many prompts, the latest, what the steps before have shown counts in the sum, all of it about the
        mean over steps; needs redraw off. pooling: see `novelty.embeddings`.

    Writes `reward`, and `verdict`, the rewards as they were, both [D]. Tuyls et al. 2025, arXiv 2510.11686. The
    released code keeps old features about the means of their own steps where it persists; here old and new are about
    one mean. What its normalisations run over is not known to us.
    """

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        beta: float = 0.01,
        ridge: float = 0.01,
        dimension: int = 32,
        form: str = "leverage",
        normalise: str = "none",
        off: tuple[str, ...] = ("none correct",),
        correct: float = 1.0,
        redraw: bool = True,
        persist: int = 0,
        pooling: str = "mean",
    ) -> None:
        super().__init__()
        chosen = (("form", form, FORMS), ("normalise", normalise, SCALINGS), ("pooling", pooling, POOLINGS))
        for name, value, known in (*chosen, *(("off", gate, GATES) for gate in off)):
            if value not in known:
                raise UsageError(f"{name} is one of {', '.join(known)}; not {value!r}")
        if ridge <= 0 or dimension < 0 or persist < 0:
            raise UsageError("ridge is above 0, dimension and persist at least 0")
        if persist and redraw and dimension:
            raise UsageError("what is kept over steps needs one projection: set credit.bonus.redraw=false")
        self.alpha, self.beta, self.ridge, self.dimension = alpha, beta, ridge, dimension
        self.form, self.normalise, self.off, self.correct = form, normalise, off, correct
        self.redraw, self.persist, self.pooling = redraw, persist, pooling
        self.seen: dict[int, tuple[int, Tensor, Tensor]] = {}  # of a task: count, mean [d], scatter about it [d, d]
        self.said: dict[str, float] = {}

    def __call__(self, batch: Batch, policy: Policy, streams: Streams, step: int) -> Batch:
        open_to = self._ungated(batch)
        found, spreads = torch.zeros(len(batch), dtype=torch.float64), []
        for members, features in self._groups(batch, open_to, policy, streams, step):
            one = self._novelty(int(batch["task"][members[0]]) if self.persist else 0, features)
            found[members] = one
            spreads.append(float(one.std(correction=0)))
        counted = found[open_to]
        self.said = {"bonus/gated": 1 - float(open_to.double().sum() / batch.valid.sum().clamp(min=1))}
        if len(counted):
            self.said |= {"bonus/mean": float(counted.mean()), "bonus/spread": sum(spreads) / len(spreads),
                          "bonus/least": float(counted.min()), "bonus/most": float(counted.max())}  # fmt: skip
        kept = torch.zeros_like(found)
        kept[open_to] = self._normalised(counted)
        return with_returns(batch, self.alpha * batch.returns + self.beta * kept)

    def metrics(self) -> dict[str, float]:
        """Of the last step, before normalisation: `bonus/mean`, `least` and `most`, `bonus/spread` (the deviation
        within a group, averaged over groups), and `bonus/gated`, the share of valid answers that a gate held back."""
        return self.said

    def _ungated(self, batch: Batch) -> Tensor:
        """[E] bool: valid answers that no gate holds back."""
        right, valid = batch.returns >= self.correct, batch.valid
        _, group = torch.unique(batch["group"], return_inverse=True)
        groups = int(group.max()) + 1 if len(group) else 0
        some = torch.zeros(groups).index_add_(0, group, (right & valid).float())[group] > 0
        all_of_them = torch.zeros(groups).index_add_(0, group, (~right & valid).float())[group] == 0
        held = {"none correct": ~some, "some correct": some, "all correct": all_of_them, "itself wrong": ~right}
        for gate in self.off:
            valid = valid & ~held[gate]
        return valid

    def _groups(
        self, batch: Batch, open_to: Tensor, policy: Policy, streams: Streams, step: int
    ) -> list[tuple[Tensor, Tensor]]:
        """Indices of the valid members of each group that any bonus is open to, and their projected features [k, d]."""
        wanted = torch.isin(batch["group"], batch["group"][open_to]) & batch.valid
        index = wanted.nonzero().squeeze(-1)
        if not len(index):
            self.start(policy)  # the run's start is now, whether or not it is asked
            return []
        features = embeddings(batch.select(index), self.start(policy), self.pooling)
        if self.dimension:
            drawn = streams.generator("projection", step if self.redraw else 0)
            features = features @ sparse_projection(drawn, features.shape[1], self.dimension)
        group = batch["group"][index]
        return [(index[group == one], features[group == one]) for one in torch.unique(group)]

    def _novelty(self, task: int, features: Tensor) -> Tensor:
        """[k] the bonuses of one group, before normalisation."""
        mean, scatter = features.mean(0), None
        if self.persist:
            mean, scatter = self._remembered(task, features)
        found = leverages(features - mean, self.ridge, scatter)
        return found / (1 - found) if self.form == "leave-one-out" else found

    def _remembered(self, task: int, features: Tensor) -> tuple[Tensor, Tensor]:
        """The mean [d] over a task's features, old and new, and the old ones' scatter [d, d] about it."""
        size = features.shape[1]
        count, mean, scatter = self.seen.pop(task, (0, features.new_zeros(size), features.new_zeros(size, size)))
        total = count + len(features)
        both = (count * mean + features.sum(0)) / total
        old = scatter + count * torch.outer(mean - both, mean - both)
        new = features - both
        self.seen[task] = (total, both, old + new.T @ new)
        while len(self.seen) > self.persist:
            del self.seen[next(iter(self.seen))]  # that which was met longest ago
        return both, old

    def _normalised(self, values: Tensor) -> Tensor:
        if self.normalise == "none":
            return values
        count, mean, squares = moments(values)
        deviation = (squares / (count - 1).clamp(min=1)).sqrt()
        centred = values - mean if self.normalise == "z" else values
        return centred / deviation if float(deviation) > 0 else torch.zeros_like(values)

    def state_dict(self) -> dict[str, Any]:
        """The start's weights, and what is remembered of prompts."""
        return {**super().state_dict(), "seen": [[task, *values] for task, values in self.seen.items()]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.seen = {int(task): (int(count), mean, scatter) for task, count, mean, scatter in state["seen"]}
