"""The learner: for each term, passes of optimiser steps over the sampled decisions of a batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.data.batch import Batch
from pilotage.data.piece import Bound, UsageError
from pilotage.data.rng import Streams
from pilotage.learn.diagnostics import explained_variance
from pilotage.learn.targets import Follower
from pilotage.learn.terms import Objective, Target, Term
from pilotage.losses.reduce import alone, decision_weights
from pilotage.losses.terms import Terms
from pilotage.policies.base import Minibatch, Policy, parameters_under, rows_of

GIVEN = frozenset({"rows", "progress", "targets"})  # what a loss may ask for besides quantities of the policy


REPORTED = 8  # diagnostics are worked out for every so many batches of a step, from its first on
START_TOLERANCE = 1e-2  # nats over two answers: rounding of the sampler's cache, not of another tokenisation


class RunStopped(Exception):
    """The run cannot go on: a NaN, a divergence or a rate above its limit. One line; the last checkpoint is intact."""


class Ranks:
    """The processes that share an optimiser step; here, this one alone. `engines.processes` has the others."""

    def sum(self, total: Tensor) -> Tensor:
        """The sum of a tensor over processes."""
        return total

    def sum_gradients(self, parameters: list[torch.nn.Parameter]) -> None:
        """Adds up gradients over processes, in place."""


@dataclass
class Tally:
    """Running weighted means of diagnostics over one update."""

    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)

    def add(self, name: str, value: float, count: float = 1.0) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + value * count
        self.counts[name] = self.counts.get(name, 0.0) + count

    def count(self, name: str) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + 1.0
        self.counts[name] = 1.0

    def means(self) -> dict[str, float]:
        return {name: total / max(self.counts[name], 1e-12) for name, total in self.sums.items()}


class ActiveTerm:
    """A term with its losses built, its parameters found and its optimiser made."""

    def __init__(self, name: str, term: Term, policy: Policy) -> None:
        self.name, self.term = name, term
        named = parameters_under(policy, term.parameters)
        if not named:
            raise UsageError(
                f"term {name!r} trains parameters {term.parameters!r}, and this policy has none of that name"
            )
        self.names, self.parameters = list(named), list(named.values())
        self.optimiser: torch.optim.Optimizer = term.optimiser.build(self.parameters)
        self.rate = float(self.optimiser.param_groups[0]["lr"])
        self.schedule = term.schedule.bound()
        self.step, self.seen = -1, 0
        self.losses: list[tuple[str, Objective, Bound]] = [
            (key, objective, objective.loss.bound())
            for key, objective in term.objectives.items()
            if objective.weight != 0
        ]
        for key, objective, loss in self.losses:
            loss.check(f"{name}.{key}: {objective.loss.use!r}", 0, (*policy.gives, *GIVEN))
        self.asks = frozenset(name for _, _, loss in self.losses for name in loss.names if name in policy.gives)
        # where critics of states learn, for each objective that does
        self.valued = [one.where for _, one, loss in self.losses if "value" in loss.names]
        # for each objective, columns without any of which it has no gradient at a decision
        silent = [(getattr(loss.function, "silent_where_zero", ""), one.where) for _, one, loss in self.losses]
        self.heard = frozenset(tuple(filter(None, columns)) for columns in silent)
        self.whole = term.unit == "group" or any(hasattr(loss.function, "over_episodes") for _, _, loss in self.losses)

    def reports(self, step: int) -> bool:
        """Whether diagnostics are worked out for this batch of a step; the next call is about the next."""
        self.seen = self.seen + 1 if step == self.step else 0
        self.step = step
        return self.seen % REPORTED == 0

    def clip(self) -> float:
        """Clips the gradient's global norm; returns what it was."""
        limit = self.term.max_grad_norm
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        size = float(norm)
        if limit is not None and size > limit:
            # a tensor: by a number, gradients are scaled one after the other, in four times the time
            torch._foreach_mul_(gradients, norm.new_tensor(limit / (size + 1e-6)))
        return size


