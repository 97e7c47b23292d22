"""SEC: a bandit over categories of problems, paid by how much there is to learn in each.

A category's reward in a step is the mean size of its advantages, which is largest where the policy succeeds half the
time and 0 where it always or never does; TD(0) follows it, and categories are drawn by a softmax.

    p(c) ∝ exp(Q(c) / τ),   Q(c) ← (1 - α) Q(c) + α mean_c |A|

Chen et al. 2025, arXiv 2505.14970. Nothing but the order of problems changes: no loss, no extra answers. A category is
what the world says (`Task.category`); where there is one, it is the uniform sampler to the bit. Where the released code
differs: it lets categories that a step did not draw decay towards 0, and here they stay, which is how the text reads
(`sampler.decay=true` for the other); it averages after groups without a signal were removed where that is asked for,
which biases the reward upwards (here always before); its reward holds 0.1 for well-formed answers, which makes wrong
answers of different form look informative (here the world's verdict alone). Of its two other signals (`sampler.signal`)
it works `unnormalised` out and does not hand it over, and `progress`, the change of a category's mean return, pays a
category's whole mean in its first step (here nothing). The paper's α is 0.5 and τ is 1, 0.4 or 0.2, by task.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pilotage import samplers
from pilotage.data.piece import piece
from pilotage.methods.method import ALL_PLAYED, method
from pilotage.run.recipe import Recipe


@method(
    "sec",
    family="curriculum",
    paper="Chen et al. 2025, arXiv 2505.14970",
    line="a bandit chooses the category of each problem, paid by the mean absolute advantage",
    baseline="grpo",
    parts=("sampler",),
    claim="better than random order on planning, induction and mathematics, most on harder held-out problems (up to "
    "33 % relative); hard to easy is worst",
    worlds=ALL_PLAYED,
)
def sec(base: Recipe) -> Mapping[str, Any]:
    """One change: who chooses the category. With `rate` 0 all categories stay as likely."""
    return {"sampler": piece(samplers.evolving.Evolving)}
