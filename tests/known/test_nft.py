"""Numbers and statements of the card `nft`."""

import math

import pytest
import torch
from torch import Tensor

from helpers import episodes, rows, text_recipe
from pilotage.credit.groups import Relative, drop_without_signal, labels
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.losses.imitation import labelled_likelihood, likelihood
from pilotage.losses.policy import negative_aware_likelihood, straight_through_max
from pilotage.policies.base import Minibatch, rows_of


def value_and_slope(ratio: float, label: float, rate: float, weight: float = 1.0, **settings) -> tuple[float, float]:
    """The loss of one decision at a likelihood ratio, and its derivative by the log-probability."""
    logp = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
    given = rows(behaviour_logp=[0.0], label=[label], success_rate=[rate], weight=[weight])
    loss = negative_aware_likelihood(logp, given, **settings).loss
    (slope,) = torch.autograd.grad(loss.sum(), logp)
    return float(loss.detach()), float(slope)


@pytest.mark.parametrize(
    ("weight", "right", "wrong"), [("balance", 1.7320508, -0.5773503), ("failure", 0.75, -0.25), ("one", 1.0, -1 / 3)]
)
def test_coefficients_on_policy(weight, right, wrong):
    batch = labels(episodes([1, 0, 0, 0], groups=[0] * 4), weight=weight)
    weights = batch["weight"]
    assert value_and_slope(1.0, 1.0, 0.25, float(weights[0]))[1] == pytest.approx(-right, abs=1e-6)
    for floor in (1.0, 0.5, 1e-6):
        slope = value_and_slope(1.0, 0.0, 0.25, float(weights[1]), negative_floor=floor)[1]
        assert slope == pytest.approx(-wrong, abs=1e-6)


def test_coefficients_are_the_advantages_of_grpo_and_dr_grpo():
    group = episodes([1, 0, 0, 0], groups=[0] * 4)
    for weight, std in (("balance", "group"), ("failure", "none")):
        labelled = rows_of(labels(group, weight=weight), needs_past=False)
        logp = labelled["behaviour_logp"].clone().requires_grad_()
        negative_aware_likelihood(logp, labelled).loss.sum().backward()
        advantage = Relative(mean="group", std=std, ddof=0, eps=0.0)(group)["advantage"]
        torch.testing.assert_close(-logp.grad, advantage, atol=1e-6, rtol=0)


def test_without_the_negative_part_it_is_weighted_fine_tuning_on_right_answers():
    batch = labels(episodes([1, 0, 0, 1], groups=[0, 0, 1, 1]), weight="failure")
    given = rows_of(batch, needs_past=False)

    def gradient(loss) -> Tensor:
        logp = given["behaviour_logp"].clone().requires_grad_()
        loss(logp).sum().backward()
        return logp.grad

    ours = gradient(lambda logp: negative_aware_likelihood(logp, given, negative_weight=0.0).loss)
    right = given["label"] == 1
    sft = gradient(lambda logp: torch.where(right, likelihood(logp).loss, 0.0))
    assert torch.equal(ours, given["weight"] * sft)
    assert torch.equal(ours, gradient(lambda logp: labelled_likelihood(logp, given).loss))
    torch.testing.assert_close(ours, torch.tensor([-0.5, 0.0, 0.0, -0.5]))


@pytest.mark.parametrize(
    ("ratio", "floor", "value", "by_ratio"),
    [
        (1.2, 1.0, 0.0, 0.3333333),
        (1.2, 0.1, 0.0689929, 0.3571429),
        (0.8, 1.0, -0.0645385, 0.3125),
        (0.8, 0.1, -0.0645385, 0.3125),
    ],
)
def test_negative_part_by_hand(ratio, floor, value, by_ratio):
    loss, slope = value_and_slope(ratio, 0.0, 0.25, negative_floor=floor)
    assert loss == pytest.approx(value, abs=1e-7)
    assert slope / ratio == pytest.approx(by_ratio, abs=1e-7)


def test_positive_part_by_hand():
    assert value_and_slope(1.2, 1.0, 0.25) == pytest.approx((-math.log(1.2), -1.0))
    # below a floor of 0.5 the factor is -1/0.5 times dR, so -R/0.5 by the log-probability
    assert value_and_slope(0.2, 1.0, 0.25, positive_floor=0.5) == pytest.approx((-math.log(0.5), -0.4))


