"""The rows: what is compared with what, at which sizes, and what is asked of it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.measure import Measured
from benchmarks.steps import PROMPTS

Kind = Literal["ratio", "seconds", "memory", "informative"]


@dataclass(frozen=True)
class Row:
    """ours, peer: `module:function` that takes the settings and returns a repeat to call.

    kind: "ratio" wants ours / peer of at least `target`; "seconds" wants at most `target` of them and has no peer;
    "memory" wants ours / peer of at most `target`, of the MiB that a repeat took; "informative" wants nothing. amount:
    what is counted; per: what it is divided by, if not time. packages: the peer's, whose versions are recorded. about:
    seconds that a pair of repeats takes, to foretell the time left.
    """

    name: str
    line: str
    amount: str
    ours: str
    peer: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    kind: Kind = "ratio"
    target: float | None = None
    packages: tuple[str, ...] = ()
    about: float = 5.0
    per: str = "second"

    def side(self, which: str) -> Callable[[], Measured]:
        """A repeat of ours or of the peer's, ready to be called."""
        path = self.ours if which == "ours" else self.peer
        if path is None:
            raise ValueError(f"{self.name} has no {which}")
        module, _, name = path.partition(":")
        made: Callable[[], Measured] = getattr(importlib.import_module(module), name)(**self.settings)
        return made

    def met(self, value: float) -> bool | None:
        """Whether a ratio, or a number of seconds, is what is asked; None where nothing is."""
        if self.target is None:
            return None
        return value <= self.target if self.kind in ("seconds", "memory") else value >= self.target


CARTPOLE = {"env_id": "CartPole-v1", "lanes": 8, "steps": 128, "minibatch": 256, "epochs": 4}
HALFCHEETAH = {"env_id": "HalfCheetah-v5", "lanes": 1, "steps": 2048, "minibatch": 64, "epochs": 10}


def _pair(module: str, name: str) -> dict[str, str]:
    return {"ours": f"benchmarks.{module}:{name}_ours", "peer": f"benchmarks.{module}:{name}_peer"}


def _ppo(name: str, settings: Mapping[str, Any], rounds: int, about: float) -> Row:
    line = (
        "PPO end to end, {env_id}, {lanes} x {steps} steps, minibatches of {minibatch}, {epochs} epochs, 2 x 64 tanh"
    ).format(**settings)
    return Row(
        name,
        line,
        "environment steps",
        **_pair("control", "ppo"),
        settings={**settings, "rounds": rounds},
        target=2.0,
        packages=("stable-baselines3", "gymnasium", "torch"),
        about=about,
    )


def _update(method: str) -> Row:
    return Row(
        f"{method}-update",
        f"{method.upper()}, gradient steps from the replay, HalfCheetah-v5's spaces, batches of 256, 2 x 256 ReLU",
        "gradient steps",
        **_pair("offpolicy", "update"),
        settings={"method": method, "env_id": "HalfCheetah-v5", "updates": 200},
        target=1.5,
        packages=("stable-baselines3", "gymnasium", "torch"),
        about=5,
    )


def _steps(method: str) -> Row:
    return Row(
        f"{method}-steps",
        f"{method.upper()} end to end, HalfCheetah-v5, an update a step, batches of 256, 2 x 256 ReLU",
        "environment steps",
        **_pair("offpolicy", "steps"),
        settings={"method": method, "env_id": "HalfCheetah-v5", "steps": 400},
        kind="informative",
        packages=("stable-baselines3", "gymnasium", "torch"),
        about=10,
    )


def _grpo(size: str, rounds: int, target: float, about: float) -> Row:
    return Row(
        f"grpo-step-{size}",
        f"GRPO, generation and update, {size} parameters, 32 prompts x 8 completions of up to 128 tokens",
        "samples",
        **_pair("language", "grpo"),
        settings={"size": size, "rounds": rounds},
        target=target,
        packages=("trl", "transformers", "accelerate", "torch"),
        about=about,
    )


def _generate(size: str, natural: bool, target: float, about: float) -> Row:
    most = 128 if natural else 64
    what = f"natural lengths up to {most}" if natural else f"{most} tokens each"
    return Row(
        f"generate-{size}-{'natural' if natural else 'fixed'}",
        f"generation alone, {size} parameters, 256 rows, {what}",
        "tokens",
        **_pair("language", "generate"),
        settings={"size": size, "ends": natural, "rows": 256, "most": most},
        target=target,
        packages=("transformers", "torch"),
        about=about,
    )


