"""GRPO on a real pretrained model: SmolLM2-135M-Instruct with low-rank adapters, on sums.

What `pilotage train grpo --policy smollm2 --world reasoning:chain_sum` does, all at its default but 25 steps, and
judged on more problems, before and after only. Tried on seed 100 only: 10 steps, the rate as it is.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from experiments.common import Comparisons, Experiment, Judged, Runs, main
from pilotage import api
from pilotage.data.piece import piece
from pilotage.run import experiment, measures, verdict
from pilotage.run.recipe import Recipe
from pilotage.run.results import RunResult
from pilotage.run.wording import Wording

WORLD = "reasoning:chain_sum"
CLAIMED = 0.1  # of accuracy


def arms(quick: bool) -> Mapping[str, Recipe]:
    settings = {
        "steps": 2 if quick else 25,
        "evaluation.every": 0,
        "evaluation.tasks": 4 if quick else 100,
        "evaluation.measures": {"memory": piece(measures.peak_memory)},
    }
    if quick:
        settings |= {"prompts_per_step": 2, "samples_per_prompt": 4}
    return {"grpo": api.recipe("grpo", WORLD, "smollm2", settings=settings)}


def cost(run: RunResult) -> str:
    """Tokens per second and memory, in words."""
    rollout, learn = (float(run.series(f"seconds/{part}")[1].sum()) for part in ("rollout", "learn"))
    generated = float(run.series("count/generated")[1][-1])
    return (
        f"{generated / rollout:.0f} tokens generated and {generated / learn:.0f} trained a second (4 minibatches; "
        f"prompts, of about 110 tokens a group, not counted); most memory {experiment.end(run, 'memory/peak'):.1f} GiB"
    )


def judge(runs: Runs, comparisons: Comparisons) -> Judged:
    (run,) = runs["grpo"]
    side = verdict.side("grpo", [run])
    rise = side.rise_over_items
    say = Wording(run.metric)
    first, last = (run.evaluations[place] for place in (0, -1))
    ends = [
        f"{say.number(one[run.metric])} % ({say.number(one['eval/low'])} to {say.number(one['eval/high'])})"
        for one in (first, last)
    ]
    if rise is None:
        raise ValueError("the run has no scores of single problems")
    said = f"{say.name} from {ends[0]} to {ends[1]}, {say.change(rise)} over problems; {cost(run)}"
    return Judged.by(rise.low > 0, rise.high < CLAIMED, said)


EXPERIMENT = Experiment(
    name="grpo.smollm2",
    claim="A pretrained model of 135M parameters learns on a CPU, by adapters and in minutes, what it can partly do.",
    criterion=(
        "One run (seed 0), sums of two numbers of one or two digits in the chat style, 25 steps of 8 prompts x 8 "
        "answers, low-rank adapters of rank 8; held-out sampled accuracy on 100 problems, 2 answers each, before and "
        "after. Reproduced if the 95 % interval of the rise, paired over problems, lies above 0; not reproduced if it "
        "lies below +10 points; otherwise inconclusive. One seed: nothing is said about others. Tokens a second and "
        "memory are stated, on a machine shared with other work, and decide nothing."
    ),
    arms=arms,
    pairs=(),
    judge=judge,
    seeds=(0,),
    quick_seeds=(100,),
)

if __name__ == "__main__":
    sys.exit(main(EXPERIMENT))
