"""A loss, a link of the credit chain and a sampler of one's own."""

import torch

from pilotage.losses.terms import Terms
from pilotage.samplers.uniform import Uniform


def softened(logp, rows, *, width: float = 0.2):
    """The ratio bent smoothly towards 1 ± width, in place of a clip: a loss per decision [S]."""
    ratio = (logp - rows["behaviour_logp"]).exp()
    bent = 1 + width * torch.tanh((ratio - 1) / width)
    return Terms(-bent * rows["advantage"], lambda: {"bent": (ratio - bent).abs()})


def brief(batch, *, price: float = 0.01):
    """Takes `price` off the advantage for each decision that an episode is longer than the mean."""
    length = batch.lengths.float()
    excess = batch.spread(length - length.mean())
    return batch.with_columns(advantage=batch["advantage"] - price * excess)


class Again(Uniform):
    """Every other task is one whose group was partly right, while there are any."""

    def __init__(self, *, most: int = 256):
        super().__init__()
        self.most, self.asked, self.waiting = most, 0, []

    def next(self):
        self.asked += 1
        if self.waiting and self.asked % 2 == 0:
            return self.world.task(self.waiting.pop(0), "train")
        return super().next()

    def observe(self, batch):
        for _, group in batch.groups():
            if group.returns.min() < group.returns.max():
                self.waiting.append(int(group["task"][0]))
        del self.waiting[: -self.most]

    def state_dict(self):
        return {**super().state_dict(), "asked": self.asked, "waiting": self.waiting}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.asked, self.waiting = state["asked"], list(state["waiting"])