def _windows(name: str, what: str, per: str, **more: Any) -> Row:
    return Row(
        name,
        f"t-ppo, windows of 32, over PPO, both ours: tokens trained {what}; 64 at a time, natural lengths up to 128",
        "tokens",
        **_pair("windows", "trained"),
        settings={"size": "0.14M", "window": 32, "per": per},
        packages=("torch",),
        about=15,
        per=per,
        **more,
    )


def _seeds(method: str, target: float) -> Row:
    return Row(
        f"bandit-seeds-{method}",
        f"100 seeds of {method} with a linear oracle in one array over a run each, 10 rounds a step, 10 actions",
        "decisions",
        **_pair("bandits", "seeds"),
        settings={"method": method, "seeds": 100, "batch": 10, "rounds": 20},
        target=target,
        packages=("torch",),
        about=8,
    )


def _gradient_steps(method: str, about: float) -> Row:
    return Row(
        f"gradient-steps-{method}",
        f"{method} on a log of HalfCheetah's shapes, 2 x 256, batches of 256, drawing them included",
        "gradient steps",
        **_pair("offline", "gradient_steps"),
        settings={"method": method, "batches": 300},
        target=1.5,
        packages=("d3rlpy", "torch"),
        about=about,
    )


def _sampling(rows: int, plans: int, about: float) -> Row:
    return Row(
        f"denoise-{rows}",
        f"plans of 16 x 4 from the same network (3 x 256), DDPM's 100 levels, {rows} at a time",
        "plans",
        **_pair("denoising", "sample"),
        settings={"hidden": (256, 256, 256), "rows": rows, "levels": 100, "plans": plans},
        target=1.0,
        packages=("diffusers", "torch"),
        about=about,
    )


def _step_cost(
    method: str,
    world: str,
    rounds: int,
    about: float,
    *,
    prompts: tuple[int, int] = (PROMPTS, PROMPTS),
    aside: str = "",
    **settings: Any,
) -> Row:
    """A step may cost 1.3 times the baseline's, so the rate is wanted to be 1 / 1.3 of it.

    prompts: ours and the peer's. aside: names a variant of which nothing is asked.
    """
    sizes = {"method": method, "world": world, "size": "0.14M", "rounds": rounds, "prompts": prompts}
    return Row(
        f"step-cost-{method}{aside}",
        f"full steps of {method}{aside}, {prompts[0]} prompts x 8, over its baseline's, {prompts[1]} x 8, both ours, "
        "0.14M parameters",
        "generated tokens",
        **_pair("steps", "step_cost"),
        settings={**sizes, "settings": settings},
        kind="informative" if aside else "ratio",
        target=None if aside else 0.77,
        packages=("torch",),
        about=about,
    )


def _drawing(store: str, what: str) -> Row:
    return Row(
        f"draw-{store}",
        f"256 random rows with their next observations from {what} of 1 M HalfCheetah decisions",
        "draws",
        "benchmarks.stores:drawing",
        None,
        settings={"store": store, "decisions": 1_000_000, "rows": 256, "draws": 1000},
        kind="seconds",
        target=1e-3,
        about=1,
    )


def _stepping(name: str, env_id: str, lanes: int, steps: int) -> Row:
    return Row(
        name,
        f"stepping a world over stepping its environment by hand, {env_id}, {lanes} lanes, random actions",
        "environment steps",
        **_pair("control", "stepping"),
        settings={"env_id": env_id, "lanes": lanes, "steps": steps},
        kind="informative",
        packages=("gymnasium",),
        about=2,
    )


# one for each method whose step is held against its baseline's: slug, world, steps, seconds, the method's settings
STEP_COSTS: tuple[Row, ...] = (
    _step_cost("sec", "benchmarks.sums:Terms", rounds=4, about=5),
    _step_cost(
        "mmr1",
        "benchmarks.sums:Sums",
        rounds=4,
        about=8,
        prompts=(32, 48),
        **{"sampler.pool": 64, "sampler.every": 4},
    ),
    _step_cost("t-ppo", "benchmarks.sums:Sums", rounds=8, about=16, prompts=(45, 32), **{"terms.policy.after": 0}),
    _step_cost(
        "t-ppo",
        "benchmarks.sums:Sums",
        rounds=8,
        about=16,
        prompts=(53, 32),
        aside="-short",
        **{"rollout.window": 32, "terms.policy.after": 0},
    ),
    _step_cost("ghpo", "benchmarks.sums:Digits", rounds=4, about=9, prompts=(32, 54), **{"rollout.cold_start": 0}),
    _step_cost("clpo", "benchmarks.sums:Digits", rounds=4, about=9, prompts=(32, 53)),
    _step_cost(
        "anytime-reasoner",
        "benchmarks.sums:Thoughts",
        rounds=4,
        about=14,
        prompts=(32, 59),
        **{"rollout.budgets": (30, 60, 90, 120), "rollout.answer_tokens": 8, "rollout.strict": False},
    ),
    _step_cost("mrt", "benchmarks.sums:Thoughts", rounds=4, about=8, prompts=(32, 40), **{"rollout.answer_tokens": 8}),
    _step_cost("rep-exp", "benchmarks.sums:Digits", rounds=4, about=7, **{"pools.tasks": 1}),
    _step_cost(
        "rep-exp",
        "benchmarks.sums:Digits",
        rounds=4,
        about=7,
        aside="-ungated",
        **{"bonus.correct": 0.0, "pools.tasks": 1},
    ),
    _step_cost(
        "exit", "benchmarks.sums:Digits", rounds=4, about=7, **{"sampler.least_items": 32, "improving.tasks": 1}
    ),
    _step_cost("a2fm", "modes:sums", rounds=4, about=5, **{"rollout.forced": 2}),
)

