"""What a run does when it cannot go on: it says which term and step, and the last checkpoint is whole."""

import pytest
import torch

from helpers import control_recipe, differing, final_state, metrics, text_recipe, trained
from pilotage import api
from pilotage.data.batch import Batch
from pilotage.data.piece import Piece, UsageError
from pilotage.learn.learner import RunStopped
from pilotage.losses.terms import Terms
from pilotage.run import checkpoint, loop
from pilotage.run.assemble import assemble
from pilotage.run.checkpoint import CheckpointError
from pilotage.run.recipe import Limits, Recipe

OBJECTIVE = "terms.policy.objectives.policy"
SICK_AT = 3  # steps from 0: three are done and saved


def line(name: str, **settings) -> Recipe:
    found = control_recipe(name, "toy_worlds:Line", settings={"steps": 6, "policy.hidden": [8]})
    return found.vary("test", settings)


def stops(recipe: Recipe, folder, message: str) -> None:
    """It stops with this message, and what was saved before is whole and can be gone on with."""
    with pytest.raises(RunStopped, match=message):
        api.train(recipe, out=folder)
    saved = checkpoint.latest(folder)
    assert saved is not None
    step, state = checkpoint.load(saved)
    assert step == SICK_AT
    assert all(bool(torch.isfinite(value).all()) for value in state["parts"]["policy"].values())
    assert [r["step"] for r in metrics(folder) if r["kind"] == "train"] == [1, 2, 3]
    assert not list((folder / "checkpoints").glob(".partial*"))
    with pytest.raises(RunStopped, match=message):  # and the same again, for nothing has changed
        api.resume(folder)


class Sick:
    """Credit that turns to NaN, or to infinity, at the fourth step."""

    def __init__(self, *, value: float = float("nan")) -> None:
        self.value, self.step = value, 0

    def __call__(self, batch: Batch) -> Batch:
        self.step += 1
        spoilt = torch.full((batch.decisions,), self.value) if self.step > SICK_AT else torch.ones(batch.decisions)
        return batch.with_columns(advantage=spoilt)

    def state_dict(self):
        return {"step": self.step}

    def load_state_dict(self, state) -> None:
        self.step = int(state["step"])


def sick_loss(logp, rows, progress) -> Terms:
    """A finite loss whose gradient is not: the square root of zero."""
    bad = torch.sqrt((logp - logp.detach()).square()) if progress >= SICK_AT / 6 else logp
    return Terms(bad)


def disagreeing(batch: Batch, progress) -> Batch:
    """Log-probs that are not the policy's, from the fourth step on."""
    off = 0.5 if progress >= SICK_AT / 6 else 0.0
    return batch.with_columns(behaviour_logp=batch["behaviour_logp"] + off, advantage=torch.ones(batch.decisions))


def unlike(batch: Batch, progress) -> Batch:
    """Log-probs that are no numbers, from the fourth step on."""
    off = float("nan") if progress >= SICK_AT / 6 else 0.0
    return batch.with_columns(behaviour_logp=batch["behaviour_logp"] + off, advantage=torch.ones(batch.decisions))


def own(target: object) -> Piece:
    return Piece(f"{__name__}:{target.__name__}")


@pytest.mark.parametrize(("value", "said"), [(float("nan"), "nan"), (float("inf"), "-?inf|nan")])
@pytest.mark.parametrize("name", ["reinforce", "grpo"])
def test_a_loss_that_is_no_number(name, value, said, tmp_path):
    recipe = line(name, **{"credit.advantage": own(Sick).having(value=value)})
    stops(recipe, tmp_path / "run", f"^the loss of term 'policy' is ({said}) at step {SICK_AT + 1}$")


def test_a_gradient_that_is_no_number(tmp_path):
    recipe = line("reinforce", **{f"{OBJECTIVE}.loss": own(sick_loss)})
    stops(recipe, tmp_path / "run", f"^the gradient of term 'policy' is nan at step {SICK_AT + 1}$")


def test_the_term_that_is_named_is_the_one_at_fault(tmp_path):
    recipe = line("mdpo", **{"terms.value.objectives.value.loss": own(sick_value)})
    stops(recipe, tmp_path / "run", f"^the loss of term 'value' is nan at step {SICK_AT + 1}$")


def sick_value(value, rows, progress) -> Terms:
    """A critic's loss that fails from the fourth step on."""
    return Terms(value * float("nan") if progress >= SICK_AT / 6 else value.square())


