"""The loop: the only place where training happens, for every family."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.engines.local import tiny_numbers_flushed, what_is_there_kept
from pilotage.learn.learner import Ranks, RunStopped
from pilotage.rollouts.stored import Stored
from pilotage.run import checkpoint, starts
from pilotage.run.assemble import Parts, assemble
from pilotage.run.evaluate import Evaluator
from pilotage.run.log import RunLog, read_recipe, refuse_used
from pilotage.run.recipe import Recipe
from pilotage.run.signals import asked_to_stop
from pilotage.run.summary import Counters, means, summarise

Watch = Callable[[int, Mapping[str, Any]], None]  # step, metrics: called after each step


def train(recipe: Recipe, folder: Path, *, watch: Watch | None = None, until: int | None = None) -> Path:
    """Trains a recipe in a new folder, with checkpoints, metrics and evaluations; returns the folder.

    `until` stops (with a checkpoint) after that many steps. A start named by the recipe is made first. Raises
    UsageError for a folder in use, RunStopped where the run cannot go on.
    """
    refuse_used(folder)
    parts = _fresh(recipe)  # before the folder is made: what does not fit leaves nothing behind
    with RunLog.create(folder, recipe.to_json(), seed=recipe.seed, name=recipe.name) as log:
        return _go(parts, folder, log, Counters(), None, watch, until)


def resume(folder: Path, *, watch: Watch | None = None, until: int | None = None) -> Path:
    """Goes on exactly where a run's last good checkpoint stands (from the start where there is none)."""
    recipe = Recipe.from_json(read_recipe(folder))
    found = checkpoint.latest(folder)
    if found is None:
        with RunLog.resume(folder, None) as log:
            return _go(_fresh(recipe), folder, log, Counters(), None, watch, until)
    step, state = checkpoint.load(found)
    parts = _opened(recipe)
    parts.load_state_dict(state["parts"])
    with RunLog.resume(folder, step) as log:
        return _go(parts, folder, log, Counters.from_state(state["counters"]), step, watch, until)


def _fresh(recipe: Recipe) -> Parts:
    """The parts as they are before the first step, with the weights of the start."""
    if recipe.start is not None:
        starts.ensure(recipe.start, train_or_resume)
    parts = _opened(recipe)
    if recipe.start is not None:
        starts.load_weights(parts.policy, recipe.start)
        parts.started()
    return parts


def _opened(recipe: Recipe) -> Parts:
    """The parts, with the record that a stored rollout draws from."""
    parts = assemble(recipe)
    if recipe.data is not None:
        if not isinstance(parts.rollout, Stored):
            raise UsageError(f"{recipe.rollout.use!r} takes no data; use pilotage.rollouts.stored:Stored, or data=none")
        parts.rollout.open(starts.ensure_data(recipe.data, parts.rollout, train_or_resume))
    elif isinstance(parts.rollout, Stored):
        raise UsageError("the stored rollout needs data: the recipe whose policy plays the episodes")
    return parts


def train_or_resume(recipe: Recipe, folder: Path, *, watch: Watch | None = None) -> Path:
    """Trains, or goes on with what an earlier try left in the folder."""
    if folder.exists() and any(folder.iterdir()):
        if Recipe.from_json(read_recipe(folder)) != recipe:
            raise UsageError(f"{folder} holds a run of another recipe; choose another folder")
        return resume(folder, watch=watch)
    return train(recipe, folder, watch=watch)


def _go(
    parts: Parts, folder: Path, log: RunLog, counters: Counters, at: int | None, watch: Watch | None, until: int | None
) -> Path:
    """All steps after those `at` the checkpoint that was taken up (None: a new run, which is judged first)."""
    recipe, step = parts.recipe, at or 0
    evaluator = Evaluator(recipe)
    last = min(recipe.steps, until if until is not None else recipe.steps)
    try:
        with asked_to_stop() as asked, tiny_numbers_flushed(), what_is_there_kept():
            if at is None:
                log_evaluation(log, evaluator, parts, 0, watch)
                if last == 0:
                    checkpoint.save(folder, 0, {"parts": parts.state_dict(), "counters": counters.state()})
            while step < last:
                metrics = one_step(parts, step, counters)
                step += 1
                log.record(step, "train", metrics)
                if step == recipe.steps or (recipe.evaluation.every and step % recipe.evaluation.every == 0):
                    log_evaluation(log, evaluator, parts, step, watch)
                stop = bool(asked)
                if step == last or stop or step % recipe.checkpoint_every == 0:
                    checkpoint.save(folder, step, {"parts": parts.state_dict(), "counters": counters.state()})
                if watch is not None:
                    watch(step, metrics)
                if stop:
                    raise Interrupted(folder, step)
    finally:
        parts.world.close()
        evaluator.close()
    return folder


