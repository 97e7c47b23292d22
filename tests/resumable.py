"""Runs that are killed and resumed; as a program, ones that kill themselves: `python resumable.py HOME JOB…`.

A job is KIND:MOMENT:COUNT: the signal comes when what the moment names is called for the COUNT-th time. Each runs in a
process of its own, forked after the imports, in the folder HOME/JOB; exit codes and words go to HOME/ends.json.
"""

import json
import os
import signal
import sys
from pathlib import Path

import torch

from helpers import control_recipe, text_recipe
from pilotage import api
from pilotage.credit.reference import Reference
from pilotage.data.piece import piece
from pilotage.learn.learner import ActiveTerm
from pilotage.learn.schedules import cosine, linear
from pilotage.run import checkpoint, loop
from pilotage.run.recipe import Recipe

SETTINGS = {"steps": 10, "checkpoint_every": 1, "evaluation.every": 4}
MOMENTS = {
    "update": (ActiveTerm, "clip", signal.SIGKILL),  # gradients are there, parameters have not moved
    "checkpoint": (checkpoint, "_flush", signal.SIGKILL),  # five a checkpoint
    "rename": (checkpoint, "_put_in_place", signal.SIGKILL),  # all written, but without its name
    "record": (loop.RunLog, "record", signal.SIGKILL),
    "term": (ActiveTerm, "clip", signal.SIGTERM),
}


def make(kind: str) -> Recipe:
    """ppo: windows of CartPole that cut episodes, a normaliser, an annealed rate; pendulum: mdpo with Gaussian actions,
    previous policy and two terms; text: nft on tokens; grpo: tokens, running statistics and a frozen reference; sft:
    recorded episodes."""
    if kind == "ppo":
        made = control_recipe("ppo", settings={**SETTINGS, "policy.normalise": True, "rollout.steps": 24})
        return made.vary("test", {"terms.policy.schedule": piece(linear)})
    if kind == "pendulum":
        made = control_recipe("mdpo", "gym:Pendulum-v1", settings={**SETTINGS, "policy.normalise": True})
        return made.vary("test", {"terms.policy.epochs": 3})
    if kind == "text":
        return text_recipe("nft", settings={**SETTINGS, "sampler.pool": 20})
    if kind == "sft":
        return control_recipe("sft", "toy_worlds:Line", settings=SETTINGS)
    made = text_recipe("grpo", settings={**SETTINGS, "advantage.mean": "running", "advantage.std": "running"})
    penalty = {"credit.reference": piece(Reference), "terms.policy.objectives.kl.weight": 0.5}
    return made.vary("test", {**penalty, "terms.policy.schedule": piece(cosine, warmup=0.2)})


def raise_at(holder: object, name: str, number: signal.Signals, count: int) -> None:
    """Sends this process a signal when `holder.name` is called for the `count`-th time."""
    original, calls = getattr(holder, name), []

    def called(*arguments, **settings):
        calls.append(name)
        if len(calls) == count:
            os.kill(os.getpid(), number)
        return original(*arguments, **settings)

    setattr(holder, name, called)


def run(job: str, home: Path) -> None:
    """Trains until the signal, or to the end; says where it was asked to stop."""
    kind, moment, count = job.split(":")
    raise_at(*MOMENTS[moment], int(count))
    try:
        api.train(make(kind), out=home / job)
    except loop.Interrupted as stopped:
        (home / f"{job}.said").write_text(str(stopped))


def forked(job: str, home: Path) -> int:
    """The process id of a child that runs the job."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(job, home)
            code = 0
        finally:
            os._exit(code)
    return child


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    children = {job: forked(job, folder) for job in sys.argv[2:]}
    codes = {job: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for job, child in children.items()}
    (folder / "ends.json").write_text(json.dumps(codes))
