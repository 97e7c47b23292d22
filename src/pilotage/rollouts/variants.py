"""Other forms in which a demonstration may be asked, so that a model which starts on demonstrations knows them.

A form is a function of (world, task, rng) that gives the task as it is asked and the answer to be learnt.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pilotage.data.piece import UsageError, load, nearest
from pilotage.data.tasks import Task
from pilotage.worlds.text import Answer, again, turns_of

HINTS = (0.25, 0.5, 0.75)  # of a solution: Liu et al. 2025, arXiv 2507.10628

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
    """An earlier answer is shown, right or wrong as the world's solutions are, and a right solution follows; of a
    conversation, a message drawn uniformly, and the conversation from there on."""
    talk = turns_of(world.demonstrate(task, rng))
    at = 2 * int(rng.integers(len(talk[::2]))) if len(talk) > 1 else 0
    return again(world, task, talk[: at + 1], kind), talk[at:] if len(talk) > 1 else world.solution(task)


def diverge(world: Any, task: Task, rng: np.random.Generator) -> tuple[Task, Answer]:
    """As `improve`, in the words that ask for another way."""
    return improve(world, task, rng, "diverge")


def hint(world: Any, task: Task, rng: np.random.Generator) -> tuple[Task, str]:
    """The beginning of a right solution is shown, and the rest of it follows."""
    solution, ratio = world.solution(task), HINTS[int(rng.integers(len(HINTS)))]
    return hinted(world, task, ratio), solution[len(beginning(solution, ratio, task.answer)) :]


def hinted(world: Any, task: Task, ratio: float) -> Task:
    """The task with the first `ratio` of its solution shown, never the answer."""
    text = beginning(world.solution(task), ratio, task.answer)
    return task.put(world.phrase("hint", task, hint=text), f"hint {ratio:g}")


def beginning(solution: str, ratio: float, answer: str) -> str:
    """The first round(ratio · length) characters (half to even), without any of the answer that stands last; where that
    is said several times over, with nothing but signs between, without any of these.

    Raises UsageError where the answer does not stand in the solution.
    """
    end = solution.rfind(answer) if answer else len(solution)
    if end < 0:
        raise UsageError(f"hints need right solutions: {solution!r} does not hold the answer {answer!r}")
    while answer:
        before = solution[:end].rstrip(string.punctuation + string.whitespace)
        alone = before.endswith(answer) and not before[: -len(answer)][-1:].isalnum()
        if not alone:
            break
        end = len(before) - len(answer)
    return solution[: min(round(ratio * len(solution)), end)]


def simplify(world: Any, task: Task, rng: np.random.Generator) -> tuple[Task, str]:
    """A simpler problem with the same answer is asked for, by the world's own rule."""
    return _rewritten(world, task, rng, "simplify")


def diversify(world: Any, task: Task, rng: np.random.Generator) -> tuple[Task, str]:
    """Another problem with the same answer is asked for, by the world's own rule."""
    return _rewritten(world, task, rng, "diversify")


def _rewritten(world: Any, task: Task, rng: np.random.Generator, kind: str) -> tuple[Task, str]:
    return task.put(world.phrase(kind, task, answer=task.answer), kind), world.rewrite(kind, task, rng)


FORMS: Mapping[str, Form] = {
    "improve": improve,
    "diverge": diverge,
    "hint": hint,
    "simplify": simplify,
    "diversify": diversify,
}