class Interrupted(Exception):
    """The run was asked to stop, and did, with a checkpoint."""

    def __init__(self, folder: Path, step: int) -> None:
        super().__init__(f"stopped after step {step}, checkpoint written; go on with: pilotage resume {folder}")


def one_step(parts: Parts, step: int, counters: Counters) -> dict[str, float]:
    """One round of the loop: try, credit, observe, learn. Returns the step's metrics."""
    recipe = parts.recipe
    began = time.perf_counter()
    progress = step / recipe.steps
    before = parts.generated
    parts.sampler.prepare(parts.play(step), step)
    batch = parts.rollout(
        parts.policy, parts.world, parts.sampler.next, parts.streams, step, recipe.prompts_per_step,
        recipe.samples_per_prompt,
    )  # fmt: skip
    rolled = time.perf_counter()
    raw = batch
    told: dict[str, float] = {}
    if len(raw):  # a plan that plays nothing leaves nothing to credit: the store is full
        _check_rewards(recipe, raw, step)
        parts.sampler.observe(raw)
        batch = parts.credited(batch, progress, step)
        told = parts.told()
        parts.store.add(batch)
    updates = [
        parts.learner.update(parts.draw(drawn, progress, step, index), step, progress)
        for index, drawn in enumerate(parts.store.batches(parts.streams, step))
    ]
    learnt = means(updates)
    if raw.columns.get("observation") is not None:
        parts.observe(raw["observation"])
    _check_mismatch(recipe, learnt, step)
    ended = time.perf_counter()
    counters.add(raw, ended - began)
    counters.spoke(*(after - first for after, first in zip(parts.generated, before, strict=True)))
    seconds = {"seconds/rollout": rolled - began, "seconds/learn": ended - rolled}
    played = {**summarise(raw), "train/kept": len(batch) / len(raw)} if len(raw) else parts.facts
    return {**played, **told, **learnt, **counters.metrics(), **seconds}


def _check_rewards(recipe: Recipe, batch: Batch, step: int) -> None:
    if "reward" in batch and not bool(torch.isfinite(batch["reward"][batch.spread(batch.valid)]).all()):
        raise RunStopped(f"a reward of step {step + 1} is not finite")
    invalid = 1 - float(batch.valid.float().mean())
    if invalid > recipe.limits.invalid:
        reasons = [reason for reason in batch.notes.get("reason", ()) if reason]
        said = f", for instance: {reasons[0]}" if reasons else ""
        raise RunStopped(
            f"{invalid:.0%} of the episodes of step {step + 1} are invalid (limit {recipe.limits.invalid:.0%}){said}"
        )


def _check_mismatch(recipe: Recipe, learnt: Mapping[str, float], step: int) -> None:
    found = learnt.get("mismatch/kl", 0.0)
    if not found <= recipe.limits.mismatch:  # so that NaN stops it too
        raise RunStopped(
            f"sampler and trainer disagree at step {step + 1}: KL {found:.3g} of their log-probs is above "
            f"{recipe.limits.mismatch:g} (limits.mismatch)"
        )


def log_evaluation(log: RunLog, evaluator: Evaluator, parts: Parts, step: int, watch: Watch | None) -> None:
    """Judges the policy on held-out tasks and writes what came out, with a sample of transcripts."""
    metrics, transcripts = evaluator(parts.judged, step)
    log.record(step, "eval", metrics)
    log.transcripts(step, transcripts)
    if watch is not None:
        watch(step, metrics)


__all__ = ["Interrupted", "Ranks", "RunStopped", "one_step", "resume", "train", "train_or_resume"]