ROWS: tuple[Row, ...] = (
    _ppo("ppo-cartpole", CARTPOLE, rounds=40, about=6),
    _ppo("ppo-halfcheetah", HALFCHEETAH, rounds=4, about=8),
    _update("sac"),
    _update("td3"),
    _steps("sac"),
    _steps("td3"),
    _grpo("0.14M", rounds=3, target=2.5, about=12),
    _grpo("1M", rounds=2, target=1.5, about=40),
    _generate("0.14M", natural=True, target=1.5, about=3),
    _generate("0.14M", natural=False, target=1.5, about=2),
    _generate("1M", natural=True, target=1.0, about=8),
    _generate("1M", natural=False, target=1.0, about=6),
    Row(
        "import",
        "import pilotage and each of its public names, torch imported before",
        "imports",
        "benchmarks.starting:importing",
        None,
        kind="seconds",
        target=0.5,
        about=3,
    ),
    Row(
        "list",
        "the command: pilotage list",
        "commands",
        "benchmarks.starting:listing",
        None,
        kind="seconds",
        target=1.5,
        about=2,
    ),
    _drawing("replay", "a replay store"),
    _drawing("offline", "a logged data set"),
    _drawing("weighted", "a logged data set with weights"),
    Row(
        "bandit-inverse-gap",
        "inverse-gap weighting with a linear oracle, 10 features, 10 actions, batches of 1000, the same stream",
        "decisions",
        **_pair("bandits", "inverse_gap"),
        settings={"context": 10, "actions": 10, "batch": 1000, "rounds": 20},
        target=1.0,
        packages=("vowpalwabbit",),
        about=5,
    ),
    _gradient_steps("td3-bc", 7),
    _gradient_steps("iql", 9),
    _seeds("adyen-bandits", 5.0),
    _seeds("linucb", 5.0),
    _seeds("thompson", 5.0),
    _sampling(1, 20, 1),
    _sampling(64, 5, 1),
    Row(
        "control-step-rti-dp",
        "rti-dp, levels 2, 1, 0 from the last plan, over all 100 levels, both ours: 3 x 256, plans of 16 x 4, one lane",
        "control steps",
        **_pair("realtime", "control"),
        settings={"hidden": (256, 256, 256), "warm": (2, 1, 0), "levels": 100, "steps": 300},
        target=20.0,
        packages=("torch",),
        about=6,
    ),
    _windows("windows-decode", "per decode step", "decode step", target=1.5),
    _windows("windows-time", "per second", "second", kind="informative"),
    Row(
        "logprob-memory",
        "log-probs and their gradient, 50,000 words x 2,048 tokens, 256 hidden, over the plain computation",
        "MiB",
        **_pair("memory", "logprob"),
        settings={"vocabulary": 50_000, "tokens": 2048, "hidden": 256},
        kind="memory",
        target=0.6,
        packages=("torch",),
        about=8,
    ),
    *STEP_COSTS,
    _stepping("stepping-cartpole", "CartPole-v1", 8, 4000),
    _stepping("stepping-halfcheetah", "HalfCheetah-v5", 1, 8000),
)


def chosen(names: Iterable[str], rows: Iterable[Row] = ROWS) -> list[Row]:
    """The rows whose name starts with one of these, in their order; all of them for none. Raises ValueError."""
    known, asked = list(rows), list(names)
    for name in asked:
        if not any(row.name.startswith(name) for row in known):
            raise ValueError(f"no row starts with {name!r}; there are {', '.join(row.name for row in known)}")
    return [row for row in known if not asked or any(row.name.startswith(name) for name in asked)]


def find(name: str) -> Row:
    """The row of exactly this name."""
    return next(row for row in ROWS if row.name == name)
