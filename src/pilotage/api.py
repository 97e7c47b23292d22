"""From Python as from the command line: recipes by name, training, evaluation."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pilotage import explain
from pilotage.data import dataset
from pilotage.data.piece import Piece, UsageError
from pilotage.gallery.report import write_comparison
from pilotage.methods.method import methods
from pilotage.methods.roots import plays, root, warm_start
from pilotage.methods.stacks import check_applies, forms_of, stacked, usual_policy
from pilotage.policies.base import Policy
from pilotage.policies.registry import resolve_policy
from pilotage.run import compare as runner
from pilotage.run import log, loop, starts, verdict
from pilotage.run.assemble import Parts, assemble
from pilotage.run.evaluate import Evaluator
from pilotage.run.recipe import Recipe
from pilotage.settings import apply, full_path, set_path
from pilotage.worlds import registry

DEFAULT_WORLD = "reasoning:chain_sum"
PARTS = ("world.", "policy.")
USUAL = {"text": "lm", "modes": "lm", "denoise": "denoiser"}  # policies of worlds of a kind; mlp elsewhere


def recipe(
    name: str,
    world: str | type | Piece | None = None,
    policy: str | type | Piece | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    settings: Mapping[str, Any] | None = None,
    alongside: Sequence[str] = (),
) -> Recipe:
    """The recipe of a method, or of a stack `one+two`, on a world with a policy.

    alongside: methods that it is compared with; a start that has to be made then knows the forms in which any of them
    asks problems, so that all begin with the same policy.
    settings: values at dotted paths (shorter where unique): `{"policy.hidden": (32, 32), "learning_rate": 1e-3}`.
    Those of world and policy are set before the method is applied, since defaults depend on them. Without a world it is
    that of the data (`store.data`), else reasoning:chain_sum. Raises UsageError.
    """
    asked = dict(settings or {})
    if world is None:
        world, made_with = usual_world(asked.get("store.data"))
        asked = {**made_with, **asked}
    if steps is not None:
        asked["steps"] = steps
    world_piece = apply(_piece_of(world, registry.resolve), "world", asked)
    policy_piece = None if policy is None else _piece_of(policy, resolve_policy)
    of_policy = {path: asked.pop(path) for path in list(asked) if path.startswith("policy.")}
    forms = forms_of(name, *alongside)
    found = _composed(name, world_piece, policy_piece, seed, of_policy, forms)
    short = {path: full for path in asked if (full := full_path(found, path)).startswith(PARTS)}
    if short:  # said without its prefix: again from the beginning, since other defaults may depend on it
        again = of_policy | {full: asked.pop(path) for path, full in short.items()}
        found = _composed(name, apply(world_piece, "world", again), policy_piece, seed, again, forms)
    for path, value in asked.items():
        found = set_path(found, path, value)
    held = found.store.defaults()
    if held.get("data") and held.get("digest") == "":  # the recipe says which data, not only what they are called
        found = found.vary("data", {"store.digest": dataset.load_digest(held["data"])})
    return found


def usual_world(name: str | None) -> tuple[str, dict[str, Any]]:
    """The world of a data set, or the one taken where nothing is said; and the settings of it, as `world.NAME`, that
    the data were made with. Raises UsageError."""
    if name is None:
        return DEFAULT_WORLD, {}
    found = dataset.describe(name)
    if not found.world:
        raise UsageError(f"the data set {found.name} does not say which world it is from: name it with --world")
    plain, made = registry.resolve(found.world), dict(found.provenance.get("world", {}))
    if made.pop("use", plain.use) != plain.use:
        return found.world, {}
    return found.world, {f"world.{name}": value for name, value in made.items() if name not in plain.settings}


def recipe_where_it_applies(
    name: str,
    world: str | type | Piece | None,
    policy: str | type | Piece | None,
    *,
    seed: int,
    steps: int | None,
    settings: Mapping[str, Any],
    alongside: Sequence[str] = (),
) -> Recipe:
    """As `recipe`, without the settings whose paths this method does not have: for the other arm of a comparison."""
    plain = recipe(name, world, policy, seed=seed, steps=steps)
    kept = {path: value for path, value in settings.items() if path.startswith(PARTS) or full_path(plain, path)}
    return recipe(name, world, policy, seed=seed, steps=steps, settings=kept, alongside=alongside)


def _composed(
    name: str,
    world: Piece,
    policy: Piece | None,
    seed: int,
    of_policy: Mapping[str, Any],
    forms: Mapping[str, float],
) -> Recipe:
    """The method on world and policy, with the start that an untrained policy needs."""
    usual = {} if policy is None else _usual(apply(policy, "policy", dict(of_policy)))
    habits = {path.removeprefix("world."): value for path, value in usual.items() if path.startswith("world.")}
    takes = world.defaults().keys() - world.settings.keys()
    world = world.having(**{name: value for name, value in habits.items() if name in takes})
    made = world.build()
    try:
        check_applies(name, made.kind)
        chosen = policy or resolve_policy(usual_policy(name) or USUAL.get(made.kind, "mlp"))
        chosen = apply(chosen, "policy", dict(of_policy))
        base = root(world, chosen, made.action, seed, made.kind)
        base = base.vary("policy", {path: value for path, value in usual.items() if not path.startswith("world.")})
        found = stacked(name, base)
        last = {path: base.get(path) for path in of_policy}  # a user's word is the last one, a method's before it
        found = found.vary("you", {path: value for path, value in last.items() if found.get(path) != value})
        shows = hasattr(made, "demonstrate") or hasattr(made, "examples")
        if getattr(chosen.target, "untrained", False) and shows and plays(found):
            found = replace(found, start=warm_start(base, forms))
    finally:
        made.close()
    return found


def _usual(policy: Piece) -> Mapping[str, Any]:
    """What recipes with this policy take where nobody says otherwise. Raises UsageError if it is no policy class."""
    if not (isinstance(policy.target, type) and issubclass(policy.target, Policy)):
        raise UsageError(f"{policy.use!r} is not a policy: it does not derive from pilotage.Policy")
    return policy.target.usual(policy.defaults())


def _piece_of(given: str | type | Piece, resolve: Callable[[str], Piece]) -> Piece:
    if isinstance(given, Piece):
        return given
    if isinstance(given, type):
        return Piece(f"{given.__module__}:{given.__qualname__}")
    return resolve(given)


@dataclass(frozen=True)
class Run:
    """A run's folder and what can be read from it."""

    folder: Path

    @property
    def recipe(self) -> Recipe:
        """The recipe it ran."""
        return Recipe.from_json(log.read_recipe(self.folder))

    def metrics(self) -> list[dict[str, Any]]:
        """Every record of metrics.jsonl."""
        return log.read_metrics(self.folder)

    def curve(self, metric: str, x: str = "step") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(x, values) of one metric, e.g. `eval/accuracy`. Raises UsageError for one it does not have."""
        return log.curve(self.folder, metric, x)

    def resume(self, **settings: Any) -> Run:
        """Goes on exactly where the last checkpoint stands."""
        return Run(loop.resume(self.folder, **settings))

    def load(self) -> Parts:
        """The run's parts as its last checkpoint has them: `run.load().policy` is the trained policy."""
        return starts.finished(self.folder)

    def evaluate(self, tasks: int | None = None, samples: int | None = None) -> dict[str, Any]:
        """Judges the last checkpoint on held-out tasks: the metric, a 95 % interval, per-task means."""
        made = self.recipe
        judged = made.evaluation
        judged = replace(judged, tasks=tasks or judged.tasks, samples=samples or judged.samples)
        made = replace(made, evaluation=judged)
        parts = self.load()
        evaluator = Evaluator(made)
        try:
            return evaluator(parts.judged, step=made.steps)[0]
        finally:
            evaluator.close()
            parts.world.close()


