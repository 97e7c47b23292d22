"""A denoiser that draws pictures: each of its denoising steps is a decision with a density."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from pilotage.data.chain import Chain
from pilotage.data.piece import UsageError
from pilotage.policies.base import ActingPolicy, Minibatch
from pilotage.policies.denoise.guidance import classifier_free, kept
from pilotage.policies.denoise.networks import MLPDenoiser
from pilotage.policies.denoise.process import Levels
from pilotage.policies.denoise.sampling import implicit
from pilotage.policies.distributions import Gaussian


class Denoiser(ActingPolicy):
    """π(x' | x, step, label) = N(mean, std²): DDIM's step with noise η, from a perceptron that looks through the noise.

    The chain's steps are spread evenly over `levels` noise levels. asks: what the perceptron says, the "clean" picture
    or the noise ("epsilon"). clip: predicted pictures are held within ±clip (None: not). `guidance` λ mixes the answers
    with and without the label, the same in sampling and in scoring; for that, pretraining hides a share
    `label_dropout` of the labels. logp: the log-density is the "sum" or the "mean" over a picture's entries. The last
    step of a chain is deterministic. With least_std None such steps are left out: their log-prob is 0 whatever the
    policy; otherwise no deviation is below least_std, in sampling and in scoring.

    Raises UsageError for the spaces of other worlds, and where no step has a density.
    """

    untrained: ClassVar[bool] = True
    learning_rate: ClassVar[float] = 1e-4
    imitation_rate: ClassVar[float] = 1e-3
    gives: ClassVar[frozenset[str]] = frozenset({"logp", "said", "asked"})

    def __init__(
        self,
        observation: Any,
        action: Any,
        *,
        hidden: tuple[int, ...] = (256, 256, 256),
        embedding: int = 32,
        levels: int = 100,
        asks: str = "clean",
        eta: float = 1.0,
        clip: float | None = 1.0,
        guidance: float = 1.0,
        label_dropout: float = 0.1,
        logp: str = "sum",
        least_std: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.chain = Chain.of(observation, action)
        if logp not in ("sum", "mean"):
            raise UsageError(f"logp is reduced by sum or mean over a picture's entries, not {logp!r}")
        if not 0 <= eta <= 1 or not 0 <= label_dropout < 1 or (least_std is not None and not least_std > 0):
            raise UsageError("eta is from 0 to 1, label_dropout from 0 to below 1, least_std above 0 or none")
        self.process = Levels(levels, asks=asks)
        self.clip, self.guidance, self.label_dropout, self.logp = clip, guidance, label_dropout, logp
        self._prepare(eta, least_std)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.labels = nn.Embedding(self.chain.labels + 1, embedding)  # the last one: no label
            self.network = MLPDenoiser((self.chain.size,), embedding, hidden)

    def _prepare(self, eta: float, least_std: float | None) -> None:
        """By steps left (0 has no meaning): the level, what the mean takes of picture and noise, and the deviation."""
        levels = self.process.spaced(self.chain.steps)
        zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        moves = [(0.0, 0.0, 0.0)]
        for level, following in zip(reversed(levels), [-1, *reversed(levels[1:])], strict=True):
            picture = implicit(self.process, zero, one, level, following, eta, epsilon=zero)
            noise = implicit(self.process, zero, zero, level, following, eta, epsilon=one)
            moves.append((float(picture.mean), float(noise.mean), picture.std))
        table = torch.tensor(moves, dtype=torch.float64)
        if least_std is not None:
            table[:, 2].clamp_(min=least_std)
        if not bool((table[1:, 2] > 0).any()):
            raise UsageError(
                "no denoising step has a density: eta is above 0 and there are two steps, or set least_std"
            )
        self._level = torch.tensor([0, *reversed(levels)])
        self._moves = table.float()

    def _move(self, observation: Any) -> tuple[Tensor, Tensor]:
        """[n, size] means and [n, 1] deviations of the next latents."""
        seen = torch.as_tensor(observation).to(self.labels.weight.dtype)
        latent, left, label = self.chain.latent(seen), self.chain.left(seen).long(), self.chain.label(seen).long()
        level = self._level[left]
        said = classifier_free(
            lambda: self.says(latent, level, label),
            lambda: self.says(latent, level, torch.full_like(label, self.chain.labels)),
            self.guidance,
        )
        picture = self.process.clean(latent, level, said)
        if self.clip is not None:
            picture = picture.clamp(-self.clip, self.clip)
        of_picture, of_noise, std = self._moves[left].to(seen.dtype).unsqueeze(-1).unbind(1)
        return of_picture * picture + of_noise * self.process.epsilon(latent, level, picture), std

    def says(self, noisy: Tensor, level: Tensor, label: Tensor) -> Tensor:
        """The network's answer to noisy pictures [n, size] at levels [n] under labels [n] (as many as there are: none).

        It is told the level as a share: its features of time repeat at whole numbers.
        """
        time = level.to(noisy.dtype) / self.process.count
        said: Tensor = self.network(noisy, time, self.labels(label))
        return said

    def _logp(self, action: Tensor, mean: Tensor, std: Tensor) -> Tensor:
        """[n] log-densities of actions [n, size]; 0 for steps without a density."""
        chance = std.squeeze(-1) > 0
        safe = torch.where(std > 0, std, 1.0)
        total = Gaussian(mean, safe.log().expand_as(mean)).logp(action)
        return torch.where(chance, total if self.logp == "sum" else total / self.chain.size, 0.0)

    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        if "logp" in names:
            found["logp"] = self._logp(minibatch["action"], *self._move(minibatch["observation"]))
        if names & {"said", "asked"}:
            label = self.chain.label(minibatch["observation"]).long()
            label = torch.where(minibatch["kept"], label, self.chain.labels)
            pair = self.process.pair(minibatch["action"], minibatch["level"], minibatch["noise"])
            found |= {"said": self.says(pair.inputs, minibatch["level"], label), "asked": pair.target}
        return {name: found[name] for name in names}

    def noised(self, count: int, generator: np.random.Generator) -> dict[str, Tensor]:
        """What pretraining adds to `count` pictures: `level` and `noise` [n, size], and which labels are `kept`."""
        chance = torch.from_numpy(generator.random((2, count), dtype=np.float32))
        return {
            "level": self.process.draw_level(chance[0]),
            "noise": self.noise(generator, count, 1)[0],
            "kept": kept(chance[1], self.label_dropout),
        }

    def noise(self, generator: np.random.Generator, rows: int, steps: int) -> Tensor:
        return torch.from_numpy(generator.standard_normal((steps, rows, self.chain.size), dtype=np.float32))

    @torch.inference_mode()
    def act(self, observation: Any, noise: Tensor, greedy: bool = False) -> tuple[Tensor, Tensor]:
        mean, std = self._move(observation)
        action = mean if greedy else torch.addcmul(mean, std, noise.to(mean.dtype))
        return action, self._logp(action, mean, std)
