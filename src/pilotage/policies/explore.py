"""Exploration rules: from an oracle's scores of the actions at hand to the probabilities they are drawn with.

Each takes scores [..., K] (float64), which actions there are (`available`, [..., K] bool, at least one a row) and
settings of its own, and gives probabilities [..., K] that sum to 1 and are exactly 0 outside the set. An action outside
the set does not count in its size. Ties of the best go to the first.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

POINTS = 65  # of the grid on which the chance of each arm to be the best is added up
REACH = 5.0  # standard deviations that the grid spans


def best_of(scores: Tensor, available: Tensor) -> Tensor:
    """[...] the first of the best available actions."""
    return scores.masked_fill(~available, -torch.inf).argmax(-1)


def sizes(available: Tensor) -> Tensor:
    """[..., 1] how many actions there are, as float64."""
    return available.sum(-1, keepdim=True).double()


def certain(action: Tensor, available: Tensor) -> Tensor:
    """Probability 1 on one action."""
    return torch.zeros(available.shape, dtype=torch.float64).scatter_(-1, action.unsqueeze(-1), 1.0)


def epsilon_greedy(scores: Tensor, available: Tensor, *, epsilon: float) -> Tensor:
    """A share `epsilon` uniformly, the rest on the best action."""
    spread = available.double() / sizes(available)
    if epsilon == 1.0:
        return spread
    return epsilon * spread + (1.0 - epsilon) * certain(best_of(scores, available), available)


def softmax(scores: Tensor, available: Tensor, *, temperature: float) -> Tensor:
    """Probabilities in proportion to exp(score / temperature)."""
    return (scores / temperature).masked_fill(~available, -torch.inf).softmax(-1)


def inverse_gap(scores: Tensor, available: Tensor, *, gamma: float, floor: float) -> Tensor:
    """Inverse-gap weighting: 1 / (K + gamma * gap) for all but the best action, which gets the rest; then a share
    `floor` of it all is spread uniformly, so that no action is rarer than floor / K. Foster & Rakhlin 2020, eq. 3 with
    mu = K."""
    count = sizes(available)
    best = best_of(scores, available).unsqueeze(-1)
    gap = scores.gather(-1, best) - scores
    share = available / (count + gamma * gap.masked_fill(~available, 0.0))
    # the rest, as what the others have less than 1 / K: exactly uniform where all gaps or gamma are 0
    share.scatter_(-1, best, 0.0)
    lacking = (available / count).scatter_(-1, best, 0.0) - share
    share.scatter_(-1, best, 1.0 / count + lacking.sum(-1, keepdim=True))
    return share if floor == 0.0 else (1.0 - floor) * share + floor * available / count


def upper_confidence(scores: Tensor, available: Tensor, *, deviation: Tensor, alpha: float) -> Tensor:
    """Certainty on the action with the largest score + alpha * deviation [..., K]. Li et al. 2010."""
    return certain(best_of(scores + alpha * deviation, available), available)


def probability_matching(scores: Tensor, available: Tensor, *, deviation: Tensor, alpha: float) -> Tensor:
    """Thompson sampling with independent normal arms: each action's probability to be the best where arm a is drawn
    from N(score, (alpha * deviation)²). Agrawal & Goyal 2013.

    The probabilities are added up on a grid of the best arm's value and the action is drawn from them, so that the
    propensity on record is that of the draw, not an estimate of it.
    """
    spread = (alpha * deviation).clamp(min=1e-12)
    middle = scores.masked_fill(~available, -torch.inf)
    low = (middle - REACH * spread).amax(-1, keepdim=True)
    high = (middle + REACH * spread).amax(-1, keepdim=True)
    # closer together at the low end, where the least uncertain of the good arms stands
    grid = low + (high - low) * torch.linspace(0, 1, POINTS, dtype=torch.float64).square()  # [..., points]
    below = torch.special.ndtr((grid.unsqueeze(-2) - scores.unsqueeze(-1)) / spread.unsqueeze(-1))
    below = below.masked_fill(~available.unsqueeze(-1), 1.0)
    falls = below.diff(dim=-1, prepend=torch.zeros_like(below[..., :1]))
    falls = falls.masked_fill(~available.unsqueeze(-1), 0.0)
    log_below = torch.log((below - 0.5 * falls).clamp(min=1e-300))  # in the middle of each interval
    others = (log_below.sum(-2, keepdim=True) - log_below).exp()
    chance: Tensor = (falls * others).sum(-1)
    found: Tensor = chance / chance.sum(-1, keepdim=True)
    return found


RULES: dict[str, Callable[..., Tensor]] = {
    "epsilon-greedy": epsilon_greedy,
    "softmax": softmax,
    "inverse-gap": inverse_gap,
    "upper-confidence": upper_confidence,
    "probability-matching": probability_matching,
}


def draw(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """[...] one action a row, by the inverse of the cumulative distribution; never one of probability 0."""
    cumulative = probabilities.cumsum(-1)
    total = cumulative[..., -1]
    # a product may round up to the total itself, which is below no entry
    threshold = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return (cumulative <= threshold.unsqueeze(-1)).sum(-1)


def entropy(probabilities: Tensor) -> Tensor:
    """[...] in nats."""
    found: Tensor = torch.special.entr(probabilities).sum(-1)
    return found
