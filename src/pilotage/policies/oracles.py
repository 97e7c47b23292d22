"""Oracles: what predicts the reward of each action from the context. All they know stands in buffers of fixed shape, so
that a checkpoint holds arrays, and what is loaded predicts to the bit what was saved."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from pilotage.data.piece import UsageError

SMALL = 2_000_000  # entries of outer products that may be made at once


class Oracle(nn.Module, ABC):
    """Predicts rewards: contexts [C, n, d] → scores [C, n, K], for C copies side by side.

    fit: contexts [m, d], actions [m], rewards [m] and the copy [m] each belongs to; from nothing, or, where it can
    (`grows`), on top of what it has seen.
    """

    grows = False
    many = False  # whether more than one copy fits

    def __init__(self, inputs: int, actions: int, copies: int, seed: int) -> None:
        super().__init__()
        if copies > 1 and not self.many:
            raise UsageError(f"{copies} copies side by side need the linear oracle")
        self.inputs, self.actions, self.copies, self.seed = inputs, actions, copies, seed

    @abstractmethod
    def scores(self, context: Tensor) -> Tensor:
        """[C, n, K] predicted rewards."""

    def deviation(self, context: Tensor) -> Tensor:
        """[C, n, K] the standard deviation of each score, where the oracle knows it."""
        raise UsageError(f"the {type(self).__name__.lower()} oracle knows no uncertainty; use policy.scorer=linear")

    @abstractmethod
    def fit(self, context: Tensor, action: Tensor, reward: Tensor, copy: Tensor, *, anew: bool) -> None:
        """Learns from rounds; `anew` forgets what was learnt before."""


def with_one(context: Tensor) -> Tensor:
    """[..., d] → [..., d + 1], for the constant."""
    return torch.cat([context, context.new_ones((*context.shape[:-1], 1))], -1)


class Linear(Oracle):
    """Ridge regression of each action apart, with a constant: A = ridge I + Σ x xᵀ, weights A⁻¹ Σ r x.

    The deviation of a score is sqrt(xᵀ A⁻¹ x). Li et al. 2010, algorithm 1.
    """

    grows = True
    many = True
    gram: Tensor
    moment: Tensor
    inverse: Tensor
    weights: Tensor

    def __init__(self, inputs: int, actions: int, copies: int, seed: int, ridge: float = 1.0) -> None:
        super().__init__(inputs, actions, copies, seed)
        size = inputs + 1
        eye = torch.eye(size, dtype=torch.float64).expand(copies, actions, size, size)
        self.register_buffer("gram", ridge * eye)
        self.register_buffer("moment", torch.zeros(copies, actions, size, dtype=torch.float64))
        self.register_buffer("inverse", eye / ridge)
        self.register_buffer("weights", torch.zeros(copies, actions, size, dtype=torch.float64))
        self.ridge = ridge

    def scores(self, context: Tensor) -> Tensor:
        return with_one(context) @ self.weights.mT

    def deviation(self, context: Tensor) -> Tensor:
        x = with_one(context).unsqueeze(1)  # [C, 1, n, D]
        return ((x @ self.inverse) * x).sum(-1).clamp(min=0.0).sqrt().mT

    def fit(self, context: Tensor, action: Tensor, reward: Tensor, copy: Tensor, *, anew: bool) -> None:
        if anew:
            size = self.inputs + 1
            self.gram = self.ridge * torch.eye(size, dtype=torch.float64).repeat(self.copies, self.actions, 1, 1)
            self.moment = torch.zeros_like(self.moment)
        x, cell = with_one(context), copy * self.actions + action
        gram, moment = self.gram.view(-1, *self.gram.shape[-2:]), self.moment.view(-1, self.moment.shape[-1])
        moment.index_add_(0, cell, reward.unsqueeze(-1) * x)
        if x.numel() * x.shape[-1] <= SMALL:
            gram.index_add_(0, cell, x.unsqueeze(-1) * x.unsqueeze(-2))
        else:
            for one in torch.bincount(cell).nonzero().squeeze(-1).tolist():
                own = x[cell == one]
                gram[one] += own.mT @ own
        known = torch.bincount(cell, minlength=len(gram)) > 0
        touched = torch.arange(len(gram)) if anew else known.nonzero().squeeze(-1)
        inverse, weights = self.inverse.view_as(gram), self.weights.view_as(moment)
        factor = torch.linalg.cholesky(gram[touched])
        inverse[touched] = torch.cholesky_inverse(factor)
        weights[touched] = (inverse[touched] @ moment[touched].unsqueeze(-1)).squeeze(-1)


class Logistic(Oracle):
    """Logistic regression of each action apart, scikit-learn's; predicts probabilities of a reward of 1.

    An action whose rewards are all alike, or that was never played, gets the rate (1 + successes) / (2 + plays).
    """

    weights: Tensor

    def __init__(self, inputs: int, actions: int, copies: int, seed: int, ridge: float = 1.0) -> None:
        super().__init__(inputs, actions, copies, seed)
        self.register_buffer("weights", torch.zeros(actions, inputs + 1, dtype=torch.float64))
        self.ridge = ridge

    def scores(self, context: Tensor) -> Tensor:
        return (with_one(context) @ self.weights.mT).sigmoid()

    def fit(self, context: Tensor, action: Tensor, reward: Tensor, copy: Tensor, *, anew: bool) -> None:
        regression = learners()[0]
        binary(reward)
        weights = torch.zeros_like(self.weights)
        for a in range(self.actions):
            rows = action == a
            x, hit = context[rows], reward[rows] > 0.5
            plays, hits = len(hit), int(hit.sum())
            if hits in (0, plays):
                rate = (1.0 + hits) / (2.0 + plays)
                weights[a, -1] = torch.logit(torch.tensor(rate, dtype=torch.float64))
                continue
            found = regression(C=1.0 / self.ridge, solver="newton-cholesky").fit(x.numpy(), hit.numpy())
            weights[a, :-1] = torch.from_numpy(found.coef_[0])
            weights[a, -1] = float(found.intercept_[0])
        self.weights = weights


class Boosted(Oracle):
    """Gradient-boosted trees on context and action (one-hot) in one row, scikit-learn's, with log loss.

    The trees are kept as arrays and walked here: [trees, nodes] of feature, threshold, child on either side and value.
    """

    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    value: Tensor
    first: Tensor

    def __init__(
        self, inputs: int, actions: int, copies: int, seed: int, trees: int = 50, leaves: int = 15, rate: float = 0.1
    ) -> None:
        super().__init__(inputs, actions, copies, seed)
        self.trees, self.leaves, self.rate = trees, leaves, rate
        nodes = 2 * leaves - 1
        for name in ("feature", "left", "right"):
            self.register_buffer(name, torch.zeros(trees, nodes, dtype=torch.int64))
        for name in ("threshold", "value"):
            self.register_buffer(name, torch.zeros(trees, nodes, dtype=torch.float64))
        self.register_buffer("first", torch.zeros((), dtype=torch.float64))

    def rows(self, context: Tensor, action: Tensor) -> Tensor:
        """[m, d + K] what the trees see."""
        return torch.cat([context, nn.functional.one_hot(action, self.actions).to(context.dtype)], -1)

    def scores(self, context: Tensor) -> Tensor:
        copies, count, _ = context.shape
        flat = context.reshape(-1, self.inputs).repeat_interleave(self.actions, 0)
        every = torch.arange(self.actions).repeat(copies * count)
        return self.logits(self.rows(flat, every)).sigmoid().reshape(copies, count, self.actions)

    def logits(self, rows: Tensor) -> Tensor:
        """[m] summed values of the leaves that rows end in; a leaf is its own child."""
        at = torch.zeros(self.trees, len(rows), dtype=torch.int64)
        columns = rows.mT.contiguous()
        every = torch.arange(len(rows))
        while True:
            goes_left = columns[self.feature.gather(1, at), every] <= self.threshold.gather(1, at)
            following = torch.where(goes_left, self.left.gather(1, at), self.right.gather(1, at))
            if torch.equal(following, at):
                return self.first + self.value.gather(1, at).sum(0)
            at = following

    def fit(self, context: Tensor, action: Tensor, reward: Tensor, copy: Tensor, *, anew: bool) -> None:
        binary(reward)
        for buffer in (self.feature, self.left, self.right, self.threshold, self.value):
            buffer.zero_()
        hit = reward > 0.5
        hits, plays = int(hit.sum()), len(hit)
        if hits in (0, plays):
            self.first.copy_(torch.logit(torch.tensor((1.0 + hits) / (2.0 + plays), dtype=torch.float64)))
            return
        found = learners()[1](
            max_iter=self.trees, max_leaf_nodes=self.leaves, learning_rate=self.rate, early_stopping=False,
            random_state=self.seed % 2**31,
        ).fit(self.rows(context, action).numpy(), hit.numpy())  # fmt: skip
        self.first.copy_(torch.tensor(float(found._baseline_prediction.item())))
        for tree, (predictor,) in enumerate(found._predictors):
            self._keep(tree, predictor.nodes)

    def _keep(self, tree: int, nodes: object) -> None:
        """One tree of scikit-learn's records as arrays."""
        table = {name: torch.from_numpy(nodes[name].astype("f8")) for name in nodes.dtype.names}  # type: ignore
        count = len(table["value"])
        leaf, own = table["is_leaf"] > 0, torch.arange(count)
        self.value[tree, :count] = torch.where(leaf, table["value"], 0.0)
        self.feature[tree, :count] = torch.where(leaf, 0.0, table["feature_idx"]).long()
        self.threshold[tree, :count] = torch.where(leaf, 0.0, table["num_threshold"])
        self.left[tree, :count] = torch.where(leaf, own, table["left"].long())
        self.right[tree, :count] = torch.where(leaf, own, table["right"].long())


def binary(reward: Tensor) -> None:
    """Raises UsageError for a reward that is neither 0 nor 1."""
    if not bool(((reward == 0) | (reward == 1)).all()):
        raise UsageError("this oracle predicts rewards of 0 or 1, and there are others; use policy.scorer=linear")


def learners() -> tuple[type, type]:
    """scikit-learn's logistic regression and boosted trees, imported at first use."""
    try:
        from sklearn.ensemble import HistGradientBoostingClassifier
        from sklearn.linear_model import LogisticRegression
    except ModuleNotFoundError as error:
        raise UsageError(f'{error}: pip install "pilotage[bandits]"') from None
    return LogisticRegression, HistGradientBoostingClassifier


ORACLES: dict[str, type[Oracle]] = {"linear": Linear, "logistic": Logistic, "boosted": Boosted}
