"""Blotto is OpenSpiel's game, its measures are exact, pairs that are made once stay the same, and all of it resumes."""

import numpy as np
import pyspiel
import pytest
import torch

from helpers import SMALL_LM, differing, final_state, metrics, text_recipe
from pilotage import api
from pilotage.credit.preference import Pairs
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.run import loop
from pilotage.run.assemble import assemble
from pilotage.run.measures import GameValue, answer_probabilities, duality_gap, mirror_step, start_policy
from pilotage.worlds.games import Blotto

GAME = {"start": None, "prompts_per_step": 4, "steps": 2, "checkpoint_every": 1, "evaluation.every": 0} | SMALL_LM


@pytest.fixture(scope="module")
def blotto() -> Blotto:
    return Blotto()


def test_payoffs_are_those_of_the_game_played_out(blotto):
    game = pyspiel.load_game("blotto(coins=10,fields=3,players=2)")
    assert len(blotto.answers) == game.num_distinct_actions() == 66
    generator = np.random.default_rng(0)
    for i, j in generator.integers(66, size=(200, 2)).tolist():
        state = game.new_initial_state()
        assert state.action_to_string(0, i) == "[" + blotto.answers[i].replace(" ", ",") + "]"
        state.apply_actions([i, j])
        assert blotto.payoff[i, j] == (state.returns()[0] + 1) / 2
    assert np.array_equal(blotto.payoff + blotto.payoff.T, np.ones((67, 67)))


def test_no_allocation_is_best(blotto):
    legal = blotto.payoff[:-1, :-1]
    assert (legal.min(1) == 0).all()  # each loses to some other
    beats = [(i, j, k) for i in range(66) for j in range(66) for k in range(66)
             if legal[i, j] == legal[j, k] == legal[k, i] == 1.0][:1]  # fmt: skip
    assert beats


def test_what_is_no_allocation_loses(blotto):
    task = blotto.task(5, "held_out")
    assert blotto.task(0, "train").prompt == task.prompt
    wins = blotto.win_probability(task, ["4 1 5", "4 1 4", "", "04 1 5"])
    assert wins[0].tolist() == [0.5, 1.0, 1.0, 1.0]
    assert wins[1].tolist() == [0.0, 0.5, 0.5, 0.5]
    assert [blotto.verify(task, answer) for answer in ("11 0 0", "")] == [0.0, 0.0]
    assert blotto.verify(task, "3 3 4") == blotto.payoff[blotto.number("3 3 4"), :-1].mean() > 0.5
    shown = {blotto.demonstrate(task, np.random.default_rng(i)) for i in range(400)}
    assert shown <= set(blotto.answers)
    assert len(shown) > 60


@pytest.mark.parametrize("settings", [{"coins": 0}, {"fields": 1}, {"coins": 60, "fields": 5}])
def test_games_that_are_none(settings):
    with pytest.raises(UsageError, match="at least 1 coin"):
        Blotto(**settings)


def test_the_policy_vector_is_what_it_says_and_adds_up(blotto):
    policy = start_policy(api.recipe("inpo", "game:blotto", settings=GAME), blotto)
    found = answer_probabilities(policy, blotto)
    assert found.shape == (67,)
    assert found.sum() == pytest.approx(1.0)
    said = policy.speak(
        [torch.tensor(policy.encode("?", prompt=True))],
        torch.rand(4000, 7, generator=torch.Generator().manual_seed(0)),
        repeats=4000,
    )  # fmt: skip
    rows = [blotto.number(policy.decode(tokens)) for tokens in said.tokens]
    shares = np.bincount(rows, minlength=67) / 4000
    assert np.abs(shares - found).max() < 0.02


def test_exact_steps_from_a_policy_close_the_gap(blotto):
    start = np.full(67, 1 / 67)
    policy, gaps = start, []
    for _ in range(60):
        gaps.append(duality_gap(policy, start, blotto.payoff, 0.1))
        policy = mirror_step(policy, start, blotto.payoff, 1.0, 0.1)
    assert gaps[0] > 0.1
    assert gaps[-1] < 1e-3
    assert all(gap >= -1e-12 for gap in gaps)


def test_a_run_in_the_game_says_what_it_is_worth(tmp_path):
    run = api.train(api.recipe("inpo", "game:blotto", settings=GAME), out=tmp_path / "run")
    first, last = (record for record in run.metrics() if record["kind"] == "eval")
    assert first["game/gap"] > 0
    assert first["game/start_win"] == pytest.approx(0.5)  # the start against itself
    assert 0 < first["game/legal"] < 1
    assert last["game/entropy"] != first["game/entropy"]
    trained = [record for record in run.metrics() if record["kind"] == "train"]
    assert all(record["labels/made"] == 4.0 for record in trained)
    with pytest.raises(UsageError, match="no game"):
        GameValue()(run.load().policy, text_recipe("dpo").world.build(), run.recipe)
    with pytest.raises(UsageError, match="tau is above 0"):
        GameValue(tau=0.0)


# ---- pairs that are made once


def made(recipe, step):
    parts = assemble(recipe)
    batch = parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, step, 3, 4)
    return parts, batch


def test_a_pass_has_every_group_once_and_each_its_own_order():
    recipe = text_recipe("dpo")
    parts, first = made(recipe, 0)
    steps = [first] + [
        parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, step, 3, 4) for step in (1, 2, 3)
    ]
    origins = [batch["origin"][::4].tolist() for batch in steps]
    assert sorted(origins[0] + origins[1]) == sorted(origins[2] + origins[3]) == list(range(6))
    assert origins[:2] != origins[2:]
    assert [bool(batch["replayed"].any()) for batch in steps] == [False, False, True, True]
    assert all("behaviour_logp" not in batch for batch in steps)
    answers = {}
    for batch in steps:
        for place, answer in zip(batch["origin"].tolist(), batch.notes["answer"], strict=True):
            answers.setdefault(place, []).append(answer)
    assert all(sorted(said[:4]) == sorted(said[4:]) for said in answers.values())


def test_replayed_answers_are_not_counted_again(tmp_path):
    run = api.train(text_recipe("dpo", settings={"steps": 4}), out=tmp_path / "run")
    counts = [record["count/episodes"] for record in run.metrics() if record["kind"] == "train"]
    assert counts == [12, 24, 24, 24]


@pytest.mark.parametrize("flip", [0.0, 0.5])
def test_pairs_of_later_passes_are_labelled_as_before(flip):
    parts, _ = made(text_recipe("dpo"), 0)
    link, found = Pairs(flip=flip), {}
    for step in range(6):
        batch = parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, step, 3, 4)
        pairs = link(batch, parts.world, Streams(0), step)
        for i in range(len(pairs)):
            preferred = bool(pairs["preferred"][pairs.offsets[i]])
            found.setdefault((int(pairs["origin"][i]), preferred), set()).add(pairs.notes["answer"][i])
    assert found
    assert all(len(answers) == 1 for answers in found.values())


@pytest.mark.parametrize("name", ["rpo", "inpo"])
def test_a_run_broken_off_goes_on_to_the_bit(name, tmp_path):
    recipe = text_recipe(name, settings={"steps": 4, "evaluation.every": 1, "credit.pairs.flip": 0.3})
    whole, parted = tmp_path / "whole", tmp_path / "parted"
    api.train(recipe, out=whole)
    loop.train(recipe, parted, until=3)
    api.resume(parted)
    assert differing(final_state(whole), final_state(parted)) == []
    assert metrics(whole) == metrics(parted)
