"""BESO against goal-conditioned cloning and a 50-step DDPM, all with one network, on play in a maze (Reuss et al. 2023,
arXiv 2304.02532).

A perceptron of 3 x 128 on windows of 4 decisions, 5,000 batches (paper: a transformer, 40,000 and more). Both that
denoise are guided with λ = 2, the paper's on Block-Push; without guidance a trial on seed 100 was no better than
cloning. Reported beside the verdict: the success of the same networks of BESO without guidance (λ = 1), and the
processor milliseconds of a control step. (The first record took the median of wall time instead.)
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from experiments.acting import paces
from experiments.common import Comparisons, Experiment, Judged, Runs, main
from experiments.language import in_points
from experiments.logs import QUICK_DECISIONS, held, quick_name
from pilotage import api, datasets
from pilotage.run import checkpoint, verdict
from pilotage.run.assemble import assemble
from pilotage.run.evaluate import Evaluator
from pilotage.run.recipe import Recipe

DATA, WORLD, DECISIONS = "medium/play-v0", "pointmaze:Medium", 60_000
MARGIN = 0.10  # of the success rate: as much as 3 steps may be worse than 50
EFFECT = 0.10  # what the card foretells at least over cloning
PLANS = {"policy.horizon": 1, "policy.execute": 1}  # as the others
ARMS: Mapping[str, tuple[str, str | None, Mapping[str, object]]] = {
    "beso": ("beso", None, {"policy.steps": 3, "policy.guidance": 2.0}),
    "gcbc": ("gcbc", None, {}),
    "ddpm-50": ("beso", "ddpm-planner", {**PLANS, "policy.levels": 50, "policy.guidance": 2.0}),
}


def data(quick: bool) -> str:
    """The play that is learnt from."""
    return quick_name(DATA) if quick else DATA


def prepare(quick: bool) -> None:
    """Logs the play, unless it is there."""
    datasets.ensure(data(quick), WORLD, "play", QUICK_DECISIONS if quick else DECISIONS)


def arms(quick: bool) -> Mapping[str, Recipe]:
    shared = {
        "steps": 3 if quick else 50,
        "policy.hidden": (128, 128, 128),
        "policy.history": 4,
        "evaluation.every": 0,
        "evaluation.tasks": 5 if quick else 80,
        "evaluation.max_steps": 200,
    }
    found = {}
    for label, (method, policy, own) in ARMS.items():
        made = api.recipe(method, WORLD, policy, settings={**shared, **own})
        found[label] = made.vary("data", held(data(quick)))
    return found


def unguided(runs: Runs) -> float:
    """BESO's success without guidance, over its runs whose checkpoints are there; NaN if none is."""
    found = []
    for run in runs["beso"]:
        if checkpoint.latest(run.folder) is None:
            continue
        recipe = api.Run(run.folder).recipe.vary("experiment", {"policy.guidance": 1.0})
        parts, evaluator = assemble(recipe, fill=False), Evaluator(recipe)
        state = checkpoint.load(checkpoint.latest(run.folder))[1]["parts"]  # type: ignore[arg-type]
        parts.load_state_dict(state)
        found.append(evaluator(parts.judged, recipe.steps)[0]["eval/success"])
        evaluator.close(), parts.world.close()
    return sum(found) / len(found) if found else float("nan")


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    over, under = comparisons["beso", "gcbc"], comparisons["beso", "ddpm-50"]
    rates = {label: verdict.side(label, side).final.estimate for label, side in runs.items()}
    said = ["success " + ", ".join(f"{label} {rate:.1%}" for label, rate in rates.items())]
    said += [f"minus {name} {in_points(one.difference)}" for name, one in (("gcbc", over), ("ddpm-50", under))]
    if (plain := unguided(runs)) == plain:
        said.append(f"BESO without guidance {plain:.1%}")
    if paced := paces(runs):
        said.append("milliseconds an action " + ", ".join(f"{label} {value:.2f}" for label, value in paced.items()))
    because = "; ".join(said)
    holds = over.kind == "better" and under.difference.low > -MARGIN
    return Judged.by(holds, over.difference.high < EFFECT or under.difference.high < -MARGIN, because)


SEEDS: Sequence[int] = (0, 1, 2)

EXPERIMENT = Experiment(
    name="beso.pointmaze",
    claim="3 denoising steps are better than goal-conditioned cloning and about as good as a diffusion policy of many.",
    criterion=(
        f"3 paired seeds on {DECISIONS} decisions of play in {WORLD}, one network, λ = 2, 5,000 batches of 256; share "
        "of 80 held-out goals reached in 200 decisions by the last policies. Reproduced if BESO with 3 steps is "
        "better than goal-conditioned cloning (the intervals over seeds, and over seeds and tasks, of the difference "
        f"lie above 0) and the interval of its difference to 50 steps of DDPM lies above {-MARGIN:.0%}. Not reproduced "
        f"if the interval of the difference to cloning lies below {EFFECT:+.0%}, or that to DDPM below {-MARGIN:.0%}. "
        "Otherwise inconclusive."
    ),
    arms=arms,
    pairs=(("beso", "gcbc"), ("beso", "ddpm-50")),
    judge=judge,
    seeds=SEEDS,
    prepare=prepare,
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
