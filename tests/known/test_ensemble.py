"""Networks run as one, the squashed draw and the optimiser: written out by hand, and equal to what torch works out."""

import copy
import itertools

import pytest
import torch
from torch.autograd import gradcheck

from pilotage.learn.optimisers import Adam
from pilotage.policies.ensemble import Ensemble, Networks, Single
from pilotage.policies.squashed import Squash


def plain(net: Networks, inputs: torch.Tensor, member: int) -> torch.Tensor:
    """One member, layer by layer."""
    out = inputs
    for i, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        out = (out if i == 0 else out.relu()) @ weight[member] + bias[member]
    return out


def doubled(net: Networks) -> Networks:
    return net.double()


@pytest.mark.parametrize(("members", "sizes"), [(1, [5, 7, 3]), (3, [5, 8, 6, 1]), (4, [5, 1])])
def test_values_and_gradients_are_those_of_the_members(members, sizes):
    torch.manual_seed(0)
    net = doubled(Networks(members, sizes))
    state, action = torch.randn(9, 3, dtype=torch.float64), torch.randn(9, 2, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(9, members, sizes[-1], dtype=torch.float64)
    found = net.outputs(state, action)
    expected = torch.stack([plain(net, torch.cat([state, action], -1), m) for m in range(members)], 1)
    assert torch.allclose(found, expected, rtol=1e-12)
    asked = [action, *net.parameters()]
    ours, theirs = (torch.autograd.grad((out * weight).sum(), asked) for out in (found, expected))
    assert all(torch.allclose(a, b, rtol=1e-10, atol=1e-14) for a, b in zip(ours, theirs, strict=True))


def test_behind_a_minimum_rows_without_a_gradient_are_left_out():
    torch.manual_seed(1)
    net = doubled(Ensemble(2, [3, 6, 1]))
    state, action = torch.randn(40, 2, dtype=torch.float64), torch.randn(40, 1, dtype=torch.float64, requires_grad=True)
    ours = torch.autograd.grad(net(state, action, frozen=True).min(-1).values.sum(), action)
    theirs = torch.cat([plain(net, torch.cat([state, action], -1), m) for m in range(2)], -1).min(-1).values.sum()
    assert torch.allclose(ours[0], torch.autograd.grad(theirs, action)[0], rtol=1e-12)
    nothing = torch.autograd.grad((net(state, action, frozen=True) * 0).sum(), action)
    assert bool((nothing[0] == 0).all())


def test_frozen_members_get_no_gradient_and_fewer_may_be_asked():
    net = Ensemble(5, [3, 4, 1])
    inputs = torch.randn(6, 3, requires_grad=True)
    net(inputs, frozen=True).sum().backward()
    assert inputs.grad is not None
    assert all(p.grad is None for p in net.parameters())
    assert torch.equal(net(inputs, members=2), net(inputs)[:, :2])


@pytest.mark.parametrize("members", [1, 2, 10])
def test_layer_norm_stands_before_each_relu(members):
    net = doubled(Ensemble(members, [3, 6, 6, 1], layer_norm=True))
    inputs = torch.randn(4, 3, dtype=torch.float64)
    found = net(inputs)
    assert found.shape == (4, members)
    for member in range(members):
        out = inputs
        for i, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
            if i:
                out = ((out - out.mean(-1, keepdim=True)) / (out.var(-1, False, keepdim=True) + 1e-5).sqrt()).relu()
            out = out @ weight[member] + bias[member]
        assert torch.allclose(found[:, member : member + 1], out)


def test_a_single_network_starts_as_linear_layers_do():
    net = Single([400, 300, 2])
    assert net(torch.zeros(5, 400)).shape == (5, 2)
    for weight, wide in zip([*net.weights, *net.biases], [400, 300] * 2, strict=True):
        assert float(weight.detach().abs().max()) <= wide**-0.5
    assert float(net.weights[0].detach().std()) == pytest.approx(400**-0.5 / 3**0.5, rel=0.01)


def test_a_state_dict_holds_networks_by_layer_and_takes_no_others():
    net, inputs = Ensemble(2, [3, 4, 1]), torch.randn(5, 3)
    state = net.state_dict()
    assert {name: tuple(piece.shape) for name, piece in state.items()} == {
        "weights.0": (2, 3, 4), "biases.0": (2, 1, 4), "weights.1": (2, 4, 1), "biases.1": (2, 1, 1),
    }  # fmt: skip
    other = Ensemble(2, [3, 4, 1])
    other.load_state_dict(state)
    assert torch.equal(other(inputs), net(inputs))
    with pytest.raises(RuntimeError, match=r"weights\.0"):
        Ensemble(2, [3, 5, 1]).load_state_dict(state)


def test_a_copy_has_weights_of_its_own_wherever_they_are_moved():
    net, inputs = Single([3, 4, 1]), torch.randn(5, 3)
    with torch.no_grad():
        net(inputs)  # its layers are cut once
        other = copy.deepcopy(net)
        del net
        other.flat.mul_(2)
        halves = [torch.empty_like(other.flat) for _ in range(8)]  # where the first one stood, perhaps
        other.flat.data = halves[0].copy_(other.flat)
        expected = plain(other, inputs, 0)
        assert torch.allclose(other(inputs), expected)
        other.flat.mul_(2)
        assert not torch.allclose(other(inputs), expected)


def test_where_fewer_members_are_asked_the_others_get_zeros():
    net = doubled(Ensemble(3, [2, 4, 1]))
    net(torch.randn(5, 2, dtype=torch.float64), members=2).sum().backward()
    assert bool(net.flat.grad.isfinite().all())
    net.flat.grad = None
    (net(torch.ones(5, 2, dtype=torch.float64), members=1) * 1.0).sum().backward()
    assert int((net.flat.grad != 0).sum()) <= net.flat.numel() // 3


def test_the_gradient_of_a_squashed_draw():
    torch.manual_seed(2)
    mean, log_std, noise = (torch.randn(6, 3, dtype=torch.float64) for _ in range(3))
    asked = mean.requires_grad_(), log_std.requires_grad_()
    assert gradcheck(lambda m, s: Squash.apply(m, s, noise), asked)
    far = torch.full((1, 1), 40.0)  # where tanh is 1 to the last bit
    unit, logp = Squash.apply(far, torch.zeros(1, 1), torch.zeros(1, 1))
    assert unit.item() == 1.0
    assert logp.item() == pytest.approx(-0.9189385 - 2 * (0.6931472 - 40), abs=1e-4)


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adam_is_torchs_to_the_bit(decay):
    torch.manual_seed(3)
    start = [torch.randn(shape) for shape in ((4, 3), (5,), ())]
    sides = [[torch.nn.Parameter(p.clone()) for p in start] for _ in range(2)]
    settings = {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-7, "weight_decay": decay}
    ours, theirs = Adam(sides[0], **settings), torch.optim.AdamW(sides[1], fused=True, **settings)
    for step in range(6):
        gradients = [torch.randn_like(p) for p in start]
        for side, optimiser in zip(sides, (ours, theirs), strict=True):
            for i, parameter in enumerate(side):  # the last goes without now and then: its steps are its own
                parameter.grad = None if i == 2 and step in (0, 3) else gradients[i].clone()
            optimiser.param_groups[0]["lr"] = 0.01 / (1 + step)
            optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(*sides, strict=True))
    assert [ours.state[p]["step"] for p in sides[0]] == [6, 6, 4]
    for one, other in itertools.product(("exp_avg", "exp_avg_sq"), range(3)):
        assert torch.equal(ours.state[sides[0][other]][one], theirs.state[sides[1][other]][one])
