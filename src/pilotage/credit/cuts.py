"""Credit from forced stops: what thinking is worth by how answers change as it goes on."""

from __future__ import annotations

import torch
from torch import Tensor

from pilotage.data.batch import Batch
from pilotage.data.budgets import by_budget
from pilotage.data.piece import UsageError

PRIORS = ("uniform", "linear", "base")
BASELINES = ("budget", "group", "own", "none")


def prior_of(budgets: Tensor, prior: str) -> Tensor:
    """[…, S] the weight of each budget: the same for all, growing with the budget, or all on the last."""
    budgets = budgets.double()
    if prior == "uniform":
        return torch.full_like(budgets, 1 / budgets.shape[-1])
    if prior == "linear":
        return budgets / budgets.sum(-1, keepdim=True)
    last = torch.zeros_like(budgets)
    last[..., -1] = 1.0
    return last


def own_past(score: Tensor, prior: Tensor, recency: float) -> Tensor:
    """[T, S] V1: the mean of a thought's scores at the budgets before each segment, one step back weighing 1 / recency
    of the last, times the prior mass that is left; 0 for the first segment. Uses nothing measured after a segment
    began."""
    weight = recency ** torch.arange(score.shape[1], dtype=torch.float64)
    before = torch.zeros_like(score)  # sums that end one place earlier: by subtraction they would round by what follows
    before[:, 1:] = (weight * score).cumsum(1)[:, :-1]
    count = torch.cat([weight.new_zeros(1), weight.cumsum(0)[:-1]])
    mean = before / count.clamp(min=weight[0])
    return mean * tail(prior)


def tail(values: Tensor) -> Tensor:
    """[T, S] sums from each place on."""
    return values.flip(1).cumsum(1).flip(1)


