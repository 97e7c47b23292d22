"""A method with its own knob turned off is its baseline, to the bit, after three real steps."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from helpers import control_recipe, differing, final_state, text_recipe
from pilotage import api, credit
from pilotage.credit.reference import Reference
from pilotage.data.piece import piece
from pilotage.learn.terms import Objective
from pilotage.run.recipe import Recipe, difference

POLICY = "terms.policy.objectives.policy"
WORLDS = {
    "text": text_recipe,
    "control": lambda name, **more: control_recipe(name, "toy_worlds:Line", **more),
}

# the same of methods for worlds of texts only
OFF_TEXTS = [
    ("rpo", "dpo", {f"{POLICY}.loss.eta": 0.0}),
    ("inpo", "iterated-ipo", {f"{POLICY}.loss.tau": 0.0}),
    (
        "rep-exp",
        "grpo",
        {"credit.bonus.beta": 0.0, f"{POLICY}.reduction": "sequence", "evaluation.measures.pools": None},
    ),
]
# method, its baseline, what turns its knobs off
OFF = [
    ("lite-ppo", "grpo", {"credit.advantage.std": "group", f"{POLICY}.reduction": "sequence"}),
    ("nft", "rft", {f"{POLICY}.loss.negative_weight": 0.0}),
    ("dapo", "grpo", {"credit.filter": None, f"{POLICY}.loss.high": 0.2, f"{POLICY}.reduction": "sequence"}),
    ("dr-grpo", "grpo", {"credit.advantage.std": "group", f"{POLICY}.reduction": "sequence"}),
    (
        "reinforce++",
        "grpo",
        {"credit.advantage.mean": "group", "credit.advantage.std": "group", f"{POLICY}.reduction": "sequence"},
    ),
]


def ends(recipe: Recipe, folder: Any) -> dict[str, Any]:
    """Everything but the credit chain's own state after a real run of three steps."""
    api.train(recipe, out=folder)
    parts = final_state(folder)["parts"]
    return {name: parts[name] for name in ("policy", "learner", "sampler", "rollout", "world")}


@pytest.mark.parametrize(
    ("name", "baseline", "off", "kind"),
    [(*one, kind) for one in OFF for kind in WORLDS] + [(*one, "text") for one in OFF_TEXTS],
)
def test_off_is_the_baseline(name, baseline, off, kind, tmp_path):
    make = WORLDS[kind]
    method, base = make(name), make(baseline)
    turned = method.vary("test", off)
    one, other, on = (ends(r, tmp_path / str(i)) for i, r in enumerate((turned, base, method)))
    assert differing(one, other) == []
    # and it is a knob: on, the policy is another
    assert differing(on["policy"], other["policy"]) != []


@pytest.mark.parametrize("kind", WORLDS)
def test_mdpo_without_its_divergence_is_ppo_without_clipping(kind, tmp_path):
    make = WORLDS[kind]
    mdpo, ppo = make("mdpo"), make("ppo")
    shared = ("parameters", "optimiser", "epochs", "minibatches", "max_grad_norm", "schedule")
    matching = {
        "terms.policy.objectives": {"policy": ppo.get(POLICY)},
        f"{POLICY}.loss.low": None,
        f"{POLICY}.loss.high": None,
        f"{POLICY}.reduction": mdpo.get(f"{POLICY}.reduction"),
        **{f"terms.policy.{name}": mdpo.get(f"terms.policy.{name}") for name in shared},
        "terms.value": mdpo.get("terms.value"),
        "credit": {name: ppo.credit[name] for name in mdpo.credit if name in ppo.credit},
    }
    off = mdpo.vary("test", {f"{POLICY}.loss.pace": math.inf})
    one, other, on = (ends(r, tmp_path / str(i)) for i, r in enumerate((off, ppo.vary("test", matching), mdpo)))
    assert differing(one, other) == []
    assert differing(on["policy"], other["policy"]) != []


