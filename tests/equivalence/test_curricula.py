"""Samplers that choose what to try: off, they are the baseline to the bit; stopped, they go on exactly; they stack."""

import numpy as np
import pytest
import torch

from helpers import control_recipe, differing, final_state, metrics, mixed_recipe, text_recipe
from pilotage import api
from pilotage.data.batch import Stop
from pilotage.data.piece import UsageError, piece
from pilotage.run import loop
from pilotage.run.assemble import assemble
from pilotage.run.categories import ByCategory
from pilotage.run.recipe import Recipe
from pilotage.samplers.uniform import Round

SAMPLER = "sampler"
SIX = {"steps": 6, "evaluation.every": 3}
KINDS = {
    "sec": lambda **more: mixed_recipe("sec", settings={**SIX, **more}),
    "sec-queues": lambda **more: mixed_recipe(
        "sec", settings={**SIX, "sampler.pool": 4, "sampler.decay": True, **more}
    ),
    "mmr1": lambda **more: text_recipe(
        "mmr1", settings={**SIX, "sampler.every": 2, "sampler.smoothing": 0.5, "sampler.samples": 4, **more}
    ),
    "sec-progress": lambda **more: mixed_recipe("sec", settings={**SIX, "sampler.signal": "progress", **more}),
    "sec-on-t-ppo": lambda **more: in_windows("sec", **more),
    "mmr1-on-t-ppo": lambda **more: in_windows("mmr1", **more),
    "sec+nft": lambda **more: mixed_recipe("sec+nft", settings={**SIX, **more}),
    "mmr1+lite-ppo": lambda **more: text_recipe("mmr1+lite-ppo", settings={**SIX, "sampler.every": 3, **more}),
}


def in_windows(curriculum: str, **more) -> Recipe:
    """T-PPO, whose answers go on from step to step, with the sampler of a curriculum."""
    make = mixed_recipe if curriculum == "sec" else text_recipe
    sampler = make(curriculum, settings={"sampler.every": 2} if curriculum == "mmr1" else {}).sampler
    return make("t-ppo", settings={**SIX, "rollout.window": 2, **more}).vary("test", {SAMPLER: sampler})


def the_rest(recipe: Recipe, folder):
    """Policy, optimiser and unfinished work after a real run: everything but the samplers' own state."""
    api.train(recipe, out=folder)
    parts = final_state(folder)["parts"]
    return {name: parts[name] for name in ("policy", "learner", "rollout", "world", "links")}


@pytest.mark.parametrize(
    "make", [text_recipe, lambda name: control_recipe(name, "toy_worlds:Line")], ids=["text", "control"]
)
def test_sec_with_one_category_is_grpo(make, tmp_path):
    one, other = (the_rest(make(name), tmp_path / name) for name in ("sec", "grpo"))
    assert differing(one, other) == []


def test_sec_with_several_is_another_run(tmp_path):
    one, other = (the_rest(mixed_recipe(name), tmp_path / name) for name in ("sec", "grpo"))
    assert differing(one["policy"], other["policy"]) != []


def test_mmr1_without_its_share_is_grpo_on_the_same_pool(tmp_path):
    pool = text_recipe("grpo").vary("test", {SAMPLER: piece(Round, pool=8)})
    off, on = text_recipe("mmr1", settings={"sampler.share": 0.0}), text_recipe("mmr1")
    one, other, turned_on = (the_rest(r, tmp_path / str(i)) for i, r in enumerate((off, pool, on)))
    assert differing(one, other) == []
    assert differing(turned_on["policy"], other["policy"]) != []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [3, 4])  # between two scorings, and just before one
def test_a_stop_changes_nothing(kind, at, tmp_path):
    whole, parted = api.train(KINDS[kind](), out=tmp_path / "whole").folder, tmp_path / "parted"
    loop.train(KINDS[kind](), parted, until=at)
    before = final_state(parted)["parts"][SAMPLER]
    api.resume(parted)
    assert differing(final_state(whole), final_state(parted)) == []
    assert metrics(whole) == metrics(parted)
    assert differing(before, final_state(parted)["parts"][SAMPLER]) != []


def test_a_run_says_what_it_drew(tmp_path):
    records = [r for r in metrics(api.train(KINDS["sec"](), out=tmp_path / "sec").folder) if r["kind"] == "train"]
    names = ("one", "two", "three")
    assert all(sum(r[f"sampler/share/{name}"] for name in names) == pytest.approx(1.0) for r in records)
    # nothing is to be learnt where all answers are worth the same
    assert records[-1]["sampler/value/three"] == 0.0
    assert records[-1]["sampler/value/one"] > 0.0


