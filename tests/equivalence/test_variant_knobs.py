"""Methods that sample again under changed prompts, turned off, are their baseline, to the bit."""

import itertools

import pytest

from helpers import differing, final_state, metrics, text_recipe
from pilotage import api

POLICY = "terms.policy.objectives.policy"
# of few answers on this world all are wrong more often than not
WORLD = "toy_worlds:FirstDigit"
OFF = {
    "ghpo": [{"rollout.ratios": ()}, {"rollout.cold_start": 3}, {"rollout.on": 2.0, "rollout.off": 1.5}],
    "clpo": [
        {
            "rollout.mode": "off",
            "credit.filter": None,
            "terms.policy.objectives.kl.weight": 0.0,
            f"{POLICY}.reduction": "sequence",
            f"{POLICY}.loss.dual": None,
        }
    ],
}
ON = {"ghpo": {"rollout.cold_start": 0}, "clpo": {}}


def ends(recipe, folder):
    """Everything but the credit chain's and the rollout's own state after a real run."""
    api.train(recipe, out=folder)
    parts = final_state(folder)["parts"]
    return {name: parts[name] for name in ("policy", "learner", "sampler", "world")}


@pytest.mark.parametrize(("name", "off"), [(name, off) for name, ways in OFF.items() for off in ways])
def test_off_is_the_baseline(name, off, tmp_path):
    method = text_recipe(name, world=WORLD).vary("test", ON[name])
    base = text_recipe("grpo", world=WORLD)
    one, other = ends(method.vary("test", off), tmp_path / "off"), ends(base, tmp_path / "base")
    assert differing(one, other) == []
    # and it is a knob: on, the policy is another
    assert differing(ends(method, tmp_path / "on")["policy"], other["policy"]) != []


def test_hints_are_counted_where_they_are_given(tmp_path):
    recipe = text_recipe("ghpo", world=WORLD).vary("test", ON["ghpo"])
    records = [r for r in metrics(api.train(recipe, out=tmp_path / "run").folder) if r["kind"] == "train"]
    assert any(r["hint/hinted"] > 0 for r in records)
    generated, kept = (
        [after[name] - before.get(name, 0) for before, after in itertools.pairwise([{}, *records])]
        for name in ("count/generated", "count/decisions")
    )
    assert [more > less for more, less in zip(generated, kept, strict=True)] == [r["hint/hinted"] > 0 for r in records]
