"""Policies that act by plans: windows of actions, made from the last observations, of which some are executed.

A plan is laid out as `data.windows` says. All actions are in [-1, 1] inside; the bounds of the world's Box are their
units. Observations may end with a goal; then the entries before it that a goal speaks of are `achieved`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pilotage.data.piece import UsageError, nearest, passes_settings_on
from pilotage.data.windows import Span, of_window
from pilotage.policies.base import ActingPolicy, Minibatch
from pilotage.policies.denoise import karras, sampling
from pilotage.policies.denoise.guidance import classifier_free
from pilotage.policies.denoise.karras import Sigmas
from pilotage.policies.denoise.networks import CausalDenoiser, MLPDenoiser
from pilotage.policies.denoise.process import Levels, Process
from pilotage.policies.normalise import Normaliser

SOLVERS, PASTS, NETWORKS = ("euler", "ancestral", "heun"), ("denoised", "clean", "renoised"), ("mlp", "transformer")
ZEROS = np.zeros(4, np.uint64)


class Planner(ActingPolicy):
    """A plan from the last `history` observations, of which `execute` actions are taken before the next is made.

    achieved: entries of an observation that a goal speaks of; with any, observations end with so many entries of goal,
    which are no part of the state. network: "mlp" (`hidden`) or "transformer" (`width`, `layers`, `heads`).
    Observations are standardised over the data. At the start of an episode the first observation stands for those
    before it. Quantity `actor_action` [S, A]: what is planned for each place of a window, in the world's units; no
    noise.

    Raises UsageError for spaces other than Box, actions without finite bounds, and sizes that do not fit.
    """

    remembers: ClassVar[bool] = True
    needs_past: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-3
    gives: ClassVar[frozenset[str]] = frozenset({"actor_action"})

    def __init_subclass__(cls) -> None:
        passes_settings_on(cls)

    def __init__(
        self,
        observation: Any,
        action: Any,
        *,
        history: int = 4,
        horizon: int = 1,
        execute: int = 1,
        achieved: tuple[int, ...] = (),
        network: str = "mlp",
        hidden: tuple[int, ...] = (256, 256, 256),
        width: int = 64,
        layers: int = 3,
        heads: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.span, self.execute, self.achieved = Span(history, horizon), execute, tuple(achieved)
        self._spaces(observation, action)
        if not 1 <= execute <= horizon:
            raise UsageError(f"of a plan's {horizon} actions from now on, 1 to {horizon} are executed, not {execute}")
        if network not in NETWORKS:
            raise UsageError(f"a plan's network is one of {', '.join(NETWORKS)}, not {network!r}")
        if width % heads:
            raise UsageError(f"policy.heads divides policy.width; {heads} does not divide {width}")
        self.normaliser = Normaliser(self.state + len(self.achieved))
        goal = len(self.achieved)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor: MLPDenoiser | CausalDenoiser
            if network == "mlp":
                condition = history * self.state + goal
                self.actor = MLPDenoiser((self.span.length, self.width), condition, hidden)
            else:
                self.actor = CausalDenoiser(
                    self.span.length, history, self.width, self.state,
                    goals=int(goal > 0), goal=goal, width=width, layers=layers, heads=heads,
                )  # fmt: skip
        self._memory: dict[str, Tensor] = {}
        self._generator = np.random.Generator(np.random.Philox(key=0))

    def _spaces(self, observation: Any, action: Any) -> None:
        for what, space in (("observations", observation), ("actions", action)):
            if type(space).__name__ != "Box" or len(space.shape) != 1:
                raise UsageError(f"plans take {what} that are a vector (Box); this world has {space}")
        low, high = torch.as_tensor(action.low).float(), torch.as_tensor(action.high).float()
        if not bool(torch.isfinite(low).all() and torch.isfinite(high).all()):
            raise UsageError("plans need actions with finite bounds")
        self.register_buffer("centre", (high + low) / 2, persistent=False)
        self.register_buffer("scale", (high - low) / 2, persistent=False)
        self.centre: Tensor
        self.scale: Tensor
        self.width, self.state = len(low), int(observation.shape[0]) - len(self.achieved)
        if any(not 0 <= i < self.state for i in self.achieved):
            raise UsageError(
                f"observations of {observation.shape[0]} numbers cannot end with {len(self.achieved)} of a goal that "
                f"speaks of the entries {list(self.achieved)}"
            )

    # what the network is given

    def states(self, observations: Tensor) -> Tensor:
        """[…, state] standardised, without the goal that observations […, O] may end with."""
        flat: Tensor = self.normaliser(observations.reshape(-1, observations.shape[-1]).float())
        return flat.reshape(*observations.shape[:-1], -1)[..., : self.state]

    def goals(self, goals: Tensor) -> Tensor:
        """[…, G] standardised as the entries that a goal speaks of."""
        places = list(self.achieved)
        filled = goals.new_zeros((*goals.shape[:-1], self.state + len(places)), dtype=torch.float32)
        filled[..., places] = goals.float()
        flat: Tensor = self.normaliser(filled.reshape(-1, filled.shape[-1]))
        return flat.reshape(filled.shape)[..., places]

    def say(self, noisy: Tensor, time: Tensor, states: Tensor, goal: Tensor | None) -> Tensor:
        """[n, W, A] the network's answer for samples [n, W, A] at times [n] or [1], given states [n, history, state]
        and a goal [n, 1, G] (zeros: none)."""
        if isinstance(self.actor, MLPDenoiser):
            parts = [states.flatten(1), *([goal.flatten(1)] if goal is not None else [])]
            found: Tensor = self.actor(noisy, time, torch.cat(parts, dim=-1))
            return found
        answer: Tensor = self.actor(noisy, time, states, goal)
        return answer

    def conditions(self, episodes: Any) -> tuple[Tensor, Tensor | None]:
        """States and goals of windows, goals that are left out as zeros. Raises UsageError for other windows."""
        states = self.states(of_window(episodes, self.span, "observation")[:, : self.span.history])
        if not self.achieved:
            return states, None
        goal = self.goals(episodes["goal"])
        if "goal_kept" in episodes:
            goal = goal * episodes["goal_kept"].reshape(-1, 1, 1)
        return states, goal

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        episodes = self._windows(minibatch)
        states, goal = self.conditions(episodes)
        silent = states.new_zeros((len(episodes), self.span.length, self.width))
        plan = self.to_world(self.say(silent, silent.new_zeros(1), states, goal))
        return {"actor_action": plan.flatten(0, 1)[episodes.sampled]}

    def _windows(self, minibatch: Minibatch) -> Any:
        if minibatch.episodes is None:
            raise ValueError("plans are learnt from whole windows")
        return minibatch.episodes

    def to_unit(self, action: Tensor) -> Tensor:
        """Actions of the world, scaled to [-1, 1]."""
        return (action - self.centre) / self.scale

    def to_world(self, unit: Tensor) -> Tensor:
        """Actions in [-1, 1] in the world's units."""
        return self.centre + self.scale * unit

    # acting

    @abstractmethod
    def plan(self, seen: Tensor, seeds: Tensor, lanes: Tensor) -> Tensor:
        """[n, W, A] plans in [-1, 1] for lanes that saw [n, history, O]; seeds [n] as `noise` gave them."""

    def draws(self, seeds: Tensor, count: int) -> Tensor:
        """[count, n, W, A] standard normal numbers: each plan's own, from its seed alone."""
        shape = (count, self.span.length, self.width)
        return torch.from_numpy(np.stack([self._drawn(seed, shape) for seed in seeds.tolist()], axis=1))

    def _drawn(self, seed: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """What a fresh Philox(key=seed) gives. One is set to every key, since making one asks the system for entropy
        that a key has no use for, and that takes as long as a small network."""
        bits: Any = self._generator.bit_generator
        place = {"counter": ZEROS, "key": np.array([seed, 0], np.uint64)}
        bits.state = {
            "bit_generator": "Philox", "state": place, "buffer": ZEROS, "buffer_pos": 4, "has_uint32": 0, "uinteger": 0,
        }  # fmt: skip
        return self._generator.standard_normal(shape, np.float32)

    def noise(self, generator: np.random.Generator, rows: int, steps: int) -> Tensor:
        """[steps, rows] seeds. A plan uses up many numbers, and few steps make one: so a step has the address of its
        draws, not the draws."""
        return torch.from_numpy(generator.integers(2**63, size=(steps, rows)))

    def reset(self, lanes: Sequence[int]) -> None:
        held = len(self._memory["age"]) if self._memory else 0
        missing = max(lanes) + 1 - held
        if missing > 0:
            fresh = {
                "seen": torch.zeros(missing, self.span.history, self.state + len(self.achieved)),
                "plan": torch.zeros(missing, self.span.length, self.width),
                "age": torch.zeros(missing, dtype=torch.int64),
                "begun": torch.zeros(missing, dtype=torch.bool),
                "executed": torch.zeros(missing, self.span.now, self.width),
                "taken": torch.zeros(missing, dtype=torch.int64),
            }
            self._memory = {n: torch.cat([self._memory[n], v]) if held else v for n, v in fresh.items()}
        for values in self._memory.values():
            values[list(lanes)] = 0

    def memory(self) -> dict[str, Tensor]:
        return {name: values.clone() for name, values in self._memory.items()}

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        self._memory = {name: values.clone() for name, values in memory.items()}

    @torch.inference_mode()
    def act(
        self, observation: Any, noise: Tensor, greedy: bool = False, lanes: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor]:
        """As ActingPolicy; `greedy` changes nothing, since a plan is a sample. Log-probs are 0: there is no density."""
        if len(lanes) != len(noise):
            raise ValueError("a policy that plans is told on which lanes it acts")
        held, rows = self._memory, torch.tensor(list(lanes))
        observed = torch.as_tensor(observation).float().reshape(len(rows), 1, -1)
        begun, age = held["begun"].index_select(0, rows), held["age"].index_select(0, rows)
        seen = torch.cat([held["seen"].index_select(0, rows)[:, 1:], observed], dim=1)
        if not bool(begun.all()):
            seen = torch.where(begun.reshape(-1, 1, 1), seen, observed.expand_as(seen))
        held["seen"].index_copy_(0, rows, seen)
        due = ~begun | (age >= self.execute)
        if bool(due.all()):  # as most often: no row is picked out, which takes longer than a small network
            held["plan"].index_copy_(0, rows, self.plan(seen, noise, rows))
            age = torch.zeros_like(age)
        elif bool(due.any()):
            held["plan"][rows[due]] = self.plan(seen[due], noise[due], rows[due])
            age = torch.where(due, torch.zeros_like(age), age)
        held["begun"].index_fill_(0, rows, True)
        held["age"].index_copy_(0, rows, age + 1)
        chosen = held["plan"][rows, self.span.now + age]
        held["executed"][rows] = torch.cat([held["executed"][rows], chosen.unsqueeze(1)], dim=1)[:, 1:]
        held["taken"][rows] += 1
        return self.to_world(self.executed(chosen)), torch.zeros(len(rows))

    def executed(self, unit: Tensor) -> Tensor:
        """[n, A] what is done where a plan says `unit`: that, within the bounds."""
        return unit.clamp(-1, 1)

    def observe(self, observations: Tensor) -> None:
        self.normaliser.observe(observations.reshape(len(observations), -1).float())


class RegressedPlanner(Planner):
    """A plan is what the network says of no noise at all: the mean of what the data did. Nothing is drawn."""

    def plan(self, seen: Tensor, seeds: Tensor, lanes: Tensor) -> Tensor:
        goal = self.goals(seen[:, -1:, self.state :]) if self.achieved else None
        silent = seen.new_zeros((len(seen), self.span.length, self.width))
        return self.say(silent, silent.new_zeros(1), self.states(seen), goal)


class DenoisingPlanner(Planner):
    """What planners that denoise share. Quantities: `said`, `asked` [S, A], the network's answers and targets for
    windows with columns `noise` and `level` (see credit.plans), and `level_weight` [S]. `guidance`: λ of
    classifier-free guidance, 1 for none."""

    gives: ClassVar[frozenset[str]] = frozenset({"said", "asked", "level_weight"})
    process: Process
    guidance: float = 1.0

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        episodes = self._windows(minibatch)
        states, goal = self.conditions(episodes)
        clean = self.to_unit(of_window(episodes, self.span, "action"))
        level = of_window(episodes, self.span, "level")[:, 0]
        pair = self.process.pair(clean, level, of_window(episodes, self.span, "noise"))
        counted = episodes.sampled
        return {
            "said": self.say(pair.inputs, pair.time, states, goal).flatten(0, 1)[counted],
            "asked": pair.target.flatten(0, 1)[counted],
            "level_weight": episodes.spread(pair.weight)[counted],
        }

    def noised(self, count: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """`noise` [count, A] for so many decisions of windows, and `level` [count]: one for all actions of a window."""
        noise = torch.from_numpy(generator.standard_normal((count, self.width), dtype=np.float32))
        uniform = torch.from_numpy(generator.random(count // self.span.length, dtype=np.float32))
        return {"noise": noise, "level": self.process.draw_level(uniform).repeat_interleave(self.span.length)}

    def denoiser(self, seen: Tensor) -> sampling.Denoise:
        """What samplers ask for plans of lanes that saw [n, history, O]."""
        states = self.states(seen)
        goal = self.goals(seen[:, -1:, self.state :]) if self.achieved else None

        def clean(noisy: Tensor, level: Tensor, wanted: Tensor | None) -> Tensor:
            inputs, time = self.process.scaled(noisy, level), self.process.time(level)
            return self.process.clean(noisy, level, self.say(inputs, time, states, wanted))

        if goal is None or self.guidance == 1:
            return lambda noisy, level: clean(noisy, level, goal)
        nothing = torch.zeros_like(goal)
        return lambda noisy, level: classifier_free(
            lambda: clean(noisy, level, goal), lambda: clean(noisy, level, nothing), self.guidance
        )


class LevelPlanner(DenoisingPlanner):
    """Denoises over numbered levels, as DDPM: `steps` of `levels` (None: all), by posterior steps ("ddpm") or "ddim"
    with `eta`; predictions are held within ±`clip` (None: not). Sizes of a plan are those of Chi et al. 2023: windows
    of 16 decisions."""

    def __init__(
        self,
        observation: Any,
        action: Any,
        *,
        levels: int = 50,
        schedule: str = "cosine",
        asks: str = "epsilon",
        sampler: str = "ddpm",
        steps: int | None = None,
        eta: float = 0.0,
        clip: float | None = 1.0,
        guidance: float = 1.0,
        history: int = 2,
        horizon: int = 15,
        execute: int = 8,
        **planner: Any,
    ) -> None:
        super().__init__(observation, action, history=history, horizon=horizon, execute=execute, **planner)
        if sampler not in ("ddpm", "ddim"):
            raise UsageError(f"samplers over levels are ddpm and ddim, not {sampler!r}")
        self.process: Levels = Levels(levels, schedule, asks)
        self.list = self.process.spaced(levels if steps is None else steps)
        self.sampler, self.eta, self.clip, self.guidance = sampler, eta, clip, guidance

    def plan(self, seen: Tensor, seeds: Tensor, lanes: Tensor) -> Tensor:
        start, *noise = self.draws(seeds, 1 + len(self.list))
        return self.denoised(self.denoiser(seen), start, torch.stack(noise))

    def denoised(self, denoise: sampling.Denoise, start: Tensor, noise: Tensor) -> Tensor:
        """The list's steps from a start; noise [steps, n, W, A]."""
        if self.sampler == "ddim":
            return sampling.ddim(self.process, denoise, start, self.list, noise, eta=self.eta, clip=self.clip)
        return sampling.ddpm(self.process, denoise, start, self.list, noise, clip=self.clip, strided=True)


class SigmaPlanner(DenoisingPlanner):
    """Denoises over continuous levels, as EDM: `steps` from `largest` to `smallest`, spaced as `schedule` says
    (exponential, linear, karras), by `sampler` (euler, ancestral, heun).

    past: what stands in a plan's places before now while it is made: "denoised" along with the rest, or the actions
    that were executed, "clean", as released code of BESO has it (which training never shows: there all actions of a
    window have one level of noise), or "renoised" to the level of each step.
    """

    def __init__(
        self,
        observation: Any,
        action: Any,
        *,
        smallest: float = 0.005,
        largest: float = 1.0,
        data_scale: float = 0.5,
        density_scale: float = 0.5,
        sampler: str = "euler",
        schedule: str = "exponential",
        steps: int = 3,
        guidance: float = 1.0,
        past: str = "denoised",
        **planner: Any,
    ) -> None:
        super().__init__(observation, action, **planner)
        for what, said, known in (("sampler", sampler, SOLVERS), ("past", past, PASTS)):
            if said not in known:
                raise UsageError(f"there is no {what} {said!r}; {nearest(said, known)}")
        self.process: Sigmas = Sigmas(smallest, largest, data_scale, density_scale)
        self.sigmas = karras.schedule(schedule, steps, smallest, largest)
        self.sampler, self.guidance, self.past = sampler, guidance, past

    def plan(self, seen: Tensor, seeds: Tensor, lanes: Tensor) -> Tensor:
        ancestral = self.sampler == "ancestral"
        start, *noise = self.draws(seeds, len(self.sigmas) if ancestral else 1)
        denoise, start = self.holding(self.denoiser(seen), lanes, start), self.process.largest * start
        if ancestral:
            return sampling.euler_ancestral(denoise, start, self.sigmas, torch.stack(noise))
        solver = sampling.heun if self.sampler == "heun" else sampling.euler
        return solver(denoise, start, self.sigmas)

    def holding(self, denoise: sampling.Denoise, lanes: Tensor, noise: Tensor) -> sampling.Denoise:
        """The denoiser, shown the actions that these lanes executed in the places before now; noise [n, W, A] for what
        is noised again. An episode's first plans have no such actions: those places are denoised."""
        now = self.span.now
        if self.past == "denoised" or now == 0:
            return denoise
        executed, taken = self._memory["executed"][lanes], self._memory["taken"][lanes]
        known = (torch.arange(now) >= now - taken.unsqueeze(1)).unsqueeze(-1)

        def held(noisy: Tensor, level: Tensor) -> Tensor:
            shown = executed + level * noise[:, :now] if self.past == "renoised" else executed
            return denoise(torch.cat([torch.where(known, shown, noisy[:, :now]), noisy[:, now:]], dim=1), level)

        return held
