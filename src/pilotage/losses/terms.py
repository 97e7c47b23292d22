"""What a loss returns, and what it may say of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

Diagnostics = Callable[[], Mapping[str, Tensor]]
Function = TypeVar("Function", bound=Callable[..., "Terms"])


@dataclass(frozen=True)
class Terms:
    """Per-decision losses [S], and diagnostics [S] by name, worked out only where they are logged.

    zero_at_start: what has to be 0 before the first update of a run, where the policy, its reference and the sampler
    are one; the learner stops the run if it is not.
    """

    loss: Tensor
    diagnostics: Diagnostics = dict
    zero_at_start: Tensor | None = None


def silent_where_zero(column: str) -> Callable[[Function], Function]:
    """Declares that a loss has no gradient at decisions where this column is 0, so the learner may leave them out of
    what is scored (they still count in every denominator)."""

    def mark(function: Function) -> Function:
        function.silent_where_zero = column  # type: ignore[attr-defined]
        return function

    return mark


def over_episodes(function: Function) -> Function:
    """Declares that a loss at one decision reads others of its episode: an episode is then scored whole, or not at all
    where no objective hears any of it."""
    function.over_episodes = True  # type: ignore[attr-defined]
    return function