def group_means(values: Tensor, group: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """[T, S] the mean over each thought's group, of those known [T], and how many these are [T]."""
    _, index = torch.unique(group, return_inverse=True)
    size = int(index.max()) + 1 if len(index) else 0
    total = values.new_zeros(size, values.shape[1]).index_add(0, index, torch.where(known[:, None], values, 0.0))
    count = values.new_zeros(size).index_add(0, index, known.double())
    return (total / count.clamp(min=1)[:, None])[index], count[index]


class BudgetRelative:
    """BRPO: a thinking token is credited with the scores at all budgets that it can influence, less a baseline that
    knows none of them; an answer with its score less that of the other answers at the same place.

    With c[s] a thought's mean score at budget s, P the prior and segment s the tokens from budget s - 1 to s:

        R[s] = sum_{t ≥ s} P_t c[t],   A[s] = R[s] - (s V1[s] + (S - s) V2[s]) / S

    V2 is the group's mean of R[s] (0 in groups of one), V1 `own_past`. baseline: "budget" is this, "group" V2 alone,
    "own" V1 alone, "none" neither. Where there is but one answer at a budget, answers are held against the group's mean
    at that budget instead. answers: "all" are trained, or those at the "last" budget only. No deviation anywhere.
    Thoughts with a budget at which no verdict is valid enter no mean and get 0.
    Writes `advantage` [D]. Reads what `pilotage.rollouts.budgets:Budgets` records. Qi et al. 2025, arXiv 2505.13438.
    """

    def __init__(
        self, *, prior: str = "uniform", baseline: str = "budget", recency: float = 2.0, answers: str = "all"
    ) -> None:
        for value, known, name in ((prior, PRIORS, "prior"), (baseline, BASELINES, "baseline")):
            if value not in known:
                raise UsageError(f"{name} {value!r} is not one of {', '.join(known)}")
        if answers not in ("all", "last") or not recency > 0:
            raise UsageError(f"answers is all or last, and recency above 0; not {answers!r} and {recency}")
        self.prior, self.baseline, self.recency, self.answers = prior, baseline, recency, answers
        self.told: dict[str, float] = {}

    def __call__(self, batch: Batch) -> Batch:
        if "stands_for" not in batch:
            raise UsageError("credit by budgets needs the rollout pilotage.rollouts.budgets:Budgets")
        score, counted = by_budget(batch)
        first, thought = _first_of(batch["thought"])
        known, group = counted.all(1), batch["group"][first]
        advantage = self.of_thinking(score, prior_of(batch["budgets"][first], self.prior), group, known)
        segment = batch["segment"]
        thinking = advantage[thought][batch.owner, segment.clamp(min=0)]
        answers = batch.spread(self.of_answers(batch, score, thought, group, known))
        found = torch.where(segment >= 0, thinking, torch.where(batch.sampled, answers, 0.0))
        return batch.with_columns(advantage=torch.where(batch.spread(batch.valid), found, 0.0).float())

    def of_thinking(self, score: Tensor, prior: Tensor, group: Tensor, known: Tensor) -> Tensor:
        """[T, S] advantages of the segments from scores and prior [T, S]; group [T], and whose scores are known [T]."""
        count = score.shape[1]
        returns = tail(prior * score)
        mean, members = group_means(returns, group, known)
        others = torch.where(members[:, None] > 1, mean, 0.0)
        own = own_past(score, prior, self.recency)
        place = torch.arange(count, dtype=torch.float64)
        value = {
            "budget": (place * own + (count - place) * others) / count,
            "group": others,
            "own": own,
            "none": torch.zeros_like(own),
        }[self.baseline]
        found = torch.where(known[:, None], returns - value, 0.0)
        if int(known.sum()) > 1:
            spread, whole = found[known].var(0), returns[known].var(0)
            self.told = {
                f"brpo/variance_{s + 1}": float(spread[s] / whole[s]) for s in range(count) if float(whole[s]) > 0
            }
        return found

    def of_answers(self, batch: Batch, score: Tensor, thought: Tensor, group: Tensor, known: Tensor) -> Tensor:
        """[E] each answer's score less the mean at its place, or at its budget over the group where it stands alone."""
        returns = torch.where(batch.valid, batch.returns.double(), 0.0)
        budget = batch["stands_for"].argmax(1)
        stands = torch.zeros_like(score).index_add(0, thought, batch["stands_for"].double())
        if int(stands.max()) > 1:
            _, place = torch.unique(batch["place"], return_inverse=True)
            size = int(place.max()) + 1
            total = returns.new_zeros(size).index_add(0, place, returns)
            count = returns.new_zeros(size).index_add(0, place, batch.valid.double())
            mean = (total / count.clamp(min=1))[place]
        else:
            mean = group_means(score, group, known)[0][thought, budget]
        if self.answers == "all":
            return returns - mean
        return torch.where(batch["stands_for"][:, -1] > 0, returns - mean, 0.0)

    def metrics(self) -> dict[str, float]:
        """Var(advantage) / Var(return) of each segment in the last step."""
        return self.told


def _first_of(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """The first episode of each thought [T], and each episode's thought [E], counted from 0 in the order of numbers."""
    known, index = torch.unique(numbers, return_inverse=True)
    first = torch.full((len(known),), len(numbers)).scatter_reduce(0, index, torch.arange(len(numbers)), "amin")
    return first, index


def progress(batch: Batch, *, alpha: float = 1.0, baseline: str = "group") -> Batch:
    """MRT: adds what going on has brought over stopping at the prefix, α (R_i - R_stop), to the advantage of each
    decision; with baseline "term" the advantage is R_i - R_stop alone.

    With "joint" the advantage stays as it is: stopped answers are members of the group (`rollout.answered`), so that
    rewards are normalised over both. Where messages were stopped at the ends of their episodes too, each token of
    thinking has the `gain` of its own episode in place of R_i - R_stop, and an answer nothing. Where no stopped answer
    has a valid verdict there is no bonus. Reads `stop_reward`. Qu et al. 2025, arXiv 2503.07572.
    """
    if baseline not in ("group", "term", "joint"):
        raise UsageError(f"baseline {baseline!r} is not group, term or joint")
    if "stop_reward" not in batch:
        raise UsageError(
            "progress needs the rollout pilotage.rollouts.prefixes:Prefixes or pilotage.rollouts.traces:Traces"
        )
    if bool(batch["stopped"].any()) != (baseline == "joint"):
        raise UsageError("rollout.answered=true and credit.progress.baseline=joint go together")
    if baseline == "joint":
        return batch
    if "gain" in batch:
        bonus = torch.where(batch.spread(batch.valid), batch["gain"].double(), 0.0)
    else:
        over_all = batch.returns.double() - batch["stop_reward"].double()
        bonus = batch.spread(torch.where(batch.valid & torch.isfinite(over_all), over_all, 0.0))
    if baseline == "term":
        return batch.with_columns(advantage=bonus.float())
    if alpha == 0:
        return batch
    return batch.with_columns(advantage=(batch["advantage"].double() + alpha * bonus).float())


def most_progress(batch: Batch) -> Batch:
    """MRT's filter: of the right messages (a return above 0) of a group only those of the most progress keep their
    labels; where no progress is known all do.

    Reads `progress` and `label`, writes `label` [D]. Qu et al. 2025, arXiv 2503.07572, figure 6, left.
    """
    if "progress" not in batch:
        raise UsageError("a choice by progress needs the rollout pilotage.rollouts.traces:Traces")
    made = torch.where(torch.isnan(batch["progress"]), -torch.inf, batch["progress"].double())
    _, group = torch.unique(batch["group"], return_inverse=True)
    right = torch.where(batch.valid & (batch.returns > 0), made, -torch.inf)
    most = torch.full((len(batch),), -torch.inf, dtype=torch.float64).scatter_reduce(0, group, right, "amax")
    chosen = made >= most[group]
    return batch.with_columns(label=torch.where(batch.spread(chosen), batch["label"], 0.0))
