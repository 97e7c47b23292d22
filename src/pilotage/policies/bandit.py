"""The policy of bandits: an oracle that scores actions, and around it a rule that explores."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from pilotage.data.piece import UsageError, nearest
from pilotage.policies import explore as rules
from pilotage.policies.base import ActingPolicy, Minibatch
from pilotage.policies.oracles import ORACLES, Oracle


class BanditPolicy(ActingPolicy):
    """Draws one of the available actions with the probabilities that the rule `explore` makes of the oracle's scores.

    An observation is [d + K]: the context, and for each of the K actions whether it is there (above 0.5). scorer:
    "linear", "logistic" or "boosted". explore: "epsilon-greedy" (epsilon), "softmax" (temperature), "inverse-gap"
    (gamma = gamma_scale * n ** gamma_exponent after n examples; floor), "upper-confidence" and "probability-matching"
    (alpha; linear scores only). copies: so many bandits side by side, each with its equal share of the rows, in order.
    """

    def __init__(
        self,
        observation: Any,
        action: Any,
        *,
        scorer: str = "logistic",
        explore: str = "epsilon-greedy",
        epsilon: float = 0.1,
        temperature: float = 0.05,
        alpha: float = 1.0,
        gamma_scale: float = 10.0,
        gamma_exponent: float = 0.5,
        floor: float = 0.0,
        ridge: float = 1.0,
        trees: int = 50,
        leaves: int = 15,
        copies: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.actions = _choices(action)
        self.inputs = int(np.prod(observation.shape)) - self.actions if type(observation).__name__ == "Box" else 0
        if self.inputs < 1:
            raise UsageError(
                "the bandit policy needs observations of a context and a mark for each action (bandit worlds)"
            )
        _within("epsilon", epsilon, 0, 1)
        _within("floor", floor, 0, 1)
        for name, value, least in (("temperature", temperature, 1e-12), ("alpha", alpha, 0), ("ridge", ridge, 1e-12),
                                   ("gamma_scale", gamma_scale, 0), ("copies", copies, 1)):  # fmt: skip
            _within(name, value, least, float("inf"))
        for kind, asked, known in (("scorer", scorer, ORACLES), ("explore", explore, rules.RULES)):
            if asked not in known:
                raise UsageError(f"there is no {kind} {asked!r}; {nearest(asked, known)}")
        self.explore, self.copies = explore, copies
        self.epsilon, self.temperature, self.alpha, self.floor = epsilon, temperature, alpha, floor
        self.gamma_scale, self.gamma_exponent = gamma_scale, gamma_exponent
        sizes = {"trees": trees, "leaves": leaves} if scorer == "boosted" else {"ridge": ridge}
        self.oracle: Oracle = ORACLES[scorer](self.inputs, self.actions, copies, seed, **sizes)
        if explore in ("upper-confidence", "probability-matching"):
            self.oracle.deviation(torch.zeros(copies, 1, self.inputs, dtype=torch.float64))  # refuses where unknown
        self.register_buffer("examples", torch.zeros((), dtype=torch.int64))  # of each copy

    examples: Tensor

    @property
    def gamma(self) -> float:
        """How strongly gaps count, after the examples seen so far."""
        return self.gamma_scale * float(self.examples) ** self.gamma_exponent if float(self.examples) else 0.0

    def parted(self, observation: Any) -> tuple[Tensor, Tensor]:
        """Contexts [C, n, d] in float64 and available actions [C, n, K], of observations [m, d + K]: m / C rows each,
        rounded up; the last one stands again where rows are missing. Raises UsageError for an empty action set."""
        rows = torch.as_tensor(observation).reshape(len(observation), -1)
        if missing := -len(rows) % self.copies:
            rows = torch.cat([rows, rows[-1:].expand(missing, -1)])
        rows = rows.reshape(self.copies, -1, self.inputs + self.actions)
        available = rows[..., self.inputs :] > 0.5
        if not bool(available.any(-1).all()):
            raise UsageError("an action set is empty: there is nothing to choose from")
        return rows[..., : self.inputs].double(), available

    def probabilities(self, observation: Any) -> Tensor:
        """[n, K] float64: what the actions are drawn with."""
        context, available = self.parted(observation)
        return self._probabilities(context, available).reshape(-1, self.actions)[: len(observation)]

    def _probabilities(self, context: Tensor, available: Tensor) -> Tensor:
        scores = self.oracle.scores(context)
        if self.explore == "epsilon-greedy":
            return rules.epsilon_greedy(scores, available, epsilon=self.epsilon)
        if self.explore == "softmax":
            return rules.softmax(scores, available, temperature=self.temperature)
        if self.explore == "inverse-gap":
            return rules.inverse_gap(scores, available, gamma=self.gamma, floor=self.floor)
        spread = self.oracle.deviation(context)
        return rules.RULES[self.explore](scores, available, deviation=spread, alpha=self.alpha)

    def scores(self, observation: Any) -> Tensor:
        """[n, K] predicted rewards, of absent actions too."""
        context, _ = self.parted(observation)
        return self.oracle.scores(context).reshape(-1, self.actions)[: len(observation)]

    def noise(self, generator: np.random.Generator, rows: int, steps: int) -> Tensor:
        return torch.from_numpy(generator.random((steps, rows)))

    @torch.no_grad()
    def act(self, observation: Any, noise: Tensor, greedy: bool = False) -> tuple[Tensor, Tensor]:
        found = self.probabilities(observation)
        action = found.argmax(-1) if greedy else rules.draw(found, noise)
        return action, found.gather(-1, action.unsqueeze(-1)).squeeze(-1).log()

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        found = self.probabilities(minibatch["observation"])
        chosen = found.gather(-1, minibatch["action"].unsqueeze(-1)).squeeze(-1).log()
        known = {"logp": chosen, "entropy": rules.entropy(found), "distribution": found}
        return {name: known[name] for name in names}

    def fit(self, observation: Tensor, action: Tensor, reward: Tensor, copy: Tensor, *, anew: bool) -> None:
        """Learns from rounds [m]: from nothing, or on top of what it knows. No importance weights."""
        context = observation.reshape(-1, self.inputs + self.actions)[:, : self.inputs].double()
        self.oracle.fit(context, action, reward.double(), copy, anew=anew)

    def facts(self) -> dict[str, Any]:
        numbers = sum(b.numel() for b in self.oracle.buffers())
        return {"parameters": numbers, "actions": self.actions, "context": self.inputs}


def _choices(space: Any) -> int:
    if type(space).__name__ != "Discrete":
        raise UsageError(f"the bandit policy chooses among numbered actions; this world has {space}")
    return int(space.n)


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UsageError(f"{name} is between {low:g} and {high:g}, not {value}")
