"""Five steps of every method as they were when last looked at: a change that moves a number has to say so.

Written anew with `PILOTAGE_WRITE_GOLDEN=1 pytest tests/golden`, and then with a reason in the commit. The comparison is
relative, since another processor's matrix products round otherwise.
"""

import json
import os
from pathlib import Path

import pytest

from helpers import (
    chain_recipe,
    control_recipe,
    goals_recipe,
    learns_from_a_log,
    logged_recipe,
    metrics,
    table_recipe,
    text_recipe,
)
from pilotage import api
from pilotage.methods.method import Method, methods

LOGS = Path(__file__).parent / "logs"
KEPT = (
    "train/reward", "train/length", "train/kept", "count/decisions", "eval/return", "eval/accuracy", "eval/regret",
    "total_regret", "plan/value",
)  # fmt: skip
FIVE = {"steps": 5, "evaluation.every": 5}
WORLDS = {
    "text": lambda slug: text_recipe(slug, settings=FIVE),
    "modes": lambda slug: text_recipe(slug, world="toy_worlds:Tagged", settings=FIVE),
    "discrete": lambda slug: control_recipe(slug, "toy_worlds:Line", settings=FIVE),
    "box": lambda slug: control_recipe(slug, "gym:Pendulum-v1", settings=FIVE),
    "logged": lambda slug: logged_recipe(slug, settings=FIVE),
    "goals": lambda slug: goals_recipe(slug, settings=FIVE),
    "bandit": lambda slug: api.recipe(slug, "bandit:logistic", settings={**FIVE, "prompts_per_step": 200}),
    "finite": lambda slug: table_recipe(slug, "finite:frozen-lake", settings=FIVE),
    "denoise": lambda slug: chain_recipe(slug, settings=FIVE),
}


def kinds(method: Method) -> tuple[str, ...]:
    """A log in place of worlds where a method plays in none; one kind of actions, but for those that take no other."""
    if learns_from_a_log(method):
        return ("logged",)
    return tuple(kind for kind in method.worlds if kind not in ("box", "denoise") or "discrete" not in method.worlds)


PAIRS = [(slug, kind) for slug, method in sorted(methods().items()) for kind in WORLDS if kind in kinds(method)]


def played(slug: str, world: str, folder: Path) -> list[dict[str, float]]:
    """What a golden log holds of each record: six digits of rewards, lengths, losses and gradient norms."""
    api.train(WORLDS[world](slug), out=folder)
    found = []
    for record in metrics(folder):
        kept = {k: v for k, v in record.items() if k in KEPT or k.endswith(("/loss", "/gradient_norm"))}
        found.append({"step": record["step"], **{k: float(f"{v:.6g}") for k, v in sorted(kept.items())}})
    return found


@pytest.mark.parametrize(("slug", "world"), PAIRS)
def test_five_steps_are_what_they_were(slug, world, tmp_path):
    log = LOGS / f"{slug}-{world}.jsonl"
    found = played(slug, world, tmp_path / "run")
    if os.environ.get("PILOTAGE_WRITE_GOLDEN"):
        log.write_text("".join(json.dumps(record) + "\n" for record in found))
    expected = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(found) == len(expected) == 7  # before, five steps, after
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=2e-3, abs=1e-5)


def test_no_log_is_left_over():
    assert {path.name for path in LOGS.iterdir()} == {f"{slug}-{world}.jsonl" for slug, world in PAIRS}
