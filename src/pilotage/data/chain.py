"""How a step of denoising is laid out as an observation: what the world that shows it and the policy that takes it
share. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pilotage.data.piece import UsageError


@dataclass(frozen=True)
class Chain:
    """Observations [n, size + 2] of a chain of `steps` denoising steps under a label: the latent, the number of steps
    left (`steps` at first, 0 when all are done), and the label, a number below `labels`."""

    size: int
    steps: int
    labels: int

    @property
    def width(self) -> int:
        """Numbers in an observation."""
        return self.size + 2

    def spaces(self) -> tuple[Any, Any]:
        """The observation and the action space: gymnasium boxes, whose bounds say all there is to know."""
        from gymnasium import spaces

        high = np.array([np.inf] * self.size + [self.steps, self.labels - 1], np.float32)
        low = np.array([-np.inf] * self.size + [0, 0], np.float32)
        return spaces.Box(low, high, dtype=np.float32), spaces.Box(-np.inf, np.inf, (self.size,), np.float32)

    @staticmethod
    def of(observation: Any, action: Any) -> Chain:
        """What `spaces` was made from. Raises UsageError for spaces that are not those of a chain."""
        shape, inner = getattr(observation, "shape", None), getattr(action, "shape", None)
        if not shape or not inner or len(shape) != 1 or len(inner) != 1 or shape[0] != inner[0] + 2:
            raise UsageError(
                "the denoiser takes steps of denoising (a latent, the steps left, a label), as images:digits has them; "
                f"this world gives {observation} and takes {action}"
            )
        left, label = observation.high[-2:]
        if not (np.isfinite(left) and np.isfinite(label)):
            raise UsageError("the numbers of steps and of labels of this world have no bound; the denoiser needs them")
        return Chain(inner[0], int(left), int(label) + 1)

    def latent(self, observation: Any) -> Any:
        """[n, size] of an array or a tensor of observations."""
        return observation[:, : self.size]

    def left(self, observation: Any) -> Any:
        """[n] steps left, as floats."""
        return observation[:, self.size]

    def label(self, observation: Any) -> Any:
        """[n] labels, as floats."""
        return observation[:, self.size + 1]
