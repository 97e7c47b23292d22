"""A user's mistake gives one line with the nearest name, and exit status 2; nothing is written and nothing is shown of
the code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

TABULAR = ("--world", "tabular")
MISTAKES = [
    (["lst"], "no verb 'lst'; did you mean 'list'?"),
    (["list", "--jsn"], "no option --jsn; did you mean '--json'?"),
    (["show", "nftt"], "no method 'nftt'; did you mean 'nft'?"),
    (["train"], "missing argument 'NAME'"),
    (["train", "gropo"], "no method 'gropo'; did you mean 'grpo'?"),
    (["train", "grpo+lite-pp"], "did you mean 'lite-ppo'?"),
    (["train", "lite-ppo+dr-grpo", *TABULAR], "both set 'credit.advantage.std'"),
    (["train", "mdpo+nft", *TABULAR], "these do not stack"),
    (["train", "ppo", "--world", "resoning:chain_sum"], "did you mean 'reasoning:chain_sum'?"),
    (["train", "ppo", "--world", "reasoning:chain_sums"], "did you mean 'chain_sum'?"),
    (["train", "ppo", "--world", "gym:CartPol-v1"], "did you mean 'CartPole-v1'?"),
    (["train", "ppo", "--world", "no_such_module:World"], "there is no world 'no_such_module:World'"),
    (["train", "ppo", "--world", "json:JSONDecoder"], "is not a world"),
    (["train", "gcbc", "--world", "pointmaze:Medum"], "did you mean 'Medium'?"),
    (["train", "gcbc", "--world", "pointmaze:Medium", "--set", "world.goal=[9,9]"], "outside the free cells of Medium"),
    (["train", "gcbc", "--world", "gym:Pendulum-v1"], "gcbc is for worlds of kind goals"),
    (["train", "ppo", *TABULAR, "--policy", "mpl"], "no policy 'mpl'; did you mean 'mlp'?"),
    (["train", "ppo", *TABULAR, "--policy", "lm"], "needs a world of texts"),
    (["train", "grpo", "--policy", "mlp"], "takes Box or Discrete observations"),
    (["train", "ppo", *TABULAR, "--set", "lerning_rate=1"], "did you mean 'terms.policy.optimiser.learning_rate'?"),
    (["train", "ppo", *TABULAR, "--set", "policy.hiden=[3]"], "did you mean 'hidden'?"),
    (["train", "ppo", *TABULAR, "--set", "learning_rate"], "--set takes PATH=VALUE"),
    (["train", "ppo", *TABULAR, "--set", "learning_rate=fast"], "takes a number, not 'fast'"),
    (["train", "ppo", *TABULAR, "--set", "learning_rate=-1"], "Invalid learning rate: -1"),
    (["train", "ppo", *TABULAR, "--set", "policy.hidden=[-3]"], "ActorCritic"),
    (["train", "ppo", *TABULAR, "--set", "epochs=0"], "pilotage: epochs, minibatches and every are at least 1"),
    (["train", "rloo", *TABULAR, "--set", "samples_per_prompt=1"], "samples_per_prompt is at least 2, not 1"),
    (["train", "ppo", *TABULAR, "--steps", "0"], "steps is at least 1, not 0"),
    (["train", "ppo", *TABULAR, "--steps", "many"], "'many' is not a valid integer"),
    (["train", "ppo", *TABULAR, "--threads", "0"], "--threads"),
    (["train", "ppo", *TABULAR, "--set", "evaluation.tasks=0"], "evaluation.tasks is at least 1, not 0"),
    (["train", "ppo", *TABULAR, "--set", "limits.invalid=nan"], "limits.invalid"),
    (["train", "ppo", *TABULAR, "--set", "gae=3"], "credit.gae takes an import path module:name, not '3'"),
    (["train", "ppo", *TABULAR, "--set", "gae=no_module:thing"], "cannot import 'no_module'"),
    (["train", "ppo", *TABULAR, "--set", "prompts_per_step=none"], "prompts_per_step takes a whole number, not none"),
    (["train", "ppo", *TABULAR, "--set", "steps=true"], "steps takes a whole number, not 'true'"),
    (["train", "ppo", *TABULAR, "--set", "sampler=none"], "sampler takes an import path module:name, not none"),
    (["train", "ppo", *TABULAR, "--set", "start=sft"], "start is a recipe"),
    (["train", "ppo", *TABULAR, "--set", "minibatch_decisions=few"], "takes a whole number, not 'few'"),
    (["train", "ppo", *TABULAR, "--set", "policy.hidden=none"], "policy.hidden takes a list such as [64,64], not none"),
    (["train", "ppo", *TABULAR, "--set", "evaluation=3"], "evaluation takes settings of its own"),
    (["train", "ppo", *TABULAR, "--config", "none.toml"], "cannot read none.toml"),
    (["compare", "ppo", *TABULAR], "two or more methods"),
    (["compare", "ppo", "ppo", *TABULAR], "ppo is named twice"),
    (["compare", "mdpo", "ppo", *TABULAR, "--seeds", "0"], "seeds is at least 1, not 0"),
    (["compare", "mdpo", "ppo", *TABULAR, "--jobs", "0"], "--jobs"),
    (["compare", "mdpo", "ppo", *TABULAR, "--set", "nothing=1"], "the recipe has no 'nothing'"),
    (["compare", "mdpo", "ppo", *TABULAR, "--policy", "lm"], "needs a world of texts"),
    (["resume", "nowhere"], "nowhere is not a run folder"),
    (["eval", "nowhere"], "nowhere is not a run folder"),
]


@pytest.mark.parametrize(("arguments", "said"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_one_line_and_status_2(pilotage: Callable, own_folder: Path, arguments: list[str], said: str) -> None:
    found = pilotage(*arguments)
    assert found.status == 2
    assert said in found.err
    assert len(found.err.strip().splitlines()) == 1
    assert found.out == ""
    assert list(own_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "lerning_rate = 1.0", "did you mean 'terms.policy.optimiser.learning_rate'?"),
        ("a.toml", "steps = ", "a.toml is not TOML"),
        ("a.json", '{"policy": {"hiden": 3}}', "did you mean 'hidden'?"),
        ("a.json", "[1]", "holds no table"),
        ("a.json", '{"steps": 2.5}', "steps takes a whole number, not 2.5"),
        ("a.json", '{"world": 3}', "world is named by a text"),
        ("a.json", '{"policy.hidden": "wide"}', "policy.hidden takes a list such as [64,64], not 'wide'"),
    ],
)
def test_a_configuration_file_is_held_to_its_keys(
    pilotage: Callable, own_folder: Path, name: str, text: str, said: str
) -> None:
    (own_folder / name).write_text(text)
    world = () if "world" in text else TABULAR
    found = pilotage("train", "ppo", *world, "--config", name, "--out", "run")
    assert found.status == 2
    assert said in found.err
    assert not (own_folder / "run").exists()


def test_options_win_over_the_file(pilotage: Callable, own_folder: Path) -> None:
    (own_folder / "a.toml").write_text('world = "tabular"\nsteps = 9\nseed = 4\n[policy]\nhidden = [8]\n')
    tree = json.loads(pilotage("explain", "ppo", "--config", "a.toml", "--steps", "3", "--json").out)
    assert (tree["steps"], tree["seed"], tree["policy"]["hidden"]) == (3, 4, [8])
    assert "tabular" in tree["world"]["use"]


def test_a_setting_without_its_prefix_reaches_start_and_policy_alike(pilotage: Callable) -> None:
    tree = json.loads(pilotage("explain", "grpo", "--set", "hidden=32", "--json").out)
    assert tree["policy"]["hidden"] == tree["start"]["policy"]["hidden"] == 32


def test_a_folder_in_use_points_to_resume(pilotage: Callable, own_folder: Path) -> None:
    (own_folder / "run").mkdir()
    (own_folder / "run" / "something").write_text("")
    found = pilotage("train", "ppo", *TABULAR, "--out", "run")
    assert (found.status, found.err) == (2, "pilotage: run exists and is not empty; choose another --out\n")
    (own_folder / "run" / "manifest.json").write_text("{}")
    assert "go on with `pilotage resume run`" in pilotage("train", "ppo", *TABULAR, "--out", "run").err


def test_a_bug_in_a_users_module_is_named_with_its_line(pilotage: Callable, echo_world: str) -> None:
    found = pilotage("train", "grpo", "--world", f"{echo_world}:Raises", "--steps", "1")
    assert found.status == 1
    assert "NameError: name 'no_such_name' is not defined" in found.err
    assert f"{echo_world}.py:21" in found.err
    assert len(found.err.strip().splitlines()) == 1


def test_a_world_that_refuses_its_settings_is_named_with_its_line(pilotage: Callable, echo_world: str) -> None:
    found = pilotage("train", "grpo", "--world", f"{echo_world}:Refuses")
    assert found.status == 2
    assert "Refuses: size is not to its liking" in found.err
    assert f"{echo_world}.py:26" in found.err


def test_a_misspelt_class_of_ones_own(pilotage: Callable, echo_world: str) -> None:
    found = pilotage("train", "grpo", "--world", f"{echo_world}:Ecko")
    assert found.status == 2
    assert "did you mean 'Echo'?" in found.err


def test_debug_shows_the_traceback(pilotage: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PILOTAGE_DEBUG", "1")
    from pilotage import UsageError
    from pilotage.cli import main

    with pytest.raises(UsageError):
        main(["show", "nftt"])


LOG = "timestamp,item_id,position,click,propensity_score,user_feature_0\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LOG.replace(",propensity_score", ""), "men.csv has no column 'propensity_score'"),
        (LOG + "2019,0,1,1,0.5,a\n2019,1,1,0,0.0,a\n", "1 of the log's 2 rounds have a propensity not above 0"),
        (LOG + "2019,0,1,1,0.5,a\n2019,1,1,0,,a\n", "propensity of round 1 of the log is not a finite number"),
        (LOG, "the log has no rounds"),
        (None, "there is no file"),
    ],
    ids=["no propensities", "zeros", "an empty one", "no rounds", "no file"],
)
@pytest.mark.parametrize("method", ["adyen-bandits", "linucb"])
def test_a_bad_log_is_one_line(pilotage: Callable, own_folder: Path, method: str, text: str | None, said: str) -> None:
    if text is not None:
        (own_folder / "random" / "men").mkdir(parents=True)
        (own_folder / "random" / "men" / "men.csv").write_text(text, encoding="utf-8")
    before = sorted(own_folder.rglob("*"))
    found = pilotage("train", method, "--world", "bandit:open-bandit", "--set", f"world.folder={own_folder}")
    assert found.status == 2
    assert said in found.err
    assert len(found.err.strip().splitlines()) == 1
    assert sorted(own_folder.rglob("*")) == before


EMPTY = '''
from pilotage.worlds.bandits import SimulatedBandit


class Empty(SimulatedBandit):
    """Has no action from the third round on."""

    def _available(self, rng, count):
        found = super()._available(rng, count)
        found[2:] = False
        return found
'''


def test_an_empty_action_set_is_one_line(pilotage: Callable, own_folder: Path) -> None:
    (own_folder / "forgetful.py").write_text(EMPTY, encoding="utf-8")
    before = {path for path in own_folder.rglob("*") if "__pycache__" not in path.parts}
    found = pilotage("train", "adyen-bandits", "--world", "forgetful:Empty")
    assert found.status == 2
    assert "the action set of train round 2 is empty: there is nothing to choose from" in found.err
    assert len(found.err.strip().splitlines()) == 1
    assert {path for path in own_folder.rglob("*") if "__pycache__" not in path.parts} == before


@pytest.mark.parametrize("sets", ["[0,3]", "[2,11]", "[3,2]"])
def test_an_action_set_that_cannot_be_is_one_line(pilotage: Callable, own_folder: Path, sets: str) -> None:
    found = pilotage("train", "linucb", "--world", "bandit:logistic", "--set", f"world.sets={sets}")
    assert found.status == 2
    assert "an action set has from 1 to all 10 actions" in found.err
    assert len(found.err.strip().splitlines()) == 1
    assert list(own_folder.iterdir()) == []
