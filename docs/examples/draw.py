"""Pictures that a run's policy draws, below those of its start: the same classes from the same first latents."""

from pathlib import Path

import numpy as np
from PIL import Image

from pilotage.api import Run
from pilotage.data.rng import Streams
from pilotage.rollouts.episodes import Episodes
from pilotage.run import assemble, starts
from pilotage.worlds import pictures

EACH = 8  # pictures of a class


def drawn(policy, world):
    """Pictures [n, 64], their classes [n] and rewards [n], class by class."""
    tasks = [world.task(label + 10 * i, "held_out") for label in range(10) for i in range(EACH)]
    batch = Episodes().play(policy, world, tasks, 1, Streams(0), "draw", 0)
    final = batch["final_observation"].numpy()
    return final[:, :64], final[:, 65].astype(int), batch.returns.numpy()


def sheet(pixels):
    """[9 · EACH, 90] shades: a column for each class."""
    spaced = np.pad(pictures.grey(pixels), ((0, 0), (0, 1), (0, 1)), constant_values=128)
    return spaced.reshape(10, EACH, 9, 9).transpose(1, 2, 0, 3).reshape(9 * EACH, 90)


def before_and_after(folder, out, scale=5):
    """Draws with the start and with the last checkpoint; says what became of rewards, recognition and variety."""
    parts = Run(Path(folder)).load()
    recipe = parts.recipe
    before = assemble.make_policy(recipe, parts.world)
    if recipe.start is not None:
        starts.load_weights(before, recipe.start)
    sheets = []
    for name, policy in (("before", before), ("after", parts.policy)):
        pixels, label, reward = drawn(policy, parts.world)
        known, spread = pictures.recognised(pixels, label).mean(), pictures.spread(pixels, label)
        print(f"{name}: reward {reward.mean():.3f}, recognised {known:.0%}, spread within a class {spread:.2f}")
        sheets.append(sheet(pixels))
    gap = np.full((3, 90), 128, np.uint8)
    whole = Image.fromarray(np.concatenate([sheets[0], gap, sheets[1]]))
    whole.resize((whole.width * scale, whole.height * scale), Image.Resampling.NEAREST).save(out)
