"""A hundred replicas in one array cost far less than a hundred runs, one after the other."""

import time

from helpers import table_recipe
from pilotage import api
from pilotage.run.assemble import assemble
from pilotage.run.loop import one_step
from pilotage.run.summary import Counters

STEPS = 20


def seconds(replicas, runs):
    """Of training `runs` recipes of this many replicas each."""
    spent = 0.0
    for seed in range(runs):
        made = table_recipe("ucbvi", seed=seed, settings={"policy.replicas": replicas, "steps": STEPS + 1})
        parts, counters = assemble(made), Counters()
        one_step(parts, 0, counters)
        began = time.perf_counter()
        for step in range(1, STEPS + 1):
            one_step(parts, step, counters)
        spent += time.perf_counter() - began
    return spent


def test_a_hundred_seeds_in_one_array_are_five_times_as_fast_as_a_loop():
    together = min(seconds(100, 1) for _ in range(3))
    alone = min(seconds(1, 5) for _ in range(3)) * 20  # five of the hundred, the rest alike
    assert alone / together >= 5, f"{alone / together:.1f} times"


def test_one_replica_is_a_run_like_any_other():
    made = api.train(table_recipe("ucbvi", settings={"policy.replicas": 1}))
    assert len(made.metrics()[-1]["eval/items"]) == 1
