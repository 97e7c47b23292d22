"""Credit for responses that the policy writes in windows, over several steps: see `rollouts.pool`.

Actor and critic learn from different decisions, which these links name in bool columns: `for_actor`, `for_critic`, and
`praised` for a likelihood of good responses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pilotage.credit.returns import standardised, to_go, traced
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.losses.reduce import Sum, alone
from pilotage.policies.base import Policy, score

BOOTSTRAPS = ("last", "critic")
LEARNERS = ("finished", "all")


class Values:
    """The critic's `value` [D] of the state before each decision, and `final_value` [E] after the last.

    Decisions of earlier windows keep the values that they were given when they were made. final_value: 0 where the
    response ended; where the window cut it, V(s_l) := V(s_{l-1}) (bootstrap "last"), or the critic's value of the state
    at the cut ("critic"). T-PPO, arXiv 2506.15050.
    """

    def __init__(self, *, bootstrap: str = "last") -> None:
        if bootstrap not in BOOTSTRAPS:
            raise UsageError(f"bootstrap is last or critic, not {bootstrap!r}")
        self.bootstrap = bootstrap
        self.kept: dict[int, Tensor] = {}  # of unfinished responses, by their number

    def __call__(self, batch: Batch, policy: Policy) -> Batch:
        goes_on = "response" in batch  # from step to step: what came before has its values already
        value = score(batch, policy, "value", among=batch.fresh if goes_on else None)
        cut = ~batch["terminated"]
        final = torch.zeros(len(batch))
        if bool(cut.any()):
            last = value[(batch.offsets[1:] - 1).clamp(min=0)]
            final[cut] = last[cut] if self.bootstrap == "last" else policy.final_values(batch.select(cut))
        if goes_on:
            self._remember(batch, value, cut)
        return batch.with_columns(value=value).with_episode(final_value=final)

    def _remember(self, batch: Batch, value: Tensor, cut: Tensor) -> None:
        """Puts earlier windows' values in their place, and keeps those of responses that go on."""
        bounds = batch.offsets.tolist()
        for e, (number, goes_on) in enumerate(zip(batch["response"].tolist(), cut.tolist(), strict=True)):
            here = slice(bounds[e], bounds[e + 1])
            before = self.kept.pop(number, None)
            if goes_on:
                made = value[here][batch.fresh[here]]
                self.kept[number] = made if before is None else torch.cat([before, made])
            elif before is not None:
                value[here][batch.sampled[here] & ~batch.fresh[here]] = before

    def state_dict(self) -> dict[str, Any]:
        """Values of unfinished responses."""
        return {"kept": {str(number): values for number, values in self.kept.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.kept = {int(number): values.clone() for number, values in state["kept"].items()}


def extended_gae(
    batch: Batch, *, discount: float = 1.0, trace: float = 0.95, alpha: float | None = None, ignore: int = 8
) -> Batch:
    """EGAE: `gae` within the current window alone, as `advantage` [D]; `for_actor` [D] is where the actor learns.

    A_t = δ_t + γλ A_{t+1} over the window's decisions, 0 after them; of the last, δ = r - V where the response ended
    and (γ - 1) V where it goes on (bootstrap "last"). The last `ignore` decisions of a window that was cut are left out
    of `for_actor`: too few rewards or values after them are known; so are responses that the roll-out did not choose to
    train on (`trained` [E], where it is there). alpha: λ_i = max(1 - 1 / (α L_i), λ), L_i the response's decisions so
    far and half the window where it goes on (VAPO, arXiv 2504.05118). T-PPO, arXiv 2506.15050.
    """
    if ignore < 0:
        raise UsageError(f"the ignored tail is at least 0, not {ignore}")
    cut, made = ~batch["terminated"], batch.fresh
    traces: float | Tensor = trace
    if alpha is not None:
        window = batch.total(made.double())
        so_far = batch["so_far"].double() if "so_far" in batch else window
        traces = adaptive_trace(so_far + torch.where(cut, window / 2, 0.0), trace, alpha)
    from_end = batch.spread(batch.offsets[1:]) - torch.arange(batch.decisions)  # the last is 1
    return batch.with_columns(
        advantage=traced(batch, made, discount, traces).float(),
        for_actor=made & batch.spread(trained(batch)) & ~(batch.spread(cut) & (from_end <= ignore)),
    )


def trained(batch: Batch) -> Tensor:
    """[E] bool: responses that this step trains on: all, or those that the roll-out chose."""
    return batch["trained"] if "trained" in batch else torch.ones(len(batch), dtype=torch.bool)


def adaptive_trace(lengths: Tensor, trace: float, alpha: float) -> Tensor:
    """[E] max(1 - 1 / (α L), λ) of lengths [E]. Yue et al. 2025 (VAPO), eq. 7."""
    return (1 - 1 / (alpha * lengths.clamp(min=1e-9))).clamp(min=trace)


def whiten(batch: Batch, over_ranks: Sum = alone, *, eps: float = 1e-8, limit: float = 10.0) -> Batch:
    """`standardise` over the decisions `for_actor` alone, held within ± `limit`; advantages of others become 0."""
    return standardised(batch, batch["for_actor"], over_ranks, eps, limit)


def monte_carlo(batch: Batch, *, discount: float = 1.0, critic: str = "finished") -> Batch:
    """The critic's targets `return` [D], discounted rewards to the response's end over all its windows, and
    `for_critic` [D], where it learns: responses that ended and are trained on.

    critic "all": also windows that were cut, whose targets end in `final_value`. `praised` [D]: decisions of responses
    that ended with a return above 0 and are trained on.
    """
    if critic not in LEARNERS:
        raise UsageError(f"critic is finished or all, not {critic!r}")
    ended = batch["terminated"] & trained(batch)
    learns = ended if critic == "finished" else trained(batch)
    return batch.with_columns(
        **{"return": to_go(batch, batch.sampled, discount).float()},
        for_critic=batch.sampled & batch.spread(learns),
        praised=batch.sampled & batch.spread(ended & (batch.returns > 0)),
    )
