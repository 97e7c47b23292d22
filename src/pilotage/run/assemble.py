"""From a recipe to working parts: the world, the policy and the rest, built and fitted together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pilotage.data.batch import Batch
from pilotage.data.piece import Bound, Piece, UsageError, nearest
from pilotage.data.rng import Streams
from pilotage.data.store import Fresh
from pilotage.data.tasks import Task, Text
from pilotage.learn.learner import Learner, Ranks
from pilotage.policies.base import ActingPolicy, Policy, SpeakingPolicy
from pilotage.rollouts.base import Rollout
from pilotage.rollouts.idle import Idle
from pilotage.rollouts.messages import Messages
from pilotage.run.recipe import Recipe
from pilotage.samplers.base import Play, Sampler
from pilotage.worlds.base import World

KEEPS = ("state_dict", "load_state_dict")
# what a link of the credit chain may ask for by name
CREDIT_SEES = ("policy", "progress", "over_ranks", "world", "streams", "step")
DRAWN_SEES = ("policy", "progress", "targets", "generator", "store")  # and what a link on drawn batches may ask for


@dataclass
class Parts:
    """What a recipe names, built."""

    recipe: Recipe
    streams: Streams
    world: World
    policy: Policy
    sampler: Sampler
    rollout: Rollout
    credit: dict[str, Bound]
    store: Fresh
    drawn: dict[str, Bound]
    learner: Learner
    ranks: Ranks
    facts: dict[str, float]  # of the data of a store that is full from the start, logged at every step

    def credited(self, batch: Batch, progress: float, step: int = 0) -> Batch:
        """The batch after every link of the credit chain, in order."""
        return _credited(self.credit, batch, self.policy, progress, self.ranks, self.world, self.streams, step)

    def told(self) -> dict[str, float]:
        """What sampler, rollout and links of the credit chain have to say of the last step (those with `metrics`)."""
        speakers = [self.sampler, self.rollout, *(link.function for link in self.credit.values())]
        told = [speaker.metrics() for speaker in speakers if hasattr(speaker, "metrics")]
        return {name: value for found in told for name, value in found.items()}

    def play(self, step: int) -> Play:
        """What samplers play with, see `Sampler.prepare`."""

        def played(tasks: Sequence[Task], samples: int, stream: str) -> Batch:
            if not isinstance(self.rollout, Messages):
                raise UsageError(f"{type(self.rollout).__name__} does not play tasks that a sampler asks about")
            return self.rollout.converse(self.policy, self.world, list(tasks), samples, self.streams, stream, step)

        return played

    def draw(self, batch: Batch, progress: float, step: int, index: int) -> Batch:
        """A batch of the store after every link on drawn batches; `index` counts the draws of the step."""
        if self.drawn:
            generator = self.streams.generator("drawn", step, index)
            given = {
                "policy": self.policy, "progress": progress, "targets": self.learner.targets, "store": self.store,
            }  # fmt: skip
            for link in self.drawn.values():
                batch = link(batch, generator=generator, **given)
        return batch

    @property
    def judged(self) -> Policy:
        """The policy that evaluations play: the one that learns, or the target that the recipe names."""
        name = self.recipe.evaluation.policy
        return self.learner.targets[name] if name else self.policy

    @property
    def generated(self) -> tuple[int, int, int]:
        """Tokens that the policy has generated in this process, decode steps, and tokens injected; of one that acts,
        none."""
        if not isinstance(self.policy, SpeakingPolicy):
            return 0, 0, 0
        found = self.policy.generated
        return found.tokens, found.decode_steps, found.injected

    def started(self) -> None:
        """The policy has got the weights of a start: the targets that follow it begin there too."""
        for follower in getattr(self.learner, "followers", {}).values():
            follower.load_state_dict(self.policy.state_dict())

    def observe(self, observations: Tensor) -> None:
        """Shows the policy's normaliser what was observed in a step."""
        if isinstance(self.policy, ActingPolicy):
            self.policy.observe(observations)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a run needs to go on exactly."""
        links = {n: b.function.state_dict() for n, b in self._links().items() if hasattr(b.function, "state_dict")}
        acting = self.policy if isinstance(self.policy, ActingPolicy) else None
        return {
            "policy": dict(self.policy.state_dict()),
            "learner": self.learner.state_dict(),
            "sampler": self.sampler.state_dict(),
            "rollout": self.rollout.state_dict(),
            "world": self.world.state_dict(),
            "links": links,
            "store": self.store.state_dict(),
            **({"memory": acting.memory()} if acting and acting.remembers else {}),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.policy.load_state_dict(state["policy"])
        self.learner.load_state_dict(state["learner"])
        self.sampler.load_state_dict(state["sampler"])
        self.world.load_state_dict(state["world"])
        self.rollout.load_state_dict(state["rollout"], self.world)
        self.store.load_state_dict(state["store"])
        if isinstance(self.policy, ActingPolicy):
            self.policy.remember(state.get("memory", {}))
        for name, link in state["links"].items():
            self._links()[name].function.load_state_dict(link)  # type: ignore[attr-defined]

    def _links(self) -> dict[str, Bound]:
        chains = {"credit": self.credit, "drawn": self.drawn}
        return {f"{chain}.{name}": link for chain, links in chains.items() for name, link in links.items()}


def assemble(recipe: Recipe, ranks: Ranks | None = None, *, fill: bool = True) -> Parts:
    """Builds all parts of a recipe. Raises UsageError where they do not fit one another.

    A store that is full from the start is filled, unless `fill` is off (nothing can be learnt then): its record goes
    through the credit chain once, and the policy's normaliser sees it. On resume too, for it is in no checkpoint.
    """
    streams = Streams(recipe.seed)
    world = open_world(recipe)
    policy = make_policy(recipe, world)
    ranks = ranks or Ranks()
    sampler = _fitting("sampler", recipe.sampler, "open", "prepare", "next", "observe", "metrics", *KEEPS)
    sampler.open(world, streams)
    rollout = _fitting("rollout", recipe.rollout, "__call__", *KEEPS)
    if isinstance(rollout, Rollout):
        rollout.check(policy, world)
        rollout.check_sizes(world, recipe.prompts_per_step, recipe.samples_per_prompt)
    credit = _in_order({n: _link(f"credit.{n}", link, CREDIT_SEES) for n, link in recipe.credit.items()})
    for name, link in credit.items():
        least = getattr(link.function, "least_samples", 1)
        if recipe.samples_per_prompt < least:
            raise UsageError(
                f"credit.{name} compares a group's members: samples_per_prompt is at least {least}, "
                f"not {recipe.samples_per_prompt}"
            )
    store = _fitting("store", recipe.store, "add", "batches", *KEEPS)
    if hasattr(store, "fill") and not isinstance(rollout, Idle):
        raise UsageError(
            f"{recipe.store.use!r} is full from the start and takes no new episodes; its rollout is "
            "pilotage.rollouts.idle:Idle"
        )
    facts = {}
    if recipe.evaluation.policy and recipe.evaluation.policy not in recipe.targets:
        raise UsageError(
            f"evaluation.policy names a target, and there is no {recipe.evaluation.policy!r}; "
            f"{nearest(recipe.evaluation.policy, recipe.targets)}"
        )
    if fill and hasattr(store, "fill"):
        record = _credited(credit, store.open(world), policy, 0.0, ranks, world, streams, 0)
        store.fill(record)
        facts = store.facts()
        if isinstance(policy, ActingPolicy):
            policy.observe(record["observation"])  # before copies of the policy are made
    return Parts(
        recipe=recipe,
        streams=streams,
        world=world,
        policy=policy,
        sampler=sampler,
        rollout=rollout,
        credit=credit,
        store=store,
        drawn={n: _link(f"drawn.{n}", link, DRAWN_SEES) for n, link in recipe.drawn.items()},
        learner=recipe.learner.build(
            policy, terms=recipe.terms, streams=streams, ranks=ranks, targets=recipe.targets, world=world
        ),
        ranks=ranks,
        facts=facts,
    )


def _in_order(chain: dict[str, Bound]) -> dict[str, Bound]:
    """The links as they are run: those that change rewards first, else as named."""
    return dict(sorted(chain.items(), key=lambda item: not getattr(item[1].function, "shapes_rewards", False)))


def _credited(
    chain: Mapping[str, Bound], batch: Batch, policy: Policy, progress: float, ranks: Ranks, world: World,
    streams: Streams, step: int,
) -> Batch:  # fmt: skip
    given = {"policy": policy, "progress": progress, "over_ranks": ranks.sum, "world": world}
    for link in chain.values():
        batch = link(batch, streams=streams, step=step, **given)
    return batch


def _fitting(kind: str, piece: Piece, *needs: str) -> Any:
    """What a piece makes. Raises UsageError where it lacks a method that its kind has."""
    made = piece.build()
    for name in needs:
        if not callable(getattr(made, name, None)):
            raise UsageError(f"{piece.use!r} is not a {kind}: it has no {name}()")
    return made


def _link(path: str, piece: Piece, sees: tuple[str, ...]) -> Bound:
    bound = piece.bound()
    bound.check(f"{path}: {piece.use!r}", 1, sees)
    return bound


def open_world(recipe: Recipe) -> World:
    """The world a recipe names. Raises UsageError if it is none."""
    world = recipe.world.build()
    if not isinstance(world, World):
        raise UsageError(f"{recipe.world.use!r} is not a world: it does not derive from pilotage.World")
    return world


def make_policy(recipe: Recipe, world: World) -> Policy:
    """The policy a recipe names, freshly initialised. Raises UsageError if it does not fit the world's spaces."""
    policy = recipe.policy.build(world.observation, world.action, seed=Streams(recipe.seed).number("policy"))
    if not isinstance(policy, Policy):
        raise UsageError(f"{recipe.policy.use!r} is not a policy: it does not derive from pilotage.Policy")
    if isinstance(policy, SpeakingPolicy) != isinstance(world.action, Text):
        speaks = "takes texts" if isinstance(world.action, Text) else "takes no texts"
        raise UsageError(f"{type(policy).__name__} does not fit {type(world).__name__}: the world {speaks}")
    return policy
