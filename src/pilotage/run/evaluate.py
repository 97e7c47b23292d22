"""Judging a policy on held-out tasks, always the same ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pilotage.data import dataset
from pilotage.data.batch import Batch, Stop
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Policy, SpeakingPolicy
from pilotage.policies.table import Table
from pilotage.rollouts.episodes import Episodes
from pilotage.rollouts.messages import Messages
from pilotage.run.assemble import open_world
from pilotage.run.recipe import Recipe
from pilotage.run.statistics import cluster_bootstrap
from pilotage.worlds.base import Categorised, World

MEASURES_SEE = ("policy", "world", "recipe", "step", "streams")  # what a measure may ask for by name
SHOWN = 16  # transcripts kept per evaluation
NUMBERS = 100  # of actions that are no text, in a transcript


class Evaluator:
    """Plays held-out tasks 0 … n-1 with a world of its own, so that training is not disturbed."""

    def __init__(self, recipe: Recipe) -> None:
        self.settings = recipe.evaluation
        self.recipe = recipe
        self.world: World | None = None
        self.measures = {name: piece.bound() for name, piece in recipe.evaluation.measures.items()}
        for name, measure in self.measures.items():
            measure.check(f"evaluation.measures.{name}", 0, MEASURES_SEE)
        self.tasks: list[Task] = []
        self.about: dataset.About | None = None

    def __call__(self, policy: Policy, step: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Metrics (`eval/accuracy`, `eval/success` or `eval/return`, with a 95 % interval and per-task means; success
        or return beside it where that is told too) and sample transcripts.

        Where the recipe learns from a data set that knows the returns of chance and of an expert, `eval/score` stands
        beside: 0 is chance, 100 the expert. The draws depend on the seed and the step, not on the method: paired arms
        see the same luck, seeds do not.
        """
        if isinstance(policy, Table):
            return self._solved(policy), []
        batch = self.play(policy, step)
        metric = f"eval/{self._world().metric}"
        told = {"eval/return" if metric == "eval/success" else metric: batch.returns}
        if "success" in batch or metric == "eval/success":
            told["eval/success"] = batch.episode.get("success", torch.zeros(len(batch)))
        means = {name: per_task(batch, values, self.settings.samples) for name, values in told.items()}
        items = means.pop(metric)
        interval = cluster_bootstrap(items.reshape(-1, 1), np.random.default_rng(0))
        found: dict[str, Any] = {
            metric: _known_mean(items),
            "eval/low": interval.low,
            "eval/high": interval.high,
            "eval/items": items,
            "eval/length": float(batch.total(batch.sampled.float()).mean()),
            "eval/invalid": 1 - float(batch.valid.float().mean()),
            **{name: _known_mean(values) for name, values in means.items()},
        }
        for measure in self.measures.values():
            found |= measure(
                policy=policy, world=self._world(), recipe=self.recipe, step=step, streams=Streams(self.recipe.seed)
            )
        return {**found, **self._score(found.get("eval/return"))}, transcripts(batch)

    def _score(self, value: float | None) -> dict[str, float]:
        data = self.recipe.store.defaults().get("data")
        if not data or value is None:
            return {}
        self.about = self.about or dataset.describe(data)
        score = self.about.score(value)
        return {} if score is None else {"eval/score": score}

    def play(self, policy: Policy, step: int) -> Batch:
        """The groups of all evaluation tasks."""
        settings, world = self.settings, self._world()
        tasks = self.tasks = self.tasks or distinct(world, settings.tasks)
        streams = Streams(self.recipe.seed)
        if isinstance(policy, SpeakingPolicy):
            talk = Messages(temperature=settings.temperature)
            return talk.converse(policy, world, tasks, settings.samples, streams, "evaluate", step)
        acting = Episodes(max_steps=settings.max_steps, greedy=settings.greedy)
        return acting.play(policy, world, tasks, settings.samples, streams, "evaluate", step)

    def _solved(self, policy: Table) -> dict[str, Any]:
        """The same of a table, by dynamic programming on the true model: an item is a replica's expected return."""
        model = self._world().exact()  # type: ignore[attr-defined]  # such policies fit no other worlds
        items = model.returns(policy.probabilities.numpy())
        interval = cluster_bootstrap(items.reshape(-1, 1), np.random.default_rng(0))
        best = float(model.start @ model.best()[0][0])
        return {
            f"eval/{self._world().metric}": float(items.mean()),
            "eval/low": interval.low,
            "eval/high": interval.high,
            "eval/items": items,
            "eval/regret": best - float(items.mean()),
        }

    def _world(self) -> World:
        if self.world is None:
            self.world = open_world(self.recipe)
        return self.world

    def close(self) -> None:
        """Frees the world."""
        if self.world is not None:
            self.world.close()


def distinct(world: World, count: int, category: str = "") -> list[Task]:
    """The first `count` held-out tasks, of a category if one is named, whose prompts differ (fewer where the world
    seems to have no more).

    A prompt judged twice is no second witness: with repeats, intervals over tasks would be too narrow.
    """
    found: dict[tuple[str, int], Task] = {}
    for key in range(8 * count):
        if category and isinstance(world, Categorised):
            task = world.task_of(category, key, "held_out")
        else:
            task = world.task(key, "held_out")
        found.setdefault((task.prompt, 0 if task.prompt else key), task)
        if len(found) == count:
            break
    return list(found.values())


def _known_mean(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def per_task(batch: Batch, values: Tensor, samples: int) -> NDArray[np.float64]:
    """[tasks] mean value, such as the return, of each task's valid episodes; NaN where none is valid. values: [E]."""
    returns = np.where(batch.valid.numpy(), values.double().numpy(), np.nan).reshape(-1, samples)
    counted = np.isfinite(returns).sum(1)
    total = np.nansum(returns, axis=1)
    return np.where(counted > 0, total / np.maximum(counted, 1), np.nan)


def transcripts(batch: Batch) -> list[dict[str, Any]]:
    """The first episodes as text (actions where there is no text)."""
    shown = []
    returns = batch.returns.tolist()
    for i in range(min(SHOWN, len(batch))):
        entry: dict[str, Any] = {"reward": returns[i], "stop": Stop(int(batch["stop"][i])).name.lower()}
        entry |= {name: notes[i] for name, notes in batch.notes.items() if notes[i] or name != "talk"}
        if "answer" not in entry:
            start, end = int(batch.offsets[i]), int(batch.offsets[i + 1])
            most = min(20, max(1, NUMBERS // max(1, batch["action"][0].numel())))
            actions = np.round(batch["action"][start : min(end, start + most)].double().numpy(), 3).tolist()
            entry["answer"] = f"{end - start} actions: {actions}{' …' if end - start > most else ''}"
        shown.append(entry)
    return shown
