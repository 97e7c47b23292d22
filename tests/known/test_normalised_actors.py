"""Actors of off-policy learning that standardise what they see, and the slow copies beside them."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces

from helpers import differing
from pilotage.learn.targets import Follower
from pilotage.learn.terms import Target
from pilotage.policies.normalise import Normaliser
from pilotage.policies.squashed import DeterministicActor, SquashedActor

BOX = spaces.Box(-2, 2, (2,), np.float32)
SEEN = spaces.Box(-np.inf, np.inf, (3,), np.float32)
KINDS = pytest.mark.parametrize("kind", [DeterministicActor, SquashedActor])


@KINDS
def test_features_are_standardised_by_mean_and_deviation(kind):
    policy = kind(SEEN, BOX, hidden=(8,), normalise=True)
    observed = torch.randn(50, 3) * torch.tensor([1.0, 100.0, 0.0]) + torch.tensor([0.0, 7.0, 3.0])
    policy.observe(observed)
    deviation = observed.double().std(0, unbiased=False)
    expected = (observed.double() - observed.double().mean(0)) / (deviation + 1e-3)
    assert torch.allclose(policy.features(observed), expected.float(), atol=1e-4)
    far = observed.mean(0, keepdim=True) + 50 * deviation.float()
    assert policy.features(far)[0, 1] > 49  # never clipped


@KINDS
def test_without_it_what_is_observed_changes_nothing(kind):
    policy = kind(SEEN, BOX, hidden=(8,))
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    policy.observe(torch.randn(5, 3))
    assert differing(before, dict(policy.state_dict())) == []
    observation = torch.randn(4, 3)
    assert torch.equal(policy.features(observation), observation)


@KINDS
def test_slow_copies_see_through_the_policys_own_normaliser(kind):
    policy = kind(SEEN, BOX, hidden=(8,), normalise=True)
    follower = Follower("slow", Target("critic"), policy)
    policy.observe(torch.randn(20, 3) * 5 + 1)
    observation = torch.randn(4, 3)
    assert torch.equal(follower.policy.features(observation), policy.features(observation))
    assert not torch.equal(policy.features(observation), observation)
    assert follower.policy.critic is not policy.critic


def test_what_is_kept_of_the_statistics_is_never_stale():
    normaliser, values = Normaliser(3), torch.randn(9, 3)

    def fresh(of):
        made = Normaliser(3)
        made.load_state_dict(of.state_dict())
        return made(values)

    with torch.inference_mode():
        normaliser(values)
    normaliser.observe(values * 4 + 1)
    assert torch.equal(normaliser(values), fresh(normaliser))
    twin = copy.deepcopy(normaliser)
    twin.observe(values - 7)
    assert torch.equal(twin(values), fresh(twin))
    normaliser.load_state_dict(twin.state_dict())
    assert torch.equal(normaliser(values), twin(values))
    watched = values.clone().requires_grad_()
    made = copy.deepcopy(twin)
    with torch.inference_mode():
        made(values)  # as acting does, before training
    made(watched).sum().backward()
    assert bool(watched.grad.any())
