"""Verifiers in a process of their own, so that one that hangs, crashes or leaks costs one verdict and not the run.

The protocol is JSON lines over pipes. Parent to child: the world to make, then one message for each batch of answers.
Child to parent: one line when ready, then one verdict a line, in order, each as soon as it is known; hence the first
answer without a verdict is the one that hangs. `python -m pilotage.worlds.guard` is the child; it imports no torch.
POSIX only, as are the signals that make sure the child never outlives its parent.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol

from pilotage.data.piece import UsageError, load
from pilotage.data.tasks import Task, Verdict

logger = logging.getLogger(__name__)
START_SECONDS = 60.0
GRACE_SECONDS = 2.0  # what the child gives its parent before it ends itself
MEMORY_BYTES = 4 * 2**30  # what answers may cost beyond what the world takes
LONGEST_REASON = 500
READY = "ready"


class Verifier(Protocol):
    """What a guard guards."""

    def verify(self, task: Task, answer: str) -> Verdict | float:
        """What an answer is worth."""


class Lines:
    """Lines of bytes from a pipe, with deadlines."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLIN)
        self._held = b""
        self._ready: list[bytes] = []

    def next(self, seconds: float) -> bytes | None:
        """The next line, or None if there is none in time. Raises EOFError at the end."""
        deadline = time.monotonic() + seconds
        parts = [self._held]
        while not self._ready:
            left = deadline - time.monotonic()
            if not self._poll.poll(max(left, 0) * 1000):
                if left > 0:
                    continue
                self._held = b"".join(parts)
                return None
            chunk = os.read(self.descriptor, 1 << 20)
            if not chunk:
                raise EOFError
            parts.append(chunk)
            if b"\n" in chunk:
                *lines, rest = b"".join(parts).split(b"\n")
                self._ready, parts, self._held = lines[::-1], [], rest
        return self._ready.pop()


class Child:
    """A running verifier process and its pipes."""

    def __init__(self) -> None:
        # one thread in libraries that would start one for each core: each holds address space, which is limited
        threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        inward, self._write = os.pipe()
        self._read, outward = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pilotage.worlds.guard"],
            stdin=inward,
            stdout=outward,
            env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        os.close(inward)
        os.close(outward)
        os.set_blocking(self._write, False)
        self._lines, self._owner = Lines(self._read), os.getpid()

    def send(self, message: bytes, seconds: float) -> bool:
        """Writes all of a message, or returns False if the child does not read it in time. Raises BrokenPipeError."""
        left, poll = memoryview(message), select.poll()
        poll.register(self._write, select.POLLOUT)
        deadline = time.monotonic() + seconds
        while left:
            if not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
                return False
            left = left[os.write(self._write, left) :]
        return True

    def hear(self, seconds: float) -> Any:
        """What the child said, or None if it said nothing in time. Raises EOFError if it is gone."""
        line = self._lines.next(seconds)
        return None if line is None else json.loads(line)

    def usable(self) -> bool:
        """Whether it still runs, and is ours and not that of the process we were forked from."""
        return self._owner == os.getpid() and self.process.poll() is None

    def end(self) -> str:
        """Ends it and says how it ended; it holds nothing worth a polite end."""
        if self._owner != os.getpid():
            return ""
        self.process.kill()
        code = self.process.wait()
        for descriptor in (self._write, self._read):
            os.close(descriptor)
        return f"exit status {code}" if code >= 0 else signal.Signals(-code).name