@pytest.mark.parametrize("alpha", [None, 0.05])
def test_t_ppo_in_one_window_is_ppo_with_a_monte_carlo_critic(alpha, tmp_path):
    settings = {"steps": 4, "rollout.window": 99, "terms.policy.after": 1}
    t_ppo, ppo = text_recipe("t-ppo", settings=settings), text_recipe("ppo", settings={"steps": 4})
    off = t_ppo.vary("test", {"credit.gae.alpha": alpha})
    whole = {"credit.target": piece(credit.windows.monte_carlo)}  # of messages in one piece: rewards to go
    losses_alike = {"terms.policy.objectives": plain(t_ppo.terms["policy"].objectives)}
    value = dataclasses.replace(t_ppo.terms["value"], objectives=plain(t_ppo.terms["value"].objectives))
    matching = {f"terms.policy.{name}": t_ppo.get(f"terms.policy.{name}") for name in ("parameters", "after")}
    base = ppo.vary("test", {**whole, **losses_alike, **matching, "terms.value": value})
    assert base.rollout.use != off.rollout.use
    folders = [tmp_path / str(i) for i in range(3)]
    one, other, on = (ends(r, f) for r, f in zip((off, base, text_recipe("t-ppo")), folders, strict=True))
    shared = ("policy", "learner", "sampler")
    assert differing({name: one[name] for name in shared}, {name: other[name] for name in shared}) == []
    assert differing(on["policy"], other["policy"]) != []


def plain(objectives: Mapping[str, Objective]) -> dict[str, Objective]:
    """The same of all decisions."""
    return {name: dataclasses.replace(one, where="") for name, one in objectives.items() if name != "praise"}


def test_the_chain_of_credit_keeps_its_order():
    # what a method adds to its baseline's chain stands after it, or the run would be another
    assert list(text_recipe("mdpo").credit)[:3] == list(text_recipe("ppo").credit)


@pytest.mark.parametrize("end", [0.0, 0.3])
def test_inpo_at_either_end_is_ipo_against_one_of_its_anchors(end, tmp_path):
    inpo = text_recipe("inpo", settings={f"{POLICY}.loss.tau": end})
    weights = {f"{POLICY}.loss.reference": end / 0.3, f"{POLICY}.loss.previous": 1 - end / 0.3}
    one, other = (
        ends(r, tmp_path / str(i)) for i, r in enumerate((inpo, text_recipe("iterated-ipo").vary("test", weights)))
    )
    assert differing(one, other) == []


@pytest.mark.parametrize(("name", "baseline", "off"), OFF + OFF_TEXTS, ids=[name for name, *_ in OFF + OFF_TEXTS])
def test_a_method_differs_from_its_baseline_in_its_knobs_only(name, baseline, off):
    paths = {path for path, *_ in difference(text_recipe(name), text_recipe(baseline))}
    extra = {
        path for path in paths if not any(path == p or path.startswith((p + ".", p.rpartition(".")[0])) for p in off)
    }
    assert extra == set()


@pytest.mark.parametrize("kind", WORLDS)
def test_a_penalty_of_weight_zero_is_none(kind, tmp_path):
    # the reference's log-probs are worked out, and weigh nothing
    base = WORLDS[kind]("grpo")
    with_reference = base.vary("test", {"credit.reference": piece(Reference)})
    assert base.get("terms.policy.objectives.kl.weight") == 0.0
    one, other = ends(base, tmp_path / "a"), ends(with_reference, tmp_path / "b")
    assert differing(one, other) == []
    on = with_reference.vary("test", {"terms.policy.objectives.kl.weight": 0.5})
    assert differing(ends(on, tmp_path / "c")["policy"], other["policy"]) != []


def test_equal_to_the_bit_means_to_the_bit():
    one = {"x": torch.tensor([0.0, 1.0])}
    assert differing(one, {"x": torch.tensor([-0.0, 1.0])}) == ["/x"]
    assert differing(one, {"x": torch.tensor([0.0, 1.0 + 1e-7])}) == ["/x"]
    assert differing(one, {"y": torch.tensor([0.0, 1.0])}) == ["/x", "/y"]
    assert differing(one, {"x": torch.tensor([0.0, 1.0])}) == []
