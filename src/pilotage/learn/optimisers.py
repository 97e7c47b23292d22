"""Optimisers, as pieces of a term."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Adam(torch.optim.Optimizer):
    """AdamW by torch's fused kernel, called directly: for small networks the checks around torch.optim's own step cost
    several times the arithmetic. To the bit the numbers of torch.optim.AdamW(fused=True).

    A parameter without a gradient is left as it is, and its steps are not counted. State: `step`, a whole number, and
    the two averages.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not eps >= 0 or not weight_decay >= 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(
                f"eps {eps} and weight_decay {weight_decay} are at least 0, betas {betas} from 0 to below 1"
            )
        super().__init__(parameters, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            # parameters, gradients and averages by their number of steps: nearly always the same for all
            alike: dict[int, tuple[list[Tensor], ...]] = {}
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = 0
                    state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
                count = state["step"] = state["step"] + 1
                lists = alike.setdefault(count, ([], [], [], []))
                for each, one in zip(lists, (parameter, gradient, state["exp_avg"], state["exp_avg_sq"]), strict=True):
                    each.append(one)
            for count, lists in alike.items():
                torch._fused_adamw_(
                    *lists, [], [torch.tensor(float(count))] * len(lists[0]),
                    lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1], eps=group["eps"],
                    weight_decay=group["weight_decay"], amsgrad=False, maximize=False,
                )  # type: ignore[call-overload]  # fmt: skip

    step.hooked = True  # type: ignore[attr-defined]  # not to be wrapped in torch's profiling


def adam(
    parameters: Sequence[nn.Parameter],
    *,
    learning_rate: float = 3e-4,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> torch.optim.Optimizer:
    """AdamW, fused. Kingma & Ba 2015; Loshchilov & Hutter 2019."""
    return Adam(parameters, lr=learning_rate, betas=(betas[0], betas[1]), eps=eps, weight_decay=weight_decay)


def sgd(
    parameters: Sequence[nn.Parameter], *, learning_rate: float = 1e-2, momentum: float = 0.0
) -> torch.optim.Optimizer:
    """Stochastic gradient descent, with momentum if asked."""
    return torch.optim.SGD(parameters, lr=learning_rate, momentum=momentum)