def train(
    name: str | Recipe,
    world: str | type | Piece | None = None,
    policy: str | type | Piece | None = None,
    *,
    seed: int = 0,
    steps: int | None = None,
    out: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
    watch: loop.Watch | None = None,
) -> Run:
    """Trains a method on a world; returns its Run. `out` is a new folder (a temporary one if not given)."""
    made = name if isinstance(name, Recipe) else recipe(name, world, policy, seed=seed, steps=steps, settings=settings)
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="pilotage-")) / made.name
    return Run(loop.train(made, folder, watch=watch))


def resume(folder: str | Path) -> Run:
    """Goes on exactly where a run's last checkpoint stands."""
    return Run(loop.resume(Path(folder)))


@dataclass(frozen=True)
class Compared:
    """What a comparison gave. results: each arm against the last; reports: a page for each; failures: a line for each
    run that failed; notes: what else is worth knowing, such as settings that not all arms have."""

    out: Path
    runs: Mapping[str, list[Run]]
    results: Sequence[verdict.Comparison]
    reports: Sequence[Path]
    failures: Sequence[str]
    notes: Sequence[str]

    @property
    def verdict(self) -> str:
        """One sentence for each pair of arms."""
        return "; ".join(result.verdict for result in self.results)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, folders and reports included."""
        return {
            "out": str(self.out),
            "results": [result.to_json() for result in self.results],
            "reports": [str(path) for path in self.reports],
            "failures": list(self.failures),
            "notes": list(self.notes),
        }


def compare(
    *names: str | Recipe,
    world: str | type | Piece | None = None,
    policy: str | type | Piece | None = None,
    seeds: int = 3,
    steps: int | None = None,
    settings: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    jobs: int | None = None,
    threads: int = 1,
    resume: bool = False,
    show: bool = True,
) -> Compared:
    """Runs methods with the same seeds 0 … seeds-1, each run in a process of its own; judges each against the last.

    Settings apply to the arms that have them. `resume` goes on with what is in `out`, keeping finished runs; jobs: how
    many run side by side (default: processors). Recipes may stand in place of names. Raises UsageError, and
    ComparisonStopped when asked to stop.
    """
    arms, notes = _arms(names, world, policy, seeds, steps, dict(settings or {}))
    folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="pilotage-")) / "comparison"
    planned = runner.plan(arms, folder)
    runner.check_folder(folder, planned, resume)
    made = assemble(planned[0].recipe)  # a world that does not fit the policy is said before anything is written
    made.world.close()
    runner.open_folder(folder, planned)
    if all(job.finished for job in planned):
        notes.append("every run was finished before; none was run now")
    runner.make_starts(planned, show)
    failures = runner.run_all(planned, jobs or os.cpu_count() or 1, threads=threads, show=show)
    runs = {arm: [Run(job.folder) for job in planned if job.arm == arm and job.finished] for arm in arms}
    results, reports = _judged(arms, runs, folder)
    if len(reports) < len(results):
        notes.append('no report was written, for want of plotly: pip install "pilotage[report]"')
    found = Compared(folder, runs, results, reports, failures, notes)
    (folder / "comparison.json").write_text(json.dumps(found.to_json(), indent=2) + "\n", encoding="utf-8")
    return found


def _arms(
    names: Sequence[str | Recipe],
    world: str | type | Piece | None,
    policy: str | type | Piece | None,
    seeds: int,
    steps: int | None,
    settings: dict[str, Any],
) -> tuple[dict[str, dict[int, Recipe]], list[str]]:
    """{arm: {seed: recipe}}, and notes on settings that only some arms have."""
    labels = [name.name if isinstance(name, Recipe) else name for name in names]
    twice = [label for label in labels if labels.count(label) > 1]
    if len(names) < 2:
        raise UsageError("a comparison needs two or more methods, the baseline last")
    if twice:
        raise UsageError(f"{twice[0]} is named twice; name recipes apart to compare a method with itself")
    if seeds < 1:
        raise UsageError(f"seeds is at least 1, not {seeds}")
    first: dict[str, Recipe] = {}
    named = [name for name in names if isinstance(name, str)]
    for label, name in zip(labels, names, strict=True):
        if isinstance(name, Recipe):
            first[label] = name
        else:
            first[label] = recipe_where_it_applies(
                name, world, policy, seed=0, steps=steps, settings=settings, alongside=named
            )
    notes = []
    for path in settings:
        have = [label for label, made in first.items() if path.startswith(PARTS) or full_path(made, path)]
        if not have:
            first[labels[0]].resolve(path)  # raises, with the nearest
        if len(have) < len(labels):
            notes.append(f"{path} applies to {', '.join(have)} only")
    return {arm: {seed: replace(made, seed=seed) for seed in range(seeds)} for arm, made in first.items()}, notes


def _judged(
    arms: Mapping[str, Mapping[int, Recipe]], runs: Mapping[str, list[Run]], folder: Path
) -> tuple[list[verdict.Comparison], list[Path]]:
    """Each arm against the last, with a report, where both have a finished run of the same seed."""
    *candidates, baseline = arms
    results, reports = [], []
    for arm in candidates:
        report = folder / ("report.html" if len(candidates) == 1 else f"report-{arm}.html")
        sides = [[run.folder for run in runs[name]] for name in (arm, baseline)]
        seeds = [{path.name for path in side} for side in sides]
        if not seeds[0] & seeds[1]:
            continue
        changed = explain.changes(arms[arm][0], arms[baseline][0])
        changes = [(path, explain.shown(before), explain.shown(after)) for path, before, after in changed]
        claim = methods()[arm].claim if arm in methods() else ""
        if find_spec("plotly") is None:
            results.append(verdict.compare(sides[0], sides[1]))
            continue
        results.append(write_comparison(report, sides[0], sides[1], changes=changes, claim=claim))
        reports.append(report)
    return results, reports


__all__ = ["Compared", "Run", "compare", "recipe", "recipe_where_it_applies", "resume", "set_path", "train"]
