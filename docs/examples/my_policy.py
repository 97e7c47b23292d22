"""A policy of one's own: a linear softmax over discrete actions, without a critic."""

import torch
from torch import nn

from pilotage import ActingPolicy, UsageError
from pilotage.policies.distributions import Categorical


class Linear(ActingPolicy):
    """Logits are linear in the observation."""

    learning_rate = 1e-2  # what recipes take where they do not say

    def __init__(self, observation, action, *, bias: bool = True, seed: int = 0):
        super().__init__()
        if type(observation).__name__ != "Box" or type(action).__name__ != "Discrete":
            raise UsageError(f"this policy takes Box observations and Discrete actions, not {observation} and {action}")
        self.logits = nn.Linear(observation.shape[0], int(action.n), bias=bias)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def quantities(self, minibatch, names):
        distribution = Categorical(self.logits(minibatch["observation"].float()))
        known = {
            "distribution": lambda: distribution,
            "logp": lambda: distribution.logp(minibatch["action"]),
            "entropy": lambda: distribution.entropy(),
        }
        return {name: known[name]() for name in names}

    def noise(self, generator, rows, steps):
        return torch.from_numpy(generator.random((steps, rows)))

    @torch.no_grad()
    def act(self, observation, noise, greedy=False):
        logp = self.logits(torch.as_tensor(observation).float()).log_softmax(-1)
        below = logp.double().exp().cumsum(-1) <= noise.unsqueeze(-1)
        action = logp.argmax(-1) if greedy else below.sum(-1).clamp(max=logp.shape[-1] - 1)
        return action, logp.gather(-1, action.unsqueeze(-1)).squeeze(-1)