class Guard:
    """Judges answers with `world.verify`, in a child process that is started when needed and restarted after harm.

    settings: what the world was constructed with; seconds: for one answer, or None to verify here, without a limit.
    """

    def __init__(self, world: Verifier, settings: Mapping[str, Any], seconds: float | None) -> None:
        self._world, self._seconds = world, seconds
        self._use = f"{type(world).__module__}:{type(world).__qualname__}"
        self._settings = dict(settings)
        self._child: Child | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None
        if seconds is not None and ("__main__:" in self._use or "<locals>" in self._use):
            logger.warning(
                "%s cannot be imported by another process, so answers are verified in this one, without a time limit; "
                "put the class in a module of its own",
                self._use,
            )
            self._seconds = None

    def judge(self, answers: Sequence[tuple[Task, str]]) -> list[Verdict]:
        """A verdict on each (task, answer). Raises UsageError if the child cannot be started."""
        found: list[Verdict] = []
        while len(found) < len(answers):
            if self._seconds is None:
                found.append(_verdict(self._world, *answers[len(found)]))
                continue
            reason = self._exchange(self._running(self._seconds), answers[len(found) :], self._seconds, found)
            if reason:
                logger.warning("verifier of %s %s; restarting it", self._use, reason)
                found.append(Verdict.invalid(f"the verifier {reason}"))
        return found

    def _exchange(self, child: Child, answers: Sequence[tuple[Task, str]], seconds: float, found: list[Verdict]) -> str:
        """Sends answers and collects their verdicts in `found`. Returns what befell the first without one, if any."""
        try:
            if not child.send(_message(answers), START_SECONDS):
                self.close()
                return "took no message"
            for _ in answers:
                said = child.hear(seconds)
                if said is None:
                    self.close()
                    return f"timed out after {seconds:g} s"
                reward, reason = said
                found.append(Verdict.invalid(reason) if reason else Verdict.value(reward))
        except (EOFError, BrokenPipeError, ValueError):
            return f"died ({self.close()})"
        except BaseException:
            self.close()  # interrupted: verdicts still to come must not be taken for those of later answers
            raise
        return ""

    def _running(self, seconds: float) -> Child:
        if self._child is not None and self._child.usable():
            return self._child
        self.close()
        world = {"use": self._use, "settings": self._settings}
        try:
            message = json.dumps({**world, "path": sys.path, "seconds": seconds}).encode() + b"\n"
        except TypeError as error:
            raise UsageError(f"settings of {self._use} have to be JSON: {error}") from None
        self._child = child = Child()
        self._finalizer = weakref.finalize(self, child.end)
        try:
            said = child.hear(START_SECONDS) if child.send(message, START_SECONDS) else None
            problem = f"did not start within {START_SECONDS:g} s" if said is None else said
        except (EOFError, BrokenPipeError):
            problem = f"died while starting ({self.close()}); what it printed stands above"
        if problem != READY:
            self.close()
            raise UsageError(f"the verifier process of {self._use} {problem}")
        return child

    def close(self) -> str:
        """Ends the child and says how it ended; judging again starts another."""
        ended = self._finalizer() if self._finalizer is not None else None
        self._child = self._finalizer = None
        return str(ended or "")


def _message(answers: Sequence[tuple[Task, str]]) -> bytes:
    """Tasks once each, and answers that name them by number: a group shares one task."""
    tasks: dict[int, int] = {}
    distinct: list[Task] = []
    jobs = []
    for task, answer in answers:
        if id(task) not in tasks:
            tasks[id(task)] = len(distinct)
            distinct.append(task)
        jobs.append((tasks[id(task)], answer))
    return json.dumps({"tasks": [asdict(task) for task in distinct], "jobs": jobs}).encode() + b"\n"


def _verdict(world: Verifier, task: Task, answer: str) -> Verdict:
    """What verify says; what it raises, and what is no finite number, is invalid."""
    try:
        found = world.verify(task, answer)
        if not isinstance(found, Verdict):
            return Verdict.value(found)
        return Verdict.value(found.reward) if found.valid else found
    except (Exception, SystemExit) as error:
        return Verdict.invalid(f"the verifier raised {type(error).__name__}: {error}"[:LONGEST_REASON])


def _limit_memory(extra: int) -> None:
    """Lets this process take `extra` bytes more than it has now; asking for more raises MemoryError."""
    try:
        import resource

        with open("/proc/self/statm") as pages:
            now = int(pages.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + extra, now + extra))
    except (ImportError, OSError, ValueError):
        logger.debug("no limit on memory here")


def serve() -> None:
    """The child: makes the world it is told to, then judges until its parent is gone."""
    # the pipes are ours alone: what a verifier prints goes to stderr, and there is nothing for it to read
    inward, outward = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # kills without asking Python, which may be stuck in C
    parent, lines = os.getppid(), Lines(inward)

    def hear() -> Any:
        while (line := lines.next(1.0)) is None:
            if os.getppid() != parent:  # a fork of the parent may still hold the pipe open
                sys.exit()
        return json.loads(line)

    def say(what: Any) -> None:
        line = json.dumps(what).encode() + b"\n"
        while line:
            line = line[os.write(outward, line) :]

    try:
        signal.setitimer(signal.ITIMER_REAL, START_SECONDS + GRACE_SECONDS)
        first = hear()
        sys.path[:] = first["path"]
        try:
            world = load(first["use"])(**first["settings"])
        except Exception as error:
            say(f"could not make the world: {type(error).__name__}: {error}")
            return
        _limit_memory(MEMORY_BYTES)
        signal.setitimer(signal.ITIMER_REAL, 0)
        say(READY)
        while True:
            batch = hear()
            tasks = [Task(**task) for task in batch["tasks"]]
            for number, answer in batch["jobs"]:
                signal.setitimer(signal.ITIMER_REAL, first["seconds"] + GRACE_SECONDS)
                verdict = _verdict(world, tasks[number], answer)
                signal.setitimer(signal.ITIMER_REAL, 0)
                say((verdict.reward, verdict.reason))
    except (EOFError, BrokenPipeError):
        return


if __name__ == "__main__":
    serve()
