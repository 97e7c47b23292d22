"""What a recipe names as start or data is made once, under its hash, and shared by all that name it."""

import json
import threading

import pytest
import torch

from helpers import control_recipe, differing, episodes, final_state, metrics, smaller, text_recipe
from pilotage import api
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.explain import explain
from pilotage.learn.learner import RunStopped
from pilotage.rollouts.stored import Stored
from pilotage.run import loop, starts
from pilotage.run.assemble import assemble
from pilotage.run.experiment import planned
from pilotage.run.recipe import Evaluation, Recipe
from pilotage.run.results import read_run


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PILOTAGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def trainings(monkeypatch):
    """The recipes that were trained, in order."""
    done, plain = [], loop.train_or_resume

    def noted(recipe: Recipe, folder, **settings):
        done.append(recipe)
        return plain(recipe, folder, **settings)

    monkeypatch.setattr(loop, "train_or_resume", noted)
    return done


WARM = text_recipe("sft", settings={"learning_rate": 0.01})


def started(name: str, **changes) -> Recipe:
    return text_recipe(name).vary("test", {"start": WARM, **changes})


def cloning(**changes) -> Recipe:
    return control_recipe("sft", "toy_worlds:Line").vary("test", changes)


# ---- starts


def test_a_start_is_made_once_for_all_who_name_it(trainings, tmp_path, empty_cache):
    for i, recipe in enumerate([started("grpo"), started("nft"), started("grpo", seed=1)]):
        api.train(recipe, out=tmp_path / str(i))
    assert trainings == [WARM]
    (folder,) = (p for p in (empty_cache / "starts").iterdir() if p.is_dir())
    assert folder.name == WARM.digest()
    api.train(started("grpo", start=WARM.vary("test", {"steps": 2})), out=tmp_path / "other")
    assert len(trainings) == 2


@pytest.mark.parametrize("name", ["grpo", "ppo"])
def test_a_run_starts_from_its_weights(name, tmp_path):
    recipe = started(name).vary("test", {"terms.policy.optimiser.learning_rate": 0.0})
    api.train(recipe, out=tmp_path / "run")
    warm = final_state(starts.start_folder(WARM))["parts"]["policy"]
    after = final_state(tmp_path / "run")["parts"]["policy"]
    assert warm
    assert differing(warm, {key: after[key] for key in warm}) == []
    fresh = assemble(recipe)
    assert differing(warm, {key: fresh.policy.state_dict()[key] for key in warm}) != []
    # a critic, which the start lacks, stays as it was made
    assert (len(after) > len(warm)) == (name == "ppo")
    for key in after.keys() - warm.keys():
        assert torch.equal(after[key], fresh.policy.state_dict()[key])


def test_both_arms_are_judged_alike_before_they_learn(tmp_path):
    first = []
    for name in ("grpo", "nft"):
        recipe = started(name, evaluation=Evaluation(tasks=5, every=0))
        api.train(recipe, out=tmp_path / name)
        first.append(next(r for r in metrics(tmp_path / name) if r["kind"] == "eval"))
    assert first[0] == first[1]


def test_a_start_that_was_cut_short_goes_on(trainings, tmp_path):
    loop.train(WARM, starts.start_folder(WARM), until=1)
    assert not starts.is_made(WARM)
    api.train(started("grpo"), out=tmp_path / "run")
    assert starts.is_made(WARM)
    steps = [r["step"] for r in metrics(starts.start_folder(WARM)) if r["kind"] == "train"]
    assert steps == [1, 2, 3]
    resumed = json.loads((starts.start_folder(WARM) / "manifest.json").read_text())["resumed"]
    assert [entry["step"] for entry in resumed] == [1]


def test_a_start_that_does_not_fit_is_refused(tmp_path):
    wide = WARM.vary("test", {"policy.hidden": 32})
    with pytest.raises(UsageError, match=r"^the start's weights do not fit the policy: size mismatch for model[^\n]*$"):
        api.train(started("grpo", start=wide), out=tmp_path / "run")


