"""What a recipe means, said before anything runs: its difference from the baseline, and its sizes in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilotage import rollouts
from pilotage.data.piece import Piece, UsageError
from pilotage.data.tasks import Text
from pilotage.learn.terms import Term
from pilotage.methods.method import find
from pilotage.methods.roots import root
from pilotage.methods.stacks import ground, split_names, stacked, usual_policy
from pilotage.policies.registry import resolve_policy
from pilotage.rollouts.base import Rollout, number
from pilotage.run import starts
from pilotage.run.assemble import make_policy, open_world
from pilotage.run.recipe import Recipe, difference

if TYPE_CHECKING:
    from pilotage.policies.base import Policy

Change = tuple[str, Any, Any]  # path, the baseline's value, this one's
# sizes of a run rather than parts of the method
ASIDE = ("name", "world", "policy", "start", "data", "seed", "evaluation", "limits", "checkpoint_every")

CONTROL = {"discrete", "box", "bandit"}  # kinds of worlds that are shown as those of actions


@dataclass(frozen=True)
class Explanation:
    """A recipe in words. `settings`: (path, value, who set it); `changes` against `baseline`."""

    recipe: Recipe
    baseline: str | None
    changes: Sequence[Change]
    settings: Sequence[tuple[str, Any, str]]
    sentences: Sequence[str]


def explain(recipe: Recipe, baseline: Recipe | None) -> Explanation:
    """Builds world and policy to count parameters; trains nothing."""
    settings = [(path, value, _owner(recipe, path)) for path, value in _leaves(recipe)]
    return Explanation(
        recipe,
        baseline.name if baseline else None,
        changes(recipe, baseline) if baseline else (),
        settings,
        list(_sentences(recipe)),
    )


def baseline_name(name: str) -> str | None:
    """What a method or a stack is compared with."""
    below = ground([find(slug) for slug in split_names(name)])
    return below[-1].slug if below else None


def changes(recipe: Recipe, baseline: Recipe) -> list[Change]:
    """The fields in which a recipe differs from its baseline; a replaced piece stands once, settings and all."""
    found: dict[str, Change] = {}
    for path, after, before in difference(recipe, baseline):
        if not path.startswith(("start.", "data.")):
            whole = _replaced(recipe, baseline, path)
            found[whole or path] = (
                (whole, _whole(baseline, whole), _whole(recipe, whole)) if whole else (path, before, after)
            )
    return list(found.values())


def bare(slug: str, kind: str | None = None) -> tuple[Recipe, str]:
    """(recipe, kind) of a method without a world; kind is "texts", "actions", "goals", "tables" or "pictures": the one
    asked for, or the first that it takes."""
    kinds = {
        "texts": (
            Piece("pilotage.worlds.text:TextWorld"),
            "pilotage.policies.language:TinyLanguageModel",
            Text(),
            {"text", "modes"},
        ),
        "actions": (Piece("pilotage.worlds.base:World"), "pilotage.policies.mlp:ActorCritic", None, CONTROL),
        "goals": (Piece("pilotage.worlds.base:GoalWorld"), "pilotage.policies.plans:RegressedPlanner", None, {"goals"}),
        "tables": (Piece("pilotage.worlds.finite:FiniteWorld"), "pilotage.policies.table:Table", None, {"finite"}),
        "pictures": (
            Piece("pilotage.worlds.images:Digits"),
            "pilotage.policies.denoiser:Denoiser",
            None,
            {"denoise"},
        ),
    }
    takes = set(find(slug).worlds)
    refused: UsageError | None = None
    for name in [kind] if kind else [n for n, (*_, fits) in kinds.items() if takes & fits]:
        world, policy, action, fits = kinds[name]
        usual = usual_policy(slug)
        try:
            return stacked(
                slug,
                root(
                    world,
                    resolve_policy(usual) if usual else Piece(policy),
                    action,
                    kind="denoise" if "denoise" in fits else "",
                ),
            ), name
        except UsageError as error:
            refused = error
    raise refused or UsageError(f"{slug} takes no world")


def settings_of(recipe: Recipe) -> list[tuple[str, Any]]:
    """(path, value) of everything that belongs to the method."""
    return [(path, value) for path, value in _leaves(recipe) if path.partition(".")[0] not in ASIDE]


def shown(value: Any) -> str:
    """A value of a recipe in a table: pieces by their last name."""
    if value is None:
        return "–"
    if isinstance(value, Piece):
        inside = ", ".join(f"{name}={shown(item)}" for name, item in value.settings.items())
        return value.use.rpartition(":")[2] + (f"({inside})" if inside else "")
    if isinstance(value, str) and value.startswith("pilotage.") and ":" in value:
        return value.rpartition(":")[2]
    if isinstance(value, Recipe):
        return value.name
    if isinstance(value, tuple):
        return f"[{', '.join(map(shown, value))}]"
    return str(value)


def _leaves(recipe: Recipe) -> list[tuple[str, Any]]:
    leaves = recipe.leaves()
    return [(path, value) for path, value in leaves.items() if not path.startswith(("start.", "data."))]


def _owner(recipe: Recipe, path: str) -> str:
    """Who set a path last: a method, "you", or nobody (the default)."""
    owner = ""
    for changed, by in recipe.changed.items():
        if path == changed or path.startswith(changed + "."):
            owner = by
    return "" if owner == "name" else owner


def _replaced(recipe: Recipe, baseline: Recipe, path: str) -> str:
    """The path of the piece, term or objective around a leaf, where the two recipes have another one there, or none."""
    parts = path.split(".")
    for depth in range(1, len(parts)):
        holder = ".".join(parts[:depth])
        after, before = (side.get(holder, missing=None) for side in (recipe, baseline))
        if (after is None) != (before is None):
            return holder
        if isinstance(after, Piece) and isinstance(before, Piece) and after.use != before.use:
            return holder
    return ""


def _whole(recipe: Recipe, path: str) -> Any:
    found = recipe.get(path, missing=None)
    if isinstance(found, Term):
        return "a term: " + ", ".join(shown(objective.loss) for objective in found.objectives.values())
    return getattr(found, "loss", found)  # an objective is known by its loss


def _sentences(recipe: Recipe) -> Iterator[str]:
    world = open_world(recipe)
    try:
        policy = make_policy(recipe, world)
        yield f"{recipe.name} on {shown(recipe.world)} with {shown(recipe.policy)}: {_facts(policy)}."
        yield from _sampling(recipe, world.action, world.longest)
        for name, term in recipe.terms.items():
            yield _optimising(name, term, recipe, policy)
        yield from _before(recipe)
        yield _judging(recipe, world.metric, policy)
        yield (
            f"It stops if sampler and trainer disagree (mean KL above {recipe.limits.mismatch:g}), or if more than "
            f"{recipe.limits.invalid:.0%} of a step's episodes are invalid. Seed {recipe.seed}; a checkpoint every "
            f"{recipe.checkpoint_every} steps."
        )
    finally:
        world.close()


def _facts(policy: Policy) -> str:
    facts = dict(policy.facts())
    count = facts.pop("parameters")
    if facts.get("trained") == count:
        facts.pop("trained")
    rest = [f"{name} {_number(value)}" for name, value in facts.items()]
    return ", ".join([f"{_number(count)} parameters", *rest])


def _sampling(recipe: Recipe, action: Any, limit: int | None) -> Iterator[str]:
    """What one step samples, and the run."""
    plan = recipe.rollout.build()
    said, decisions = f"samples with {shown(recipe.rollout)}", 0
    if isinstance(plan, Rollout):
        most = action.max_tokens if isinstance(action, Text) else limit or 0
        said, decisions = plan.says(recipe.prompts_per_step, recipe.samples_per_prompt, most)
    yield f"Each step {said}{_drawing(recipe)}."
    bound = f", at most {_number(decisions * recipe.steps)} decisions" if decisions else ""
    yield (
        f"The run has {_number(recipe.steps)} steps{bound}." if recipe.steps else "It takes none: the start is judged."
    )


def _drawing(recipe: Recipe) -> str:
    """What a step takes from a store that is full from the start; nothing of other stores."""
    if not hasattr(recipe.store.target, "fill"):
        return ""
    store = recipe.store.defaults()
    named = "the world's examples" if "data" not in store else store["data"] or "a data set that --data names"
    return (
        f", and draws {store.get('batches_per_step', 0)} batches of {store.get('decisions_per_batch', 0)} decisions "
        f"from {named}"
    )


def _optimising(name: str, term: Term, recipe: Recipe, policy: Policy) -> str:
    from pilotage.policies.base import parameters_under

    weighted = {key: objective for key, objective in term.objectives.items() if objective.weight != 0}
    losses = " + ".join(
        (f"{objective.weight:g} · " if objective.weight != 1 else "")
        + f"{shown(objective.loss)} ({objective.reduction})"
        for objective in weighted.values()
    )
    count = sum(parameter.numel() for parameter in parameters_under(policy, term.parameters).values())
    passes = f"{term.epochs} pass{'es' if term.epochs > 1 else ''}"
    if term.minibatch_decisions:
        steps = f"{passes} in minibatches of about {_number(term.minibatch_decisions)} decisions"
    else:
        each = term.epochs * term.minibatches
        batches = recipe.steps * recipe.store.defaults().get("batches_per_step", 1)
        steps = (
            f"{passes} of {term.minibatches} minibatch{'es' if term.minibatches > 1 else ''}: {each} optimiser "
            f"step{'s' if each > 1 else ''} a batch, at most {_number(each * batches)} in the run"
        )
    clip = f"gradient norm at most {term.max_grad_norm:g}" if term.max_grad_norm else "gradient not clipped"
    return (
        f"Term {name} lowers {losses} over {_number(count)} parameters, {steps}; {clip}; {shown(term.optimiser)}, "
        f"{_rate(term, recipe.steps)}."
    )


def _rate(term: Term, steps: int) -> str:
    """The learning rate over the run, from the schedule itself."""
    rate = term.optimiser.defaults().get("learning_rate")
    if not isinstance(rate, int | float):
        return "learning rate by the optimiser"
    schedule = term.schedule.bound()
    values = [rate * float(schedule(progress=step / steps)) for step in range(steps)] or [rate]
    first, last, top = values[0], values[-1], max(values)
    if max(values) == min(values):
        return f"learning rate {first:g} throughout"
    peak = f" over {top:.3g} at step {values.index(top) + 1}" if top > max(first, last) else ""
    return f"learning rate from {first:.3g}{peak} to {last:.3g} ({shown(term.schedule)})"


def _before(recipe: Recipe) -> Iterator[str]:
    """What has to be made before the first step."""
    if recipe.start is not None:
        start = recipe.start
        made = "made already" if starts.is_made(start) else f"to be made first: {_number(start.steps)} steps"
        if start.rollout.target is not rollouts.idle.Idle:
            made += f"; {_number(start.prompts_per_step * start.samples_per_prompt)} episodes a step"
        yield (
            f"It starts from {start.name}, shared by every run that names the same start ({made}; "
            f"kept in {starts.start_folder(start)})."
        )
    if recipe.data is not None:
        yield f"Its data come from {recipe.data.name}, trained for {_number(recipe.data.steps)} steps first."


def _judging(recipe: Recipe, metric: str, policy: Policy) -> str:
    from pilotage.policies.table import Table

    judged = recipe.evaluation
    times = {0, recipe.steps} | (set(range(judged.every, recipe.steps, judged.every)) if judged.every else set())
    if isinstance(policy, Table):
        return f"The {metric} of each replica's policy is computed exactly {len(times)} times, by dynamic programming."
    how = "" if judged.samples == 1 else f" {judged.samples} times"
    return (
        f"Held-out {metric} is measured {len(times)} times, on {_number(judged.tasks)} tasks{how}: "
        f"{_number(len(times) * judged.tasks * judged.samples)} episodes in all, none of them trained on."
    )


def _number(value: Any) -> str:
    return number(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)
