"""A full step of a method over one of its baseline, at equal generated tokens: roll-out, verdicts, credit, update, and
whatever the method plays besides. Both sides are ours; the rate is generated tokens a second, all of them counted.

`prompts` of each side, 8 answers each, are such that both sides' steps generate about equally many tokens.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import Measured

PROMPTS, GROUP = 32, 8


def step_cost_ours(*, method: str, prompts: tuple[int, int], **rest: Any) -> Callable[[], Measured]:
    """The method's own steps."""
    return _steps(method, prompts=prompts[0], **rest)


def step_cost_peer(
    *, method: str, prompts: tuple[int, int], settings: Mapping[str, Any], **rest: Any
) -> Callable[[], Measured]:
    """Steps of what it differs from; without the method's settings, which its baseline does not have."""
    from pilotage.methods.method import find

    return _steps(str(find(method).baseline), prompts=prompts[1], settings={}, **rest)


def _steps(
    method: str, *, world: str, size: str, rounds: int, settings: Mapping[str, Any], prompts: int = PROMPTS
) -> Callable[[], Measured]:
    from benchmarks import tiny
    from benchmarks.ours import recipe, timed_run

    folder = tiny.to_folder(size, Path(tempfile.mkdtemp(prefix="pilotage-bench-")))
    sizes = {"prompts_per_step": prompts, "samples_per_prompt": GROUP}
    made = recipe(method, world, {**sizes, **settings}, policy=f"hf:{folder}")

    def repeat() -> Measured:
        seconds, processor, metrics = timed_run(made, rounds)
        last = metrics[-1]
        facts = {
            "generated_per_step": last["count/generated"] / rounds,
            "injected_per_step": last.get("count/injected", 0) / rounds,
            "learnt_from": last["count/decisions"] / last["count/generated"],
            "reward": last["train/reward"],
        }
        return Measured(last["count/generated"], seconds, processor, facts=facts)

    return repeat