def test_the_exact_posterior_is_where_the_mixture_has_no_gradient():
    old = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    success = torch.tensor([0.9, 0.4, 0.1], dtype=torch.float64)
    rate = float((old * success).sum())
    positive = old * success / rate
    negative = (old - rate * positive) / (1 - rate)
    assert bool((negative >= 0).all())
    assert float(negative.sum()) == pytest.approx(1.0)
    torch.testing.assert_close(negative, old * (1 - success) / (1 - rate))

    def each(floor: float) -> Tensor:
        """The gradient by each answer's log-probability, weighted as old policy and verdicts bring them up."""
        logp = positive.log().requires_grad_()
        total = torch.zeros((), dtype=torch.float64)
        for label, share in ((1.0, success), (0.0, 1 - success)):
            given = rows(behaviour_logp=old.log(), label=[label] * 3, success_rate=[rate] * 3, weight=[1.0] * 3)
            total = total + (old * share * negative_aware_likelihood(logp, given, negative_floor=floor).loss).sum()
        (found,) = torch.autograd.grad(total, logp)
        return found

    assert float(each(1e-9).abs().max()) < 1e-12
    assert float(each(1.0).abs().max()) > 0.05


def test_groups_without_a_signal_never_enter_the_batch():
    link = text_recipe("nft").credit["filter"]
    assert link.target is drop_without_signal
    kept = link.bound()(episodes([1, 1, 0, 0, 1, 0], groups=[0, 0, 1, 1, 2, 2]))
    assert kept["group"].tolist() == [2, 2]


@pytest.mark.parametrize("reward", [0.0, 1.0])
@pytest.mark.parametrize("weight", ["one", "failure", "balance"])
@pytest.mark.parametrize("logp", [-8.0, -1.0, 0.0])
def test_forced_in_they_give_finite_numbers(reward, weight, logp):
    batch = labels(episodes([reward] * 4, groups=[0] * 4), weight=weight)
    assert batch["success_rate"].tolist() == pytest.approx([0.98 if reward else 0.02] * 4)
    given = rows_of(batch, needs_past=False)
    policy = torch.full((4,), logp, requires_grad=True)
    loss = negative_aware_likelihood(policy, given).loss
    loss.sum().backward()
    assert bool(torch.isfinite(loss).all())
    assert bool(torch.isfinite(policy.grad).all())


def grouped() -> Batch:
    return episodes([1, 0, 0, 1, 0], groups=[0, 0, 0, 1, 1], lengths=[2, 1, 3, 1, 2])


def gradient_of(batch: Batch, logits: Tensor, actions: Tensor, order: list[int] | None = None) -> tuple[Tensor, Tensor]:
    """Total loss and its gradient by logits [D, V], with the batch's episodes in another order."""
    batch = batch.with_columns(action=actions, logits=logits.detach() * 0 + torch.arange(len(actions))[:, None])
    batch = labels(batch.select(torch.tensor(order)) if order else batch, weight="failure")
    place = batch["logits"][:, 0].long()
    scores = logits[place].log_softmax(-1)
    logp = scores.gather(-1, batch["action"].long().unsqueeze(-1)).squeeze(-1)
    total = negative_aware_likelihood(logp, rows_of(batch, needs_past=False)).loss.sum()
    (found,) = torch.autograd.grad(total, logits)
    return total.detach(), found


def test_a_constant_on_all_logits_changes_nothing():
    batch, actions = grouped(), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 1])
    logits = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    shifted = (logits + 7.0).detach().requires_grad_()
    for one, other in zip(gradient_of(batch, logits, actions), gradient_of(batch, shifted, actions), strict=True):
        torch.testing.assert_close(one, other)


def test_the_order_of_answers_changes_nothing():
    batch, actions = grouped(), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 1])
    logits = torch.randn(9, 3, dtype=torch.float64, requires_grad=True)
    plain, permuted = gradient_of(batch, logits, actions), gradient_of(batch, logits, actions, [2, 4, 0, 3, 1])
    for one, other in zip(plain, permuted, strict=True):
        torch.testing.assert_close(one, other)


def test_a_plain_clamp_would_lose_the_gradient_and_ours_does_not():
    implied = torch.tensor([0.9], requires_grad=True)
    (clamped,) = torch.autograd.grad(-implied.clamp(min=1.0).log().sum(), implied)
    (ours,) = torch.autograd.grad(-straight_through_max(implied, 1.0).log().sum(), implied)
    assert float(clamped) == 0.0
    assert float(ours) == -1.0
    assert value_and_slope(1.2, 0.0, 0.25) == pytest.approx((0.0, 0.4))


