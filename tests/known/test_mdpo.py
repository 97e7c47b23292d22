"""Numbers and statements of the card `mdpo`, on-policy."""

import math

import pytest
import torch
from torch import Tensor

from helpers import control_recipe, rows
from pilotage.losses.policy import mirror_descent, policy_gradient
from pilotage.policies.distributions import Categorical, Gaussian

OLD = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
ADVANTAGE = torch.tensor([1.0, 0.0, -1.0], dtype=torch.float64)
BEST = [0.325930, 0.494216, 0.179854]


def objective(logits: Tensor, progress: float = 0.0, **settings) -> Tensor:
    """E_old[ratio A] - KL / t in one state, every action weighted by the old policy's probability."""
    new = Categorical(logits.expand(3, 3))
    given = rows(
        behaviour_logp=OLD.log(), advantage=ADVANTAGE, old_distribution=OLD.log().expand(3, 3), action=[0, 1, 2]
    )
    return -(OLD * mirror_descent(new.logp(given["action"]), new, given, progress, **settings).loss).sum()


def climbed(steps: int, rate: float, **settings) -> Tensor:
    logits = OLD.log().clone().requires_grad_()
    for _ in range(steps):
        (gradient,) = torch.autograd.grad(objective(logits, **settings), logits)
        with torch.no_grad():
            logits += rate * gradient
    return logits.detach().softmax(-1)


def kl(one: Tensor, other: Tensor) -> float:
    return float((one * (one / other).log()).sum())


def test_the_maximiser_in_closed_form():
    raised = OLD * (0.5 * ADVANTAGE).exp()
    best = raised / raised.sum()
    assert best.tolist() == pytest.approx(BEST, abs=1e-6)
    assert kl(best, OLD) == pytest.approx(0.0614022, abs=1e-7)
    value = 2.0 * float(raised.sum().log())
    assert value == pytest.approx(0.0232710, abs=1e-6)
    assert float(objective(best.log(), pace=0.5)) == pytest.approx(value, abs=1e-12)
    for direction in torch.eye(3, dtype=torch.float64):
        for sign in (0.1, -0.1):
            assert float(objective(best.log() + sign * direction, pace=0.5)) < value


def test_many_gradient_steps_reach_the_maximiser():
    assert climbed(600, 0.5, pace=0.5).tolist() == pytest.approx(BEST, abs=1e-6)


@pytest.mark.parametrize("pace", [1e-3, 0.05, 0.5, 1.0, 50.0, math.inf])
@pytest.mark.parametrize("progress", [0.0, 0.7])
def test_the_first_gradient_is_the_policy_gradient_for_every_step_size(pace, progress):
    logits = OLD.log().clone().requires_grad_()
    (ours,) = torch.autograd.grad(objective(logits, progress, pace=pace), logits)
    given = rows(advantage=ADVANTAGE, action=[0, 1, 2])
    logp = Categorical(logits.expand(3, 3)).logp(given["action"])
    (plain,) = torch.autograd.grad(-(OLD * policy_gradient(logp, given).loss).sum(), logits)
    torch.testing.assert_close(ours, plain, atol=1e-12, rtol=0)
    assert float(plain.abs().max()) > 0.1


def test_the_penalty_acts_from_the_second_step_on():
    once = climbed(1, 0.5, pace=0.05)
    torch.testing.assert_close(once, climbed(1, 0.5, pace=math.inf), atol=1e-12, rtol=0)
    assert kl(climbed(2, 0.5, pace=0.5), OLD) < kl(climbed(2, 0.5, pace=math.inf), OLD) - 1e-3


def test_a_large_step_size_is_greedy():
    assert float(climbed(4000, 1.0, pace=math.inf)[0]) > 0.99
    assert float(climbed(4000, 1.0, pace=1e3)[0]) > 0.99
    logits = torch.randn(3, dtype=torch.float64)
    assert float(objective(logits, pace=math.inf)) == pytest.approx(float((logits.softmax(-1) * ADVANTAGE).sum()))
    assert float(objective(logits, pace=1e9)) == pytest.approx(float(objective(logits, pace=math.inf)), abs=1e-8)


def test_a_small_step_size_stays():
    torch.testing.assert_close(climbed(4000, 1e-3, pace=1e-3), OLD, atol=1e-3, rtol=0)


def gaussian(std: float) -> Gaussian:
    return Gaussian(torch.zeros(1, 1).double(), torch.full((1, 1), math.log(std)).double())


def test_direction_of_the_divergence():
    narrow, wide = gaussian(1.0), gaussian(2.0)
    assert float(narrow.kl(wide)) == pytest.approx(0.318147, abs=1e-6)
    assert float(wide.kl(narrow)) == pytest.approx(0.806853, abs=1e-6)


@pytest.mark.parametrize(("new", "old", "expected"), [(1.0, 2.0, 0.318147), (2.0, 1.0, 0.806853)])
def test_the_loss_has_the_new_policy_first(new, old, expected):
    given = rows(behaviour_logp=[0.0], advantage=[0.0], old_distribution=gaussian(old).parameters)
    terms = mirror_descent(torch.zeros(1).double(), gaussian(new), given, 0.0)
    assert float(terms.loss) == pytest.approx(expected, abs=1e-6)
    assert float(terms.diagnostics()["kl_new_old"]) == pytest.approx(expected, abs=1e-6)


def test_the_divergence_is_not_estimated_from_old_actions():
    new = gaussian(1.0)
    given = {"advantage": [0.0], "old_distribution": gaussian(2.0).parameters}
    found = {
        float(mirror_descent(torch.tensor([logp]).double(), new, rows(behaviour_logp=[-1.0], **given), 0.0).loss)
        for logp in (-3.0, -1.0, 0.5)
    }
    assert len(found) == 1


@pytest.mark.parametrize(
    ("progress", "size"), [(0.0, 1.0), (0.25, 0.75), (0.5, 0.5), (0.94, 0.06), (0.96, 0.05), (0.999, 0.05)]
)
def test_the_step_size_falls_on_a_line_to_a_floor(progress, size):
    given = rows(behaviour_logp=[0.0], advantage=[0.0], old_distribution=gaussian(2.0).parameters)
    loss = mirror_descent(torch.zeros(1).double(), gaussian(1.0), given, progress).loss
    assert float(loss) == pytest.approx(0.3181472 / size, rel=1e-6)


def test_the_surrogate_is_not_clipped():
    given = rows(behaviour_logp=[0.0], advantage=[1.0], old_distribution=[[0.0, 0.0]])
    loss = mirror_descent(torch.tensor([math.log(5.0)]).double(), Categorical(torch.zeros(1, 2).double()), given, 0.0)
    assert float(loss.loss) == pytest.approx(-5.0)


def test_the_recipe_is_the_cards():
    recipe = control_recipe("mdpo", "gym:Pendulum-v1")
    actor, critic = recipe.terms["policy"], recipe.terms["value"]
    assert actor.parameters == "actor"
    assert actor.epochs == 10
    assert actor.minibatches == 1
    assert actor.minibatch_decisions is None
    assert actor.max_grad_norm == 0.5
    assert actor.optimiser.defaults()["eps"] == 1e-5
    assert list(actor.objectives) == ["policy"]
    assert critic.parameters == "critic"
    assert critic.epochs == 5
    assert critic.objectives["value"].loss.defaults() == {"clip": 0.2}
    gae = recipe.credit["gae"].defaults()
    assert (gae["discount"], gae["trace"]) == (0.99, 0.95)
    assert list(recipe.credit).index("scale") > list(recipe.credit).index("gae")
