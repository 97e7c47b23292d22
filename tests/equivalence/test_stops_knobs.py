"""Forced stops without effect are the baseline, to the bit, after three real steps."""

import pytest

from helpers import differing, final_state, text_recipe
from pilotage import api
from pilotage.data.piece import piece
from pilotage.rollouts.traces import Traces
from pilotage.run.recipe import difference

WHOLE = {"rollout.budgets": (4,), "rollout.answers": 1, "rollout.strict": False, "terms.policy.unit": ""}
EMPTY = {"rollout.begun": False, "credit.progress.alpha": 0.0}
NOWHERE = {"rollout.ends": 0}
OFF = [("anytime-reasoner", "dr-grpo", WHOLE), ("mrt", "grpo", EMPTY), ("mrt-star", "rft", NOWHERE)]
SCRATCHPAD = {"world.marker": "=", "world.detours": 0.3, "world.time_limit": None, "world.partial_credit": True,
              "policy.context": 96}  # fmt: skip


def ends(recipe, folder):
    """What a run of three steps leaves behind, but for the credit chain's own state."""
    api.train(recipe, out=folder)
    parts = final_state(folder)["parts"]
    return {name: parts[name] for name in ("policy", "learner", "sampler", "rollout", "world")}


@pytest.mark.parametrize(("name", "baseline", "off"), OFF)
@pytest.mark.parametrize("scratchpad", [False, True])
def test_off_is_the_baseline(name, baseline, off, scratchpad, tmp_path):
    more = {"world": "reasoning:chain_sum", "settings": SCRATCHPAD} if scratchpad else {}
    method, base = (text_recipe(slug, **more) for slug in (name, baseline))
    if scratchpad and "rollout.budgets" in off:
        off = {**off, "rollout.budgets": (25,)}  # all that this world allows a message
    one, other = ends(method.vary("test", off), tmp_path / "off"), ends(base, tmp_path / "base")
    assert differing(one, other) == []
    assert differing(ends(method, tmp_path / "on")["policy"], other["policy"]) != []


@pytest.mark.parametrize(("name", "baseline", "off"), OFF)
def test_it_differs_in_rollout_credit_and_what_is_measured_only(name, baseline, off):
    left = [path for path, *_ in difference(text_recipe(name).vary("test", off), text_recipe(baseline))]
    assert {path.partition(".")[0] for path in left} == {"rollout", "credit", "evaluation"}


@pytest.mark.parametrize("off", [{"rollout.ends": 0}, {"credit.progress.alpha": 0.0}])
def test_the_online_form_without_stops_or_weight_is_grpo(off, tmp_path):
    more = {"world": "reasoning:chain_sum", "settings": SCRATCHPAD}
    online = text_recipe("mrt", **more).vary("test", {"rollout": piece(Traces, stops=2)})
    one, other, on = (
        ends(recipe, tmp_path / str(i))
        for i, recipe in enumerate((online.vary("test", off), text_recipe("grpo", **more), online))
    )
    assert differing(one, other) == []
    assert differing(on["policy"], other["policy"]) != []
