"""Numbers and statements of the card `lite-ppo`."""

import pytest
import torch

from helpers import episodes, rows, text_recipe
from pilotage.credit.groups import Relative
from pilotage.losses.policy import clipped_ratio, policy_gradient
from pilotage.losses.reduce import decision_weights

REWARDS, GROUPS = [1, 0, 0, 0, 1, 1, 1, 0], [0] * 4 + [1] * 4


def advantages(rewards, groups, lengths=None, **settings):
    batch = Relative(**{"mean": "group", "std": "batch", "eps": 0.0, **settings})(episodes(rewards, groups, lengths))
    return batch["advantage"].double()


def close(found, expected, atol=1e-5):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=atol, rtol=0)


def test_two_groups_by_hand():
    assert torch.tensor(REWARDS).float().std() == pytest.approx(0.534522, abs=1e-6)
    expected = [1.40312] + [-0.46771] * 3 + [0.46771] * 3 + [-1.40312]
    close(advantages(REWARDS, GROUPS), expected)
    close(advantages(REWARDS, GROUPS, eps=1e-6), expected)


def test_group_deviation_is_grpo():
    close(advantages(REWARDS, GROUPS, std="group"), [1.5] + [-0.5] * 3 + [0.5] * 3 + [-1.5])


def test_population_deviation_of_the_batch():
    close(advantages(REWARDS, GROUPS, ddof=0), [1.5] + [-0.5] * 3 + [0.5] * 3 + [-1.5])


def test_the_deviation_is_not_that_of_centred_rewards():
    centred = torch.tensor([0.75, -0.25, -0.25, -0.25, 0.25, 0.25, 0.25, -0.75])
    assert centred.std() == pytest.approx(0.46291, abs=1e-5)
    wrong = 0.75 / 0.46291
    assert abs(float(advantages(REWARDS, GROUPS)[0]) - wrong) > 0.2


def test_groups_sum_to_zero():
    found = advantages([0.3, 0.9, 0.1, 0.5, 0.7, 0.2], [0, 0, 0, 1, 1, 1])
    assert float(found[:3].sum()) == pytest.approx(0.0, abs=1e-6)
    assert float(found[3:].sum()) == pytest.approx(0.0, abs=1e-6)


def test_a_group_of_equal_rewards_gets_zero_and_still_counts_in_the_deviation():
    found = advantages([1, 0, 1, 1], [0, 0, 1, 1])
    close(found, [1.0, -1.0, 0.0, 0.0])  # std of (1, 0, 1, 1) is 0.5; that of (1, 0) alone would be 0.7071
    assert found[2:].tolist() == [0.0, 0.0]


def test_one_group_is_grpo():
    rewards = [0.2, 0.9, 0.4, 1.0]
    assert torch.equal(advantages(rewards, [0] * 4), advantages(rewards, [0] * 4, std="group"))


def test_groups_alike_differ_from_grpo_by_a_factor():
    rewards = [1, 0, 0, 1, 1, 1, 0, 0]
    ours, grpo = advantages(rewards, GROUPS), advantages(rewards, GROUPS, std="group")
    factor = ours / grpo
    torch.testing.assert_close(factor, factor[0].expand(8))


@pytest.mark.parametrize(("scale", "shift"), [(3.0, 0.0), (1.0, -2.5), (0.25, 8.0)])
def test_scale_and_shift_change_nothing(scale, shift):
    other = [scale * r + shift for r in REWARDS]
    torch.testing.assert_close(
        advantages(other, GROUPS, eps=1e-6), advantages(REWARDS, GROUPS, eps=1e-6), atol=1e-5, rtol=0
    )


def test_a_constant_for_a_prompt_changes_the_deviation_and_not_the_numerators():
    shifted = [r + 2 for r in REWARDS[:4]] + REWARDS[4:]
    plain, moved = advantages(REWARDS, GROUPS), advantages(shifted, GROUPS)
    numerators = [advantages(r, GROUPS, std="none") for r in (REWARDS, shifted)]
    assert torch.equal(*numerators)
    deviation = torch.tensor(shifted).double().std()
    assert float(deviation) > 0.6
    torch.testing.assert_close(moved, numerators[1] / deviation)
    assert not torch.allclose(plain, moved, atol=0.1)


def test_token_and_sequence_averages():
    owner, losses = torch.tensor([0, 1, 1, 1]), torch.tensor([2.0, 1.0, 1.0, 1.0])
    assert float((decision_weights("token", owner) * losses).sum()) == pytest.approx(1.25)
    assert float((decision_weights("sequence", owner) * losses).sum()) == pytest.approx(1.5)


def test_equal_lengths_average_alike():
    owner = torch.tensor([0, 0, 1, 1, 2, 2])
    torch.testing.assert_close(decision_weights("token", owner), decision_weights("sequence", owner))


def test_at_ratio_one_it_is_length_weighted_reinforce():
    batch = Relative(mean="group", std="batch")(episodes(REWARDS, GROUPS, lengths=[3, 1, 2, 5, 1, 1, 4, 2]))
    weights = decision_weights("token", batch.owner)
    advantage = batch["advantage"]
    mean = float((advantage * weights).sum())
    per_episode = batch.total(advantage) / batch.lengths
    assert mean == pytest.approx(float((per_episode * batch.lengths).sum() / batch.lengths.sum()), abs=1e-6)

    given = rows(owner=batch.owner.tolist(), advantage=advantage, behaviour_logp=batch["behaviour_logp"])
    gradients = []
    for loss in (clipped_ratio, policy_gradient):
        logp = given["behaviour_logp"].clone().requires_grad_()
        total = (loss(logp, given).loss * weights).sum()
        if loss is clipped_ratio:
            assert float(total.detach()) == pytest.approx(-mean, abs=1e-7)
        total.backward()
        gradients.append(logp.grad)
    assert torch.equal(*gradients)
    torch.testing.assert_close(gradients[0], (-advantage * weights).double())


@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1, 0.3, 1 / 3])
@pytest.mark.parametrize("std", ["none", "group", "batch", "running"])
def test_equal_rewards_give_exact_zeros(reward, std):
    found = advantages([reward] * 7, [0, 0, 0, 1, 1, 1, 1], std=std, eps=1e-6)
    assert found.tolist() == [0.0] * 7


def test_nothing_else_is_in_it():
    recipe = text_recipe("lite-ppo")
    assert list(recipe.credit) == ["advantage"]
    settings = recipe.credit["advantage"].defaults()
    assert {k: settings[k] for k in ("mean", "std", "ddof", "eps")} == {
        "mean": "group", "std": "batch", "ddof": 1, "eps": 1e-6,
    }  # fmt: skip
    (term,) = recipe.terms.values()
    weighted = {name: o for name, o in term.objectives.items() if o.weight != 0}
    assert list(weighted) == ["policy"]
    assert weighted["policy"].reduction == "token"
    assert weighted["policy"].loss.target is clipped_ratio
    assert weighted["policy"].loss.defaults() == {"low": 0.2, "high": 0.2}
