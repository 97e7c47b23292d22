"""Other forms in which a demonstration may be asked, so that a model which starts on demonstrations knows them.

A form is a function of (world, task, rng) that gives the task as it is asked and the answer to be learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pilotage.data.piece import UsageError, load, nearest
from pilotage.data.tasks import Task
from pilotage.worlds.text import Answer, turns_of

TRIES = 20  # for a right solution

Form = Callable[[Any, Task, np.random.Generator], tuple[Task, Answer]]


def form(name: str) -> Form:
    """The form of this name here, or at an import path. Raises UsageError."""
    if ":" in name:
        found: Form = load(name)
        return found
    if name not in FORMS:
        raise UsageError(f"there is no form {name!r} of a demonstration; {nearest(name, FORMS)}")
    return FORMS[name]


def improve(world: Any, task: Task, rng: np.random.Generator, kind: str = "improve") -> tuple[Task, Answer]:
    """An earlier answer is shown, right or wrong as the world's solutions are, and a right solution follows."""
    earlier = turns_of(world.demonstrate(task, rng))[-1]
    return task.put(world.phrase(kind, task, answer=earlier), kind), right_solution(world, task, rng)


def right_solution(world: Any, task: Task, rng: np.random.Generator) -> Answer:
    """The first of the world's solutions that it finds right itself; the last of so many tries where none is."""
    for _ in range(TRIES):
        answer: Answer = world.demonstrate(task, rng)
        verdict = world.verify(task, turns_of(answer)[-1])
        if getattr(verdict, "reward", verdict) >= 1:
            break
    return answer


def diverge(world: Any, task: Task, rng: np.random.Generator) -> tuple[Task, Answer]:
    """As `improve`, in the words that ask for another way."""
    return improve(world, task, rng, "diverge")


FORMS: Mapping[str, Form] = {"improve": improve, "diverge": diverge}