def test_those_who_come_together_wait_for_one(tmp_path):
    made, began = [], threading.Barrier(3)

    def train(recipe, folder):
        made.append(recipe)
        loop.train_or_resume(recipe, folder)

    def want():
        began.wait(timeout=10)
        starts.ensure(WARM, train)

    threads = [threading.Thread(target=want) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert made == [WARM]


# ---- data


def test_a_record_is_made_once_and_shared_by_all_seeds(trainings, tmp_path, empty_cache):
    for seed in (0, 1):
        api.train(smaller(control_recipe("sft", "toy_worlds:Line", seed=seed), {}), out=tmp_path / str(seed))
    assert [recipe.name for recipe in trainings] == ["ppo"]
    assert len([p for p in (empty_cache / "data").iterdir() if p.is_dir()]) == 1
    other = cloning(**{"rollout.keep": 0.25})
    api.train(other, out=tmp_path / "other")
    longer = cloning(data=cloning().data.vary("test", {"evaluation": Evaluation(max_steps=2)}))
    api.train(longer, out=tmp_path / "longer")
    # the policy serves again; what it played is kept by what was asked of it
    assert len(trainings) == 1
    assert len([p for p in (empty_cache / "data").iterdir() if p.is_dir()]) == 3


def record(recipe: Recipe) -> Batch:
    plan = recipe.rollout.build()
    assert isinstance(plan, Stored)
    return starts.ensure_data(recipe.data, plan, loop.train_or_resume)


def test_a_record_holds_the_best_of_what_the_final_policy_played():
    everything = record(cloning(**{"rollout.episodes": 10, "rollout.keep": 1.0}))
    half = record(cloning(**{"rollout.episodes": 10, "rollout.keep": 0.5}))
    assert len(everything) == 10
    assert len(half) == 5
    assert float(half.returns.min()) >= sorted(everything.returns.tolist())[5]
    assert len(set(everything["task"].tolist())) > 1
    again = record(cloning(**{"rollout.episodes": 10, "rollout.keep": 1.0}))
    assert differing(everything.tree(), again.tree()) == []


def test_the_best_by_hand():
    batch = episodes([3.0, 9.0, 1.0, 9.0, 5.0]).with_episode(number=torch.arange(5))
    assert starts.best(batch, 0.4)["number"].tolist() == [1, 3]
    assert starts.best(batch, 0.41)["number"].tolist() == [1, 3, 4]
    assert starts.best(batch, 0.01)["number"].tolist() == [1]
    assert starts.best(batch, 1.0)["number"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(RunStopped, match="no valid episode"):
        starts.best(batch.select(torch.zeros(5, dtype=torch.bool)), 0.5)


def test_invalid_episodes_are_never_kept():
    data = cloning().data.vary("test", {"world.invalid": True, "limits.invalid": 1.0})
    with pytest.raises(RunStopped, match="no valid episode"):
        record(cloning(data=data))


def test_a_record_says_nothing_of_its_own_policys_log_probs():
    # they would be taken for this policy's, and the run stopped for a sampler that disagrees
    held = record(cloning())
    assert "behaviour_logp" in held
    plan = Stored()
    plan.open(held)
    assert "behaviour_logp" not in plan.record
    assert torch.equal(plan.record["action"], held["action"])


def test_draws_depend_on_the_step_and_the_seed():
    def drawn(seed: int, step: int) -> list[float]:
        recipe = cloning(**{"rollout.episodes": 10, "rollout.keep": 1.0, "seed": seed})
        parts = loop._opened(recipe)
        batch = parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, step, 6, 1)
        assert batch["group"].tolist() == list(range(6))
        return batch["task"].tolist()

    assert drawn(0, 0) == drawn(0, 0)
    assert drawn(0, 0) != drawn(0, 1)
    assert drawn(0, 0) != drawn(1, 0)


@pytest.mark.parametrize(("changes", "said"), [({"data": None}, "the stored rollout needs data")])
def test_a_stored_rollout_needs_data(changes, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        api.train(cloning(**changes), out=tmp_path / "run")


def test_data_needs_a_stored_rollout(tmp_path):
    recipe = control_recipe("grpo", "toy_worlds:Line").vary("test", {"data": cloning().data})
    with pytest.raises(UsageError, match="takes no data"):
        api.train(recipe, out=tmp_path / "run")


@pytest.mark.parametrize("settings", [{"episodes": 0}, {"keep": 0.0}, {"keep": 1.5}, {"keep": -1.0}])
def test_senseless_shares_are_refused(settings):
    with pytest.raises(UsageError, match="at least one episode, and a share"):
        Stored(**settings)


# ---- runs without steps


def test_a_run_without_steps_judges_its_start(tmp_path):
    recipe = started("grpo", steps=0)
    run = api.train(recipe, out=tmp_path / "run")
    (judged,) = metrics(run.folder)
    assert (judged["kind"], judged["step"]) == ("eval", 0)
    warm = final_state(starts.start_folder(WARM))["parts"]["policy"]
    assert differing(warm, final_state(run.folder)["parts"]["policy"]) == []
    api.resume(run.folder)
    assert metrics(run.folder) == [judged]
    found = read_run(run.folder)
    assert (found.start, found.compute.steps, found.compute.seconds) == (found.final, 0.0, 0.0)
    assert run.evaluate(tasks=2)["eval/accuracy"] >= 0
    assert any("takes none: the start is judged" in line for line in explain(recipe, None).sentences)
    with pytest.raises(UsageError, match="steps is at least 1, not 0"):
        recipe.vary("test", {"start": None})


def test_targets_begin_at_the_start():
    recipe = control_recipe("td3", "gym:Pendulum-v1", settings={"steps": 1})
    parts = assemble(recipe)
    with torch.no_grad():
        for parameter in parts.policy.parameters():
            parameter.add_(1.0)
    parts.started()
    for target in parts.learner.targets.values():
        assert differing(dict(parts.policy.state_dict()), dict(target.state_dict())) == []
    parts.world.close()


def test_an_experiment_may_give_each_seed_a_start_of_its_own():
    arms = {"a": started("grpo"), "b": started("nft")}
    shared, own = (planned(arms, (0, 1), each) for each in (False, True))
    assert [job.recipe.start.seed for job in shared] == [WARM.seed] * 4
    assert [(job.seed, job.recipe.start.seed) for job in own] == [(0, 0), (0, 0), (1, 1), (1, 1)]