def test_the_maximum_is_straight_through():
    values = torch.tensor([-2.0, 0.5, 1.0, 3.0], requires_grad=True)
    found = straight_through_max(values, 1.0)
    assert found.tolist() == [1.0, 1.0, 1.0, 3.0]
    found.sum().backward()
    assert values.grad.tolist() == [1.0] * 4


def test_an_implied_probability_below_zero_is_floored_before_the_logarithm():
    # (1 - 0.5 * 10) / 0.5 = -8
    loss, slope = value_and_slope(10.0, 0.0, 0.5)
    assert loss == 0.0
    assert slope / 10.0 == pytest.approx(1.0)


def test_labels_are_in_zero_one_and_nothing_else():
    with pytest.raises(UsageError, match=r"\[0, 1\].*-1"):
        labels(episodes([1, -1], groups=[0, 0]))
    for sign_rewards, rate in (([1, 0, 0, 1], 0.5), ([1, 0, 0, 0], 0.25)):
        assert labels(episodes(sign_rewards, groups=[0] * 4))["success_rate"].tolist() == [rate] * 4


def test_the_rate_is_only_guarded():
    rewards = [1.0] + [0.0] * 15
    assert labels(episodes(rewards, groups=[0] * 16))["success_rate"].tolist() == [1 / 16] * 16


def test_soft_labels_mix_both_parts():
    right, wrong = value_and_slope(1.1, 1.0, 0.4), value_and_slope(1.1, 0.0, 0.4)
    mixed = value_and_slope(1.1, 0.3, 0.4)
    assert mixed == pytest.approx(tuple(0.3 * a + 0.7 * b for a, b in zip(right, wrong, strict=True)))


def test_the_log_ratio_is_capped_before_the_exponential():
    loss, slope = value_and_slope(math.exp(20), 0.0, 0.25)
    assert (loss, slope) == (0.0, 0.0)
    capped = value_and_slope(math.exp(3), 0.0, 0.25, negative_floor=1e-3, ratio_ceiling=2.0)
    assert capped == pytest.approx((-math.log(1e-3), 0.0))


def test_a_ratio_for_each_answer():
    ratios = torch.tensor([1.2, 0.5, 2.0], dtype=torch.float64)
    given = rows(
        owner=[0, 0, 1], whole=True, behaviour_logp=[0.0] * 3, label=[0.0, 0.0, 1.0], success_rate=[0.25] * 3,
        weight=[1.0] * 3,
    )  # fmt: skip
    logp = ratios.log().requires_grad_()
    loss = negative_aware_likelihood(logp, given, ratio="sequence", negative_floor=0.1).loss
    # one ratio, 1.2 * 0.5, for the two decisions of the first answer
    implied = (1 - 0.25 * 0.6) / 0.75
    torch.testing.assert_close(loss.detach(), torch.tensor([-math.log(implied)] * 2 + [-math.log(2.0)]).double())
    (slopes,) = torch.autograd.grad(loss[0], logp)
    assert slopes.tolist() == pytest.approx([0.25 * 0.6 / 0.75 / implied] * 2 + [0.0])


def test_a_ratio_for_each_answer_needs_whole_answers():
    given = Minibatch(rows(behaviour_logp=[0.0], label=[1.0], success_rate=[0.5], weight=[1.0]).columns,
                      torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.long))  # fmt: skip
    with pytest.raises(UsageError, match="whole episodes"):
        negative_aware_likelihood(torch.zeros(1), given, ratio="sequence")
    with pytest.raises(ValueError, match="'answer' is not token or sequence"):
        negative_aware_likelihood(torch.zeros(1), given, ratio="answer")


def test_the_recipe_is_the_cards():
    term = text_recipe("nft").terms["policy"]
    (objective,) = (o for o in term.objectives.values() if o.weight != 0)
    assert objective.reduction.startswith("constant")
    settings = objective.loss.defaults()
    assert settings["negative_weight"] == 1.0
    assert settings["positive_floor"] == 0.0
    assert settings["negative_floor"] == 1.0
    assert settings["ratio"] == "token"
    assert text_recipe("nft").credit["labels"].defaults()["weight"] == "failure"
    assert text_recipe("nft").credit["labels"].defaults()["rate_floor"] == 0.02
    assert term.epochs == 1
