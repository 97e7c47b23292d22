"""Responses in windows against whole ones: what it takes to train on as many tokens. Both sides are ours.

Lengths of the model's texts are heavy-tailed without training (see `tiny`), and the rate is so low that they stay so.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks import tiny
from benchmarks.measure import Measured
from benchmarks.ours import recipe, timed_run
from pilotage.policies.llama_engine import LlamaEngine

PROMPTS, GROUP = 16, 4
SETTLED = 8  # steps until the pool is as full as it gets
RATE = 1e-6


def timed(prefill: Callable[..., Tensor], seconds: list[float]) -> Callable[..., Tensor]:
    """The engine's reading of prompts, and of what had been written before them, with its seconds noted."""

    def read(*arguments: Any) -> Tensor:
        began = time.perf_counter()
        found = prefill(*arguments)
        seconds.append(time.perf_counter() - began)
        return found

    return read


def trained_ours(*, size: str, window: int, per: str) -> Callable[[], Measured]:
    """`t-ppo`, once its pool has settled."""
    settings = {"rollout.window": window, "terms.policy.after": 0, "terms.value.optimiser.learning_rate": RATE}
    return _trained("t-ppo", size, per, 12, settings)


def trained_peer(*, size: str, window: int, per: str) -> Callable[[], Measured]:
    """`ppo`."""
    return _trained("ppo", size, per, 6, {})


def _trained(method: str, size: str, per: str, rounds: int, settings: dict[str, Any]) -> Callable[[], Measured]:
    folder = tiny.to_folder(size, Path(tempfile.mkdtemp(prefix="pilotage-bench-")))
    sizes = {"prompts_per_step": PROMPTS, "samples_per_prompt": GROUP}
    rates = {"terms.policy.optimiser.learning_rate": RATE}
    made = recipe(method, "benchmarks.sums:Sums", {**sizes, **settings, **rates}, policy=f"hf:{folder}")
    reading: list[float] = []
    LlamaEngine.prefill = timed(LlamaEngine.prefill, reading)  # type: ignore[method-assign]

    def repeat() -> Measured:
        reading.clear()
        seconds, processor, metrics = timed_run(made, rounds, SETTLED)
        before, after = metrics[0], metrics[-1]
        tokens, decoded = (after[name] - before[name] for name in ("count/generated", "count/decode_steps"))
        steps = metrics[1:]
        facts = {
            "tokens": tokens,
            "decode_steps": decoded,
            "seconds_rollout": sum(step["seconds/rollout"] for step in steps),
            "seconds_learn": sum(step["seconds/learn"] for step in steps),
            "seconds_reading": sum(reading[SETTLED + 1 : SETTLED + rounds + 1]),  # the first is an evaluation's
            "reread": sum(step.get("pool/reread", 0.0) for step in steps),
            "tokens_a_step": tokens / rounds,
        }
        if per != "second":  # counts, whatever the clock says
            return Measured(tokens, decoded, decoded, 0.0, facts)
        return Measured(tokens, seconds, processor, 0.0, facts)

    return repeat
