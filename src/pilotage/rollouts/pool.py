"""Responses that the policy writes in windows: those that a window cuts go on in the next step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from pilotage.data.batch import Batch, Stop
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Policy, SpeakingPolicy
from pilotage.rollouts.base import NextTask, number
from pilotage.rollouts.messages import Messages, Said, Transcript, draws, extend, opened, recorded, speaking
from pilotage.worlds.base import World

SHARE = 3  # windows in the longest response, where no window is named: 8,192 of 24,576 tokens in T-PPO


@dataclass
class Response:
    """One response of the pool. number: unlike any other's of the run. group: that of its prompt. windows: in which it
    has been written so far. prompt: tokens before it."""

    script: Transcript
    number: int
    group: int
    prompt: int
    windows: int = 0

    @property
    def written(self) -> int:
        """Its tokens so far."""
        return len(self.script) - self.prompt

    def tree(self) -> dict[str, Any]:
        """Itself as a state tree."""
        logp = torch.cat([torch.zeros(0), *(span.logp for span in self.script.spans if span.logp is not None)])
        numbers = {"number": self.number, "group": self.group, "prompt": self.prompt, "windows": self.windows}
        return {"task": asdict(self.script.task), "tokens": self.script.context, "logp": logp, **numbers}

    @staticmethod
    def of(tree: Mapping[str, Any]) -> Response:
        """What `tree` gave."""
        tokens, prompt, numbers = tree["tokens"], tree["prompt"], ("number", "group", "prompt", "windows")
        script = Transcript(Task(**tree["task"]), tokens[:prompt])
        if len(tokens) > prompt:
            script.say(tokens[prompt:].clone(), tree["logp"].clone(), 0)
        return Response(script, **{name: int(tree[name]) for name in numbers})


class Pool(Messages):
    """`prompts` x `samples` responses a step, always as many: first those that the last window cut, then new ones. Each
    goes on from its own tokens, with the policy as it is now, for at most `window` tokens.

    window: by default a third of the longest response. A response ends at an end token, at the longest length or at the
    end of the context, and is then judged as it stands; the world sees nothing of it before. One that a window cut is
    in the record with stop WINDOW and no reward.

    trained: so many responses of a step are trained on (None: all), in this order: those of prompts whose samples ended
    so far have different returns (some right, some wrong); of prompts with samples that the window cut, the most such
    first; others; and among equals older prompts first, the last in part if need be. What this window wrote of the rest
    is in no policy gradient, now or later. The responses themselves go on all the same, so later windows may be chosen;
    the critic learns from all windows of a response if it is chosen in the step in which it ends, else never. As in the
    recipe offered to verl for T-PPO (see methods/t_ppo.py); it also shuffles the first kind.

    Columns besides the usual: `current` [D], written in this step (of a response that has ended, tokens of earlier
    windows are `sampled` too, with the log-probs that they had). Per episode: `response`, its number; `so_far`, its
    tokens; `episode_return` and `episode_length`, NaN where it goes on; `trained`, where a choice is made. Samples of
    one prompt may end at different steps: statistics of a group are not to be had from one batch. Raises UsageError for
    a world that answers back.
    """

    def __init__(self, *, window: int | None = None, trained: int | None = None, temperature: float = 1.0) -> None:
        super().__init__(temperature=temperature, max_turns=1)
        if window is not None and window < 1:
            raise UsageError(f"a window has at least one token, not {window}")
        if trained is not None and trained < 1:
            raise UsageError(f"at least one response is trained on, not {trained}; none trains on all of them")
        self.window, self.trained = window, trained
        self.line: list[Response] = []  # cut responses, then those that have not begun
        self.begun = 0  # prompts
        self.outcomes: dict[int, tuple[float, float]] = {}  # least and largest return of prompts that go on
        self.told: dict[str, float] = {}

    def says(self, prompts: int, samples: int, most: int) -> tuple[str, int]:
        window, total = min(most, self.window or -(-most // SHARE)), prompts * samples
        some = f", and trains on {number(self.trained)} of them" if self.trained and self.trained < total else ""
        return f"goes on with {number(total)} responses, for at most {window} tokens each{some}", total * window

    def __call__(
        self, policy: Policy, world: World, next_task: NextTask, streams: Streams, step: int, prompts: int, samples: int
    ) -> Batch:
        policy, size, most = speaking(policy), prompts * samples, world.action.max_tokens
        window = min(most, self.window or -(-most // SHARE))
        aligned = not self.line
        self._fill(policy, world, next_task, size, samples)
        pool, self.line = self.line[:size], self.line[size:]
        before = [response.written for response in pool]
        limits = [max(1, _room(response, policy, window, most)) for response in pool]
        said = extend(
            policy,
            [response.script for response in pool],
            draws(streams, "rollout", step, 0, size, window),
            turn=0,
            temperature=self.temperature,
            repeats=samples if aligned else 1,
            limits=None if min(limits) == window else limits,
        )
        for response in pool:
            response.windows += 1
        ended = [
            closed or _room(response, policy, window, most) == 0
            for response, closed in zip(pool, said.closed, strict=True)
        ]
        self._judge(policy, world, pool, ended, said.closed)
        self.line = [response for response, over in zip(pool, ended, strict=True) if not over] + self.line
        self._tell(pool, before, ended)
        batch = _record(pool, before, ended)
        return batch if self.trained is None else self._choose(batch, pool, ended, self.trained)

    def _choose(self, batch: Batch, pool: Sequence[Response], ended: Sequence[bool], most: int) -> Batch:
        """The record with `trained` [E]: whether this step learns from a response."""
        groups, valid = [response.group for response in pool], batch.valid.tolist()
        for group, over, known, found in zip(groups, ended, valid, batch.returns.tolist(), strict=True):
            if over and known:
                least, largest = self.outcomes.get(group, (found, found))
                self.outcomes[group] = min(least, found), max(largest, found)
        cut = Counter(group for group, over in zip(groups, ended, strict=True) if not over)

        def place(row: int) -> tuple[int, int, int]:
            least, largest = self.outcomes.get(groups[row], (0.0, 0.0))
            kind = 0 if least < largest else 1 if cut[groups[row]] else 2
            return kind if valid[row] else 3, -cut[groups[row]] if kind == 1 else 0, groups[row]

        trained = torch.zeros(len(pool), dtype=torch.bool)
        trained[sorted(range(len(pool)), key=place)[:most]] = True
        going = {response.group for response in self.line}
        self.outcomes = {group: found for group, found in self.outcomes.items() if group in going}
        self.told["pool/left_out"] = float((~trained).sum())
        self.told["pool/left_out_tokens"] = float(batch.total(batch.fresh.long())[~trained].sum())
        return batch.with_episode(trained=trained)

    def _fill(self, policy: SpeakingPolicy, world: World, next_task: NextTask, size: int, samples: int) -> None:
        """New responses at the end of the line, whole groups, until it has `size`."""
        groups = max(0, -(-(size - len(self.line)) // samples))
        tasks = [next_task() for _ in range(groups)]
        scripts = opened(policy, world, [task for task in tasks for _ in range(samples)]) if tasks else []
        for i, script in enumerate(scripts):
            group = self.begun + i // samples
            self.line.append(Response(script, self.begun * samples + i, group, len(script)))
        self.begun += groups

    def _judge(
        self,
        policy: SpeakingPolicy,
        world: World,
        pool: Sequence[Response],
        ended: Sequence[bool],
        closed: Sequence[bool],
    ) -> None:
        """Gives the world the responses that ended, whole."""
        rows = [row for row, over in enumerate(ended) if over]
        if not rows:
            return
        scripts = [response.script for response in pool]
        world.reset([scripts[row].task for row in rows], rows)
        texts = [policy.decode(scripts[row].context[pool[row].prompt :]) for row in rows]
        whole = Said(texts, [closed[row] for row in rows], [pool[row].written > 0 for row in rows])
        if self.answered(policy, world, scripts, rows, whole, 0):
            raise UsageError(f"{type(world).__name__} answers back; responses in windows are for worlds of one answer")

    def _tell(self, pool: Sequence[Response], before: Sequence[int], ended: Sequence[bool]) -> None:
        size, over = len(pool), sum(ended)
        windows = sum(response.windows for response, end in zip(pool, ended, strict=True) if end)
        self.told = {
            "pool/size": float(size),
            "pool/continued": sum(count > 0 for count in before) / size,
            "pool/unfinished": 1 - over / size,
            "pool/waiting": float(len(self.line) - (size - over)),
            "pool/reread": float(sum(before)),
            **({"pool/windows": windows / over} if over else {}),
        }

    def metrics(self) -> dict[str, float]:
        """Of the last step: `pool/size`; shares of it that went on from an earlier window (`continued`) and that will
        go on in the next (`unfinished`); responses that wait to begin; tokens of earlier windows that were read again
        (`reread`); windows of those that ended, in the mean; where `trained` is set, responses that are not trained on
        (`left_out`), and tokens that this window wrote of them."""
        return self.told

    def state_dict(self) -> dict[str, Any]:
        outcomes = {str(group): list(found) for group, found in self.outcomes.items()}
        return {"line": [response.tree() for response in self.line], "begun": self.begun, "outcomes": outcomes}

    def load_state_dict(self, state: Mapping[str, Any], world: World) -> None:
        self.line, self.begun = [Response.of(tree) for tree in state["line"]], int(state["begun"])
        outcomes = state.get("outcomes", {})  # older checkpoints have none
        self.outcomes = {int(group): (least, largest) for group, (least, largest) in outcomes.items()}


def _room(response: Response, policy: SpeakingPolicy, window: int, most: int) -> int:
    """Tokens that a response may have in the next window."""
    return min(window, most - response.written, policy.context - len(response.script))


def _record(pool: Sequence[Response], before: Sequence[int], ended: Sequence[bool]) -> Batch:
    order: dict[int, int] = {}
    groups = [order.setdefault(response.group, len(order)) for response in pool]
    for response, over in zip(pool, ended, strict=True):
        response.script.stop = response.script.stop if over else Stop.WINDOW
    batch = recorded([response.script for response in pool], groups=groups)
    so_far = torch.tensor([response.written for response in pool])
    old = torch.tensor([response.prompt for response in pool]) + torch.tensor(list(before))
    current = torch.arange(batch.decisions) - batch.spread(batch.offsets[:-1]) >= batch.spread(old)
    whole = torch.tensor(list(ended))
    unknown = torch.tensor(float("nan"))
    return batch.with_columns(current=current, sampled=batch.sampled & (current | batch.spread(whole))).with_episode(
        terminated=whole,
        truncated=~whole,
        response=torch.tensor([response.number for response in pool]),
        so_far=so_far,
        episode_return=torch.where(whole, batch.returns, unknown),
        episode_length=torch.where(whole, so_far.float(), unknown),
    )
