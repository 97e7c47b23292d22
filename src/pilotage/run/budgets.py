"""Measures of thinking: what a policy's answers are worth when it is stopped, by budget and as it goes on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from pilotage.data.budgets import by_budget
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.policies.base import Policy
from pilotage.rollouts.budgets import Budgets
from pilotage.rollouts.messages import draws, speaking
from pilotage.rollouts.stops import Stem, Stops, mean_reward
from pilotage.rollouts.traces import stopped
from pilotage.run.evaluate import distinct
from pilotage.run.recipe import Recipe
from pilotage.worlds.base import World


class AccuracyByBudget:
    """`budgets/accuracy_B`, the mean score of answers forced after B tokens of thinking (or given before); `budgets/
    anytime`, the mean over budgets; `budgets/thinking`, tokens of thinking within the last.

    One thought on each held-out task, at the evaluation's temperature, and `answers` answers at each budget, on at most
    as many tasks as the evaluation has. budgets: empty: those of the recipe's rollout where it has any, else `cuts`
    equal parts of the world's bound. The others are those of `pilotage.rollouts.stops:Stops`.
    """

    def __init__(
        self,
        *,
        budgets: Sequence[int] = (),
        cuts: int = 4,
        answers: int = 1,
        tasks: int = 200,
        marker: str | None = None,
        hurry: str = "",
        answer_tokens: int | None = None,
        strict: bool = True,
    ) -> None:
        self.plan = Budgets(
            budgets=budgets, cuts=cuts, answers=answers, marker=marker, hurry=hurry, answer_tokens=answer_tokens,
            strict=strict,
        )  # fmt: skip
        self.tasks = tasks

    def __call__(self, policy: Policy, world: World, recipe: Recipe, step: int, streams: Streams) -> dict[str, float]:
        plan = self.plan
        if not plan.budgets and isinstance(trained := recipe.rollout.build(), Budgets):
            plan.budgets, plan.cuts = trained.budgets, trained.cuts
        plan.check(policy, world)
        plan.temperature = recipe.evaluation.temperature
        tasks = distinct(world, min(self.tasks, recipe.evaluation.tasks))
        score, known = by_budget(plan.converse(policy, world, tasks, 1, streams, "measure/budgets", step))
        means = [float(score[known[:, s], s].mean()) for s in range(score.shape[1])]
        named = zip(plan.usual(world), means, strict=True)
        return {
            **{f"budgets/accuracy_{budget}": mean for budget, mean in named},
            "budgets/anytime": float(np.mean(means)),
            "budgets/thinking": plan.metrics()["budgets/thinking"],
        }


class Regret:
    """`regret/area`, the normalised regret: 1 less the area under the chance of a right answer if the policy were
    stopped, against tokens spent, over the budget; `regret/tokens_to_solve`, tokens until that chance is first a half
    (the budget where it never is); `regret/solved`, the share of thoughts where it is at some time.

    Each of `tasks` held-out tasks is thought about `thoughts` times; each thought is stopped at the end of each of its
    episodes (at most `most` of them, evenly) and answered `stops` times there. Tokens are those of the thought so far
    and the mean of the answers drawn. budget: in tokens; by default the world's bound of a message. delimiter: ends an
    episode. Qu et al. 2025, the notebook on regret, which divides by 16 answers where its scripts draw 8: here by those
    that were drawn.
    """

    def __init__(
        self,
        *,
        budget: int | None = None,
        stops: int = 4,
        thoughts: int = 1,
        tasks: int = 50,
        most: int = 16,
        delimiter: str = ";",
        marker: str | None = None,
        hurry: str = "",
        answer_tokens: int | None = None,
        strict: bool = False,
    ) -> None:
        if min(stops, thoughts, tasks, most) < 1 or not delimiter:
            raise UsageError("at least one stop, thought, task and place, and a delimiter that is not empty")
        self.budget, self.stops, self.thoughts, self.tasks, self.most = budget, stops, thoughts, tasks, most
        self.delimiter = delimiter
        self.plan = Stops(marker=marker, hurry=hurry, answer_tokens=answer_tokens, strict=strict)

    def __call__(self, policy: Policy, world: World, recipe: Recipe, step: int, streams: Streams) -> dict[str, float]:
        plan, policy = self.plan, speaking(policy)
        plan.check(policy, world)
        plan.temperature = recipe.evaluation.temperature
        tasks = distinct(world, min(self.tasks, recipe.evaluation.tasks))
        most = int(world.action.max_tokens)
        uniforms = draws(streams, "measure/thoughts", step, 0, len(tasks) * self.thoughts, most)
        thoughts = plan.thoughts(policy, world, tasks, self.thoughts, uniforms)
        stems = [
            stopped(plan, policy, world, thought, self.delimiter, self.most, self.stops)[1] for thought in thoughts
        ]
        plan.answer(policy, world, [stem for several in stems for stem in several], streams, "measure/stops", step)
        budget = self.budget or most
        areas, times = [], []
        for several in stems:
            points = [(spent(stem), mean_reward(stem)) for stem in several]
            areas.append(1 - area(points, budget))
            times.append(first_reaching(points, 0.5, budget))
        return {
            "regret/area": float(np.mean(areas)),
            "regret/tokens_to_solve": float(np.mean([budget if time is None else time for time in times])),
            "regret/solved": float(np.mean([time is not None for time in times])),
        }


def spent(stem: Stem) -> float:
    """Mean tokens after the prompt, over the answers that were drawn."""
    return float(np.mean([len(script) - stem.asked for script in stem.scripts]))


def _line(points: ArrayLike, budget: float) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and chances from (0, 0) through the points in order, the last value held to the budget."""
    known = np.array([(0.0, 0.0), *(p for p in np.asarray(points, float).reshape(-1, 2) if np.isfinite(p[1]))])
    tokens = np.maximum.accumulate(known[:, 0])
    inside = np.append(tokens[tokens < budget], budget)
    return inside, np.interp(inside, tokens, known[:, 1])


def area(points: ArrayLike, budget: float) -> float:
    """The area under points (tokens, chance) joined by lines from (0, 0), the last value held to the budget, over the
    budget. Monotone in every chance."""
    tokens, chance = _line(points, budget)
    return float(np.trapezoid(chance, tokens) / budget)


def first_reaching(points: ArrayLike, level: float, budget: float) -> float | None:
    """Tokens at which these lines first reach a level above 0; None where they do not within the budget."""
    tokens, chance = _line(points, budget)
    at = np.flatnonzero(chance >= level)
    if not len(at):
        return None
    here = int(at[0])
    run, rise = tokens[here] - tokens[here - 1], chance[here] - chance[here - 1]
    return float(tokens[here - 1] + run * (level - chance[here - 1]) / rise)