@pytest.mark.parametrize("poison", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("name", ["reinforce", "ppo", "grpo", "nft"])
def test_a_reward_that_is_no_number(name, poison, tmp_path):
    recipe = control_recipe(name, "toy_worlds:Line", settings={"world.poison": poison, "world.at": 2})
    with pytest.raises(RunStopped, match=r"^a reward of step 1 is not finite$"):
        # the first evaluation would meet it too: it judges, and does not learn
        api.train(recipe, out=tmp_path / "run")
    assert checkpoint.latest(tmp_path / "run") is None


def test_sampler_and_trainer_disagree(tmp_path):
    recipe = line("grpo", **{"credit.advantage": own(disagreeing)})
    message = rf"^sampler and trainer disagree at step {SICK_AT + 1}: KL 0\.\d+ .* above 0\.01 \(limits\.mismatch\)$"
    stops(recipe, tmp_path / "run", message)
    tolerant = recipe.vary("test", {"limits": Limits(mismatch=1.0)})
    api.train(tolerant, out=tmp_path / "tolerant")


def test_log_probs_that_are_no_numbers_stop_even_a_loss_that_does_not_use_them(tmp_path):
    recipe = line("reinforce", **{"credit.advantage": own(unlike)})
    stops(recipe, tmp_path / "run", f"^sampler and trainer disagree at step {SICK_AT + 1}: KL nan")


@pytest.mark.parametrize("failing", ["01234", "0="])
def test_some_invalid_verdicts_are_borne_up_to_the_limit(failing, tmp_path):
    recipe = text_recipe("grpo", world="toy_worlds:Broken", settings={"world.failing": failing, "steps": 2})
    api.train(recipe.vary("test", {"limits": Limits(invalid=1.0)}), out=tmp_path / "run")
    rates = [r["train/invalid"] for r in metrics(tmp_path / "run") if r["kind"] == "train"]
    assert any(0 < rate < 1 for rate in rates)
    strict = recipe.vary("test", {"limits": Limits(invalid=0.0)})
    with pytest.raises(
        RunStopped, match=r"^\d+% of the episodes of step \d are invalid \(limit 0%\), for instance: .*the judge is out"
    ):
        api.train(strict, out=tmp_path / "strict")


@pytest.mark.parametrize("name", ["grpo", "rloo", "reinforce", "ppo", "nft", "mdpo"])
def test_everything_invalid_stops_at_the_usual_limit(name, tmp_path):
    recipe = text_recipe(name, world="toy_worlds:Broken", settings={"steps": 2})
    with pytest.raises(RunStopped, match=r"^100% of the episodes of step 1 are invalid \(limit 50%\)"):
        api.train(recipe, out=tmp_path / "run")


@pytest.mark.parametrize("name", ["grpo", "rloo", "reinforce", "ppo", "nft", "mdpo", "dapo", "reinforce++"])
@pytest.mark.parametrize("kind", ["text", "control"])
def test_everything_invalid_and_allowed_teaches_nothing(name, kind, tmp_path):
    if kind == "text":
        recipe = text_recipe(name, world="toy_worlds:Broken", settings={"steps": 2})
    else:
        recipe = control_recipe(name, "toy_worlds:Line", settings={"world.invalid": True, "steps": 2})
    recipe = recipe.vary("test", {"limits": Limits(invalid=1.0)})
    before = untrained(recipe)
    after = trained(recipe, tmp_path / "run")
    assert differing(before, {name: after[name] for name in before}) == []
    for record in metrics(tmp_path / "run"):
        if record["kind"] == "train":
            assert record["optimiser_steps"] == 0
            assert record["train/invalid"] == 1.0
            assert "not_finite" not in record
            assert "train/reward" not in record  # not 0: nothing is known of it


def untrained(recipe: Recipe) -> dict[str, torch.Tensor]:
    parts = assemble(recipe)
    parts.world.close()
    return {name: value.clone() for name, value in parts.policy.state_dict().items()}


@pytest.mark.parametrize("name", ["grpo", "rloo", "dr-grpo", "dapo", "rft", "nft", "lite-ppo", "reinforce++"])
def test_equal_rewards_in_every_group_teach_nothing(name, tmp_path):
    recipe = text_recipe(name, world="toy_worlds:Flat")
    before = untrained(recipe)
    after = trained(recipe, tmp_path / "run")
    assert differing(before, after) == []
    for record in metrics(tmp_path / "run"):
        if record["kind"] == "train":
            assert record["optimiser_steps"] == 0
            assert record["train/no_signal"] == 1.0
            assert record["train/reward"] == pytest.approx(0.3)
            assert "not_finite" not in record
            dropped = name in ("dapo", "rft", "nft")
            assert record["train/kept"] == (0.0 if dropped else 1.0)
            assert ("skipped_steps" in record) == (not dropped)


def test_a_disk_that_is_full_stops_the_run_with_the_last_checkpoint_whole(tmp_path, monkeypatch):
    written = checkpoint._write
    count = []

    def full(*arguments):
        count.append(1)
        if len(count) == 4:
            raise OSError(28, "No space left on device")
        return written(*arguments)

    monkeypatch.setattr(checkpoint, "_write", full)
    with pytest.raises(CheckpointError, match=r"No space left on device; the last good checkpoint is .*step-000003$"):
        api.train(line("grpo"), out=tmp_path / "run")
    assert checkpoint.load(checkpoint.latest(tmp_path / "run"))[0] == 3
    monkeypatch.undo()
    api.resume(tmp_path / "run")
    assert final_state(tmp_path / "run")["counters"]["episodes"] == 6 * 12


def test_a_folder_in_use_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    api.train(text_recipe("grpo"), out=folder)
    before = sorted((p, p.stat().st_mtime_ns) for p in folder.rglob("*"))
    monkeypatch.setattr(loop.starts, "ensure", lambda *_: pytest.fail("the start was made first"))
    started = text_recipe("grpo").vary("test", {"start": text_recipe("sft")})
    with pytest.raises(UsageError, match="holds a run: go on with `pilotage resume"):
        api.train(started, out=folder)
    assert sorted((p, p.stat().st_mtime_ns) for p in folder.rglob("*")) == before