class Learner:
    """Updates a policy from batches, term by term, and carries the optimisers' state and the policy's followers."""

    def __init__(
        self,
        policy: Policy,
        terms: Mapping[str, Term],
        streams: Streams,
        ranks: Ranks | None = None,
        targets: Mapping[str, Target] | None = None,
    ) -> None:
        self.policy, self.streams, self.ranks = policy, streams, ranks or Ranks()
        self.sum = alone if type(self.ranks) is Ranks else self.ranks.sum
        self.followers = {name: Follower(name, target, policy) for name, target in (targets or {}).items()}
        self.targets = {name: follower.policy for name, follower in self.followers.items()}
        self.terms = [ActiveTerm(name, term, policy) for name, term in terms.items()]
        self.batches = 0

    def update(self, batch: Batch, step: int, progress: float) -> dict[str, float]:
        """All terms once over the batch. Returns metrics; raises RunStopped at a NaN, naming term and step
        (`step` counts from 0, messages as the metrics do, from 1).

        Decisions that no objective of a term can learn from (where its `where` is false, or a column that its loss is
        silent without is 0) are not scored: the model reads them where others come after, and they count in every
        denominator. Reports, besides the losses' diagnostics (of a step's first batch and every eighth after it, on the
        last pass), the divergence of the sampler's log-probs from this policy's, measured before the first optimiser
        step (`mismatch/kl`, `mismatch/max`). Diagnostics are means over decisions that were scored and are in their
        objective's `where`; the divergence is over those that were scored and sampled in this step. Where a term's loss
        asks for `value`, and the batch says what it was (`value`) and should be (`return`), what was known before the
        update is `value/explained_variance`, over all decisions in that objective's `where`.
        """
        tally = Tally()
        usable = batch.select(batch.valid) if "valid" in batch and not bool(batch.valid.all()) else batch
        self.batches += 1
        due = [
            active
            for active in self.terms
            if self.batches % active.term.every == 0 and self.batches > active.term.after
        ]
        rows = {unit: self._rows(usable, unit) for unit in {active.term.unit for active in due}}
        for active in due:
            self._explained(active, rows[active.term.unit], tally)
        steps = sum(self._run(active, rows[active.term.unit], step, progress, tally) for active in due)
        for follower in self.followers.values():
            follower.follow(self.batches)
        return {**tally.means(), "optimiser_steps": float(steps)}

    def _explained(self, active: ActiveTerm, rows: Minibatch, tally: Tally) -> None:
        """Adds how much of its targets' variance a critic knew that has said its values before this update."""
        for where in active.valued if "value" in rows and "return" in rows else ():
            value, target = rows["value"], rows["return"]
            chosen = rows[where].bool() if where else slice(None)
            found = explained_variance(value[chosen], target[chosen], self.sum)
            if found is not None:
                tally.add("value/explained_variance", found)

    def _rows(self, batch: Batch, unit: str) -> Minibatch:
        return rows_of(batch, self.policy.needs_past, whole_groups=unit == "group")

    def _run(self, active: ActiveTerm, everything: Minibatch, step: int, progress: float, tally: Tally) -> int:
        for group in active.optimiser.param_groups:
            group["lr"] = active.rate * float(active.schedule(progress=progress))
        taken = 0
        reported = active.term.epochs - 1 if active.reports(step) else -1
        for epoch in range(active.term.epochs):
            for minibatch in self._minibatches(active, everything, step, epoch):
                first = epoch == 0 and taken == 0 and active is self.terms[0]
                taken += self._step(active, minibatch, step, progress, tally, first=first, report=epoch == reported)
        return taken

    def _minibatches(self, active: ActiveTerm, everything: Minibatch, step: int, epoch: int) -> Iterator[Minibatch]:
        """Optimiser steps of one pass, shuffled by (term, step, epoch); a single one is taken whole, in order."""
        term, size = active.term, self._over_ranks(len(everything))
        if size == 0:
            return
        count = term.minibatches
        if term.minibatch_decisions:
            count = max(1, round(size / term.minibatch_decisions))
        if count == 1:
            yield everything
            return
        # every process takes `count` steps, if need be some without data: the others wait for its gradients
        generator = self.streams.generator(f"minibatches/{active.name}", step, epoch)
        if everything.whole_groups and everything.episodes is not None:
            yield from self._groups(everything.episodes, count, generator)
            return
        if everything.episodes is not None:
            order = torch.from_numpy(generator.permutation(len(everything.episodes)))
            for part in order.tensor_split(count):  # each in the batch's order, where what episodes share is at hand
                yield rows_of(everything.episodes.select(part.sort().values), needs_past=True)
            return
        # shuffled whole and cut into views: gathering each column of each part costs more than small networks do
        shuffled = torch.from_numpy(generator.permutation(len(everything)))
        names = list(everything.columns)
        columns = (everything.columns[name][shuffled].tensor_split(count) for name in names)
        for owner, *cut in zip(everything.owner[shuffled].tensor_split(count), *columns, strict=True):
            yield Minibatch(dict(zip(names, cut, strict=True)), owner, torch.arange(len(owner)))

    def _groups(self, batch: Batch, count: int, generator: np.random.Generator) -> Iterator[Minibatch]:
        """So many minibatches of whole groups, whose members stand side by side in the batch."""
        _, sizes = torch.unique_consecutive(batch["group"], return_counts=True)
        members = torch.split(torch.arange(len(batch)), sizes.tolist())
        order = torch.from_numpy(generator.permutation(len(members)))
        for part in order.tensor_split(count):
            chosen = [members[i] for i in part.tolist()]
            yield self._rows(batch.select(torch.cat(chosen) if chosen else part), "group")

    def _over_ranks(self, number: float) -> float:
        if self.sum is alone:
            return float(number)
        return float(self.sum(torch.tensor(float(number), dtype=torch.float64)))

    def _step(
        self,
        active: ActiveTerm,
        minibatch: Minibatch,
        step: int,
        progress: float,
        tally: Tally,
        *,
        first: bool,
        report: bool,
    ) -> int:
        """One optimiser step; 0 if nothing in it had a gradient."""
        weights = {
            kind: self._weights(minibatch, *kind)
            for kind in {(one.reduction, one.where, one.by) for _, one, _ in active.losses}
        }
        for parameter in active.parameters:
            parameter.grad = None
        heard = _audible(minibatch, active.heard, active.whole)
        if self._over_ranks(heard is not None) == 0:
            if len(minibatch):
                tally.count("skipped_steps")
            return 0
        total = 0.0
        for part in self.policy.split(heard) if heard is not None else ():
            quantities = self.policy.quantities(part, active.asks)
            whole = part is minibatch  # and so in its order
            here = weights if whole else {how: weight[part.index] for how, weight in weights.items()}
            loss = self._loss(active, part, quantities, here, progress, tally, report, first and step == 0)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            if first and "logp" in quantities and "behaviour_logp" in part:
                _mismatch(tally, part, quantities["logp"].detach())
        total = self._over_ranks(total)
        if not math.isfinite(total):
            raise RunStopped(f"the loss of term {active.name!r} is {total} at step {step + 1}")
        self.ranks.sum_gradients(active.parameters)
        norm = active.clip()
        if not math.isfinite(norm):
            raise RunStopped(f"the gradient of term {active.name!r} is {norm} at step {step + 1}")
        active.optimiser.step()
        tally.add(f"{active.name}/loss", total)
        tally.add(f"{active.name}/gradient_norm", norm)
        return 1

    def _weights(self, minibatch: Minibatch, reduction: str, where: str, by: str) -> Tensor:
        """[S] what each decision's loss counts for in an objective, see `Objective`."""
        chosen = minibatch[where].bool() if where else None
        if chosen is None or bool(chosen.all()):
            weights = decision_weights(reduction, minibatch.owner, self.sum)
        else:
            weights = torch.zeros(len(minibatch))
            weights[chosen] = decision_weights(reduction, minibatch.owner[chosen], self.sum)
        return weights * minibatch[by] if by else weights

    def _loss(
        self,
        active: ActiveTerm,
        part: Minibatch,
        quantities: dict[str, Any],
        here: dict[tuple[str, str, str], Tensor],
        progress: float,
        tally: Tally,
        report: bool,
        fresh: bool,
    ) -> Tensor:
        """The term's weighted sum over one micro-batch, with its decisions' weights by reduction."""
        total: Tensor | None = None
        for key, objective, function in active.losses:
            terms: Terms = function(rows=part, progress=progress, targets=self.targets, **quantities)
            if fresh and terms.zero_at_start is not None:
                _check_start(active.name, key, terms.zero_at_start)
            share = here[objective.reduction, objective.where, objective.by]
            value = torch.dot(terms.loss, share.to(terms.loss.dtype))
            weighted = value if objective.weight == 1 else objective.weight * value
            total = weighted if total is None else total + weighted
            if report:
                with torch.no_grad():
                    chosen = part[objective.where].bool() if objective.where else None
                    count = len(part) if chosen is None else int(chosen.sum())
                    found = {key: terms.loss.detach(), **terms.diagnostics()} if count else {}
                    for name, values in found.items():
                        among = values if chosen is None or values.dim() == 0 else values[chosen]
                        tally.add(f"{active.name}/{name}", float(among.mean()), count)
        if total is None:
            raise UsageError(f"term {active.name!r} has no objective with a weight other than 0")
        return total

    def state_dict(self) -> dict[str, Any]:
        """Optimiser state by term and parameter name, followers, and how many batches there were."""
        return {
            "terms": {active.name: _optimiser_state(active) for active in self.terms},
            "targets": {name: follower.state_dict() for name, follower in self.followers.items()},
            "batches": self.batches,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for active in self.terms:
            _restore_optimiser(active, state["terms"][active.name])
        for name, follower in self.followers.items():
            follower.load_state_dict(state["targets"][name])
        self.batches = int(state["batches"])


def _audible(minibatch: Minibatch, heard: frozenset[tuple[str, ...]], whole: bool) -> Minibatch | None:
    """The minibatch without decisions that cannot give a gradient; None if those are all. heard: for each objective,
    columns all of which have to be other than 0 at a decision that gives one. whole: an episode with such a decision
    keeps all of its own."""
    if len(minibatch) == 0:
        return None
    if () in heard:
        return minibatch
    loud = torch.zeros(len(minibatch), dtype=torch.bool)
    for columns in heard:
        loud |= torch.stack([minibatch[column].ne(0) for column in columns]).all(0)
    if whole:
        speakers = torch.zeros(int(minibatch.owner.max()) + 1, dtype=torch.bool)
        speakers[minibatch.owner[loud]] = True
        loud = speakers[minibatch.owner]
    return minibatch.only(loud, heard_only=not whole) if bool(loud.any()) else None


def _check_start(term: str, objective: str, found: Tensor) -> None:
    """Raises RunStopped unless what has to be 0 before the first update of a run is."""
    largest = float(found.detach().abs().max()) if len(found) else 0.0
    if not largest <= START_TOLERANCE:
        raise RunStopped(
            f"{term}.{objective} should be at its start, where the policy is its own reference, and is off by "
            f"{largest:.3g} nats before the first update: the two do not score the same tokens"
        )


def _mismatch(tally: Tally, part: Minibatch, trainer: Tensor) -> None:
    """KL(sampler || trainer) from the decisions sampled in this step, and the largest difference of log-probs."""
    log_ratio = (trainer - part["behaviour_logp"]).double()
    if "current" in part:  # those of earlier windows were sampled by the policy as it was then
        log_ratio = log_ratio[part["current"]]
    if not len(log_ratio):
        return
    tally.add("mismatch/kl", float((log_ratio.exp() - 1 - log_ratio).mean()), len(log_ratio))
    tally.sums["mismatch/max"] = max(tally.sums.get("mismatch/max", 0.0), float(log_ratio.abs().max()))
    tally.counts["mismatch/max"] = 1.0


def _optimiser_state(active: ActiveTerm) -> dict[str, Any]:
    state = active.optimiser.state
    return {name: dict(state[p]) for name, p in zip(active.names, active.parameters, strict=True) if p in state}


def _restore_optimiser(active: ActiveTerm, saved: Mapping[str, Any]) -> None:
    if strange := set(saved) - set(active.names):
        raise UsageError(
            f"the checkpoint's optimiser of term {active.name!r} has {min(strange)!r}, which the policy has not: "
            "it was written by another version"
        )
    for name, parameter in zip(active.names, active.parameters, strict=True):
        if name in saved:
            kept = {key: value.clone() if isinstance(value, Tensor) else value for key, value in saved[name].items()}
            active.optimiser.state[parameter] = kept