def test_both_accounts_of_rollouts(tmp_path):
    records = [r for r in metrics(api.train(KINDS["mmr1"](), out=tmp_path / "mmr1").folder) if r["kind"] == "train"]
    for step, record in enumerate(records):
        training = (step + 1) * 12
        assert record["sampler/rollouts/training"] == record["count/episodes"] == training
        assert record["sampler/rollouts/all"] == training + (step // 2 + 1) * 8 * 4
        assert 0.0 <= record["train/no_signal"] <= 1.0
        assert record["count/generated"] > record["count/decisions"]  # scoring generates and is not learnt from


def test_rollouts_are_counted_when_they_end(tmp_path):
    records = metrics(api.train(KINDS["mmr1-on-t-ppo"](), out=tmp_path / "run").folder)
    trained = [r for r in records if r["kind"] == "train"]
    assert all(r["sampler/rollouts/training"] == r["count/episodes"] for r in trained)
    assert 0 < trained[-1]["count/episodes"] < 6 * 12  # some went on from step to step
    assert trained[-1]["sampler/rollouts/all"] == trained[-1]["count/episodes"] + 3 * 8 * 8


def test_values_in_windows_are_those_of_answers_that_ended():
    parts = assemble(in_windows("sec"))
    lone = 0
    for step in range(5):
        parts.sampler.prepare(parts.play(step), step)
        batch = parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, step, 3, 4)
        before = parts.sampler.values.copy()
        parts.sampler.observe(batch)
        sizes: dict[str, list[float]] = {}
        for _, group in batch.groups():
            over = ((group["stop"] != Stop.WINDOW) & group.valid).nonzero().squeeze(-1).tolist()
            lone += len(over) == 1
            returns = np.array([float(group["episode_return"][i]) for i in over])
            if len(over) > 1:
                deviation = returns.std(ddof=1)
                size = np.abs(returns - returns.mean()) / (deviation + 1e-6) if deviation > 0 else 0 * returns
                sizes.setdefault(group.notes["category"][0], []).extend(size.tolist())
        expected = [
            q if name not in sizes else 0.5 * q + 0.5 * float(np.mean(sizes[name]))
            for name, q in zip(parts.sampler.names, before, strict=True)
        ]
        assert parts.sampler.values == pytest.approx(expected, abs=1e-6)
    assert lone > 0  # and some groups ended one by one
    assert parts.sampler.values.any()


def test_scores_are_saved(tmp_path):
    found = final_state(api.train(KINDS["mmr1"](), out=tmp_path / "run").folder)["parts"][SAMPLER]
    assert found["weights"]["value"].shape == (8,)
    assert found["scored"] == 3 * 8 * 4


@pytest.mark.parametrize("name", ["sec+nft", "mmr1+lite-ppo"])
def test_stacks_keep_both_differences(name):
    curriculum, other = name.split("+")
    make = mixed_recipe if curriculum == "sec" else text_recipe
    stack, one, two = make(name), make(curriculum), make(other)
    assert stack.sampler == one.sampler
    assert (stack.credit, stack.terms) == (two.credit, two.terms)


def test_a_rollout_that_cannot_play_a_task_is_refused(tmp_path):
    base = text_recipe("mmr1")
    with pytest.raises(UsageError, match="Demonstrations does not play"):
        api.train(base.vary("test", {"rollout": text_recipe("sft").rollout}), out=tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_accuracy_by_category(tmp_path):
    recipe = mixed_recipe("sec", settings={"steps": 2}).vary(
        "test", {"evaluation.measures": {"categories": piece(ByCategory, tasks=5)}}
    )
    first = next(r for r in metrics(api.train(recipe, out=tmp_path / "run").folder) if r["kind"] == "eval")
    assert {name for name in first if name.startswith("category/")} == {
        f"category/{name}" for name in ("one", "two", "three", "four", "within", "beyond")
    }
    within = torch.tensor([first[f"category/{name}"] for name in ("one", "two", "three")]).mean()
    assert first["category/within"] == pytest.approx(float(within))
    assert first["category/three"] == pytest.approx(0.3)
    assert first["category/beyond"] == first["category/four"]
    plain = text_recipe("grpo").vary("test", {"evaluation.measures": {"categories": piece(ByCategory)}})
    with pytest.raises(UsageError, match="has no categories"):
        api.train(plain, out=tmp_path / "plain")
