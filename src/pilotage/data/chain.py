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
    left (`steps` at first, 0 at the end), and the label, a number below `labels`."""

    size: int
    steps: int
    labels: int

    @property
    def width(self) -> int:
        """Numbers in an observation."""
        return self.size + 2

    @staticmethod
    def of(observation: Any, action: Any) -> Chain:
        """The chain that these spaces are of: boxes of observations and of latents, whose bounds say all there is to
        know. Raises UsageError for other spaces."""
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
