"""What a policy is: it acts, and scores decisions, differentiably. It owns its normaliser or its tokeniser."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError


@dataclass(frozen=True)
class Minibatch:
    """The S sampled decisions of a part of a batch, as flat columns, and the episodes they come from where needed.

    columns: each [S, …], in the order of the episodes' decisions. owner: [S] episode number, counted over the batch.
    index: [S] position of each row within the optimiser step it belongs to, so that weights can be looked up.
    episodes: the ragged record, for policies whose scores need each decision's past (`Policy.needs_past`).
    whole_groups: no part of it may cut a group; members of one stand side by side in `episodes`.
    heard_only: decisions that no objective hears are left out, of its episodes too (there they are not `sampled`).
    """

    columns: dict[str, Tensor]
    owner: Tensor
    index: Tensor
    episodes: Batch | None = None
    whole_groups: bool = False
    heard_only: bool = False

    def __getitem__(self, name: str) -> Tensor:
        try:
            return self.columns[name]
        except KeyError:
            raise UsageError(
                f"policy and losses of this recipe read a column {name!r}, which nothing in it writes; there are "
                f"{', '.join(self.columns)}"
            ) from None

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __len__(self) -> int:
        return len(self.owner)

    def per_episode(self, values: Tensor) -> Tensor:
        """[S] → [S]: each row gets the sum over its episode's rows.

        Raises UsageError where minibatches are not made of whole episodes (`Policy.needs_past`), or have only what is
        heard of them.
        """
        if self.episodes is None:
            raise UsageError("sums over an episode need a policy that scores whole episodes; this one scores decisions")
        if self.heard_only:
            raise UsageError("a loss that sums over an episode has to say so: @over_episodes of pilotage.losses.terms")
        _, episode = torch.unique(self.owner, return_inverse=True)
        totals = values.new_zeros(int(episode.max()) + 1 if len(episode) else 0)
        return totals.index_add(0, episode, values)[episode]

    def only(self, chosen: Tensor, *, heard_only: bool = False) -> Minibatch:
        """The rows `chosen` [S] bool, and the episodes that have any; its other decisions are then not sampled. Itself
        where all are chosen."""
        if bool(chosen.all()):
            return self
        rows = chosen.nonzero().squeeze(-1)
        if self.episodes is None:
            columns = {name: column[rows] for name, column in self.columns.items()}
            return Minibatch(columns, self.owner[rows], self.index[rows], heard_only=heard_only)
        sampled = torch.zeros_like(self.episodes.sampled)
        sampled[self.episodes.sampled] = chosen
        episodes = self.episodes.with_columns(sampled=sampled)
        kept = rows_of(episodes.select(episodes.total(sampled.long()) > 0), True, self.whole_groups)
        return replace(kept, index=self.index[rows], heard_only=heard_only)


def rows_of(batch: Batch, needs_past: bool, whole_groups: bool = False) -> Minibatch:
    """All sampled decisions of a batch as one minibatch; with the episodes where scores need the past, and with members
    of a group side by side where groups are to stay whole."""
    if whole_groups:
        _, group = torch.unique(batch["group"], return_inverse=True)
        order = group.argsort(stable=True)
        batch = batch if bool((order.diff() == 1).all()) else batch.select(order)
    if "sampled" not in batch.columns:
        every = torch.arange(batch.decisions)
        return Minibatch(
            dict(batch.columns), batch.owner, every, batch if needs_past or whole_groups else None, whole_groups
        )
    chosen = batch.sampled.nonzero().squeeze(-1)
    whole = len(chosen) == batch.decisions
    columns = {name: column if whole else column[chosen] for name, column in batch.columns.items()}
    episodes = batch if needs_past or whole_groups else None
    return Minibatch(columns, batch.owner[chosen], torch.arange(len(chosen)), episodes, whole_groups)


class Policy(nn.Module, ABC):
    """Base of all policies.

    needs_past: scores of a decision need the whole episode before it (sequence models), so minibatches are made of
        whole episodes; else of single decisions.
    gives: names of the quantities it can give. Usual ones: `logp` [S] of the stored action; `entropy` [S]; `value` [S]
        (needs a critic); `distribution` (see policies.distributions). Losses ask for them by naming arguments.
    Parameters of a critic, where there is one, live under the prefix `critic.`; all others belong to the actor.
    """

    needs_past: ClassVar[bool] = False
    gives: ClassVar[frozenset[str]] = frozenset({"logp", "entropy", "value", "distribution"})
    untrained: ClassVar[bool] = False  # made from nothing: language worlds then start from worked solutions
    # what recipes take where they do not say: for learning from one's own decisions, and from demonstrations
    learning_rate: ClassVar[float] = 3e-4
    imitation_rate: ClassVar[float] = 3e-3

    @classmethod
    def usual(cls, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """What recipes take at dotted paths where nobody says otherwise, for a policy with these settings: sizes, and
        `world.NAME` for worlds that have such a setting."""
        return {}

    @abstractmethod
    def quantities(self, minibatch: Minibatch, names: frozenset[str]) -> dict[str, Any]:
        """The named quantities of a minibatch, differentiable unless gradients are off."""

    def split(self, minibatch: Minibatch) -> Iterator[Minibatch]:
        """Parts small enough for one forward pass (micro-batches); their union is the minibatch."""
        yield minibatch

    def final_values(self, batch: Batch) -> Tensor:
        """[E] value of what came after each episode's last decision; only asked for episodes that were cut."""
        raise TypeError(f"{type(self).__name__} has no critic")

    def facts(self) -> dict[str, Any]:
        """What an explanation says of it: parameters and sizes."""
        return {"parameters": sum(p.numel() for p in self.parameters())}


class ActingPolicy(Policy):
    """A policy whose move is one decision (an action for each lane).

    remembers: it acts on more than what it observes now, such as the rest of a plan. Plans then tell it which lanes
        begin an episode (`reset`), and name the lanes when it acts; nothing passes from one lane to another.
    """

    remembers: ClassVar[bool] = False

    @abstractmethod
    def noise(self, generator: Any, rows: int, steps: int) -> Tensor:
        """[steps, rows, …] the random numbers that acting for `steps` steps on `rows` lanes uses up."""

    @abstractmethod
    def act(self, observation: Any, noise: Tensor, greedy: bool = False) -> tuple[Tensor, Tensor]:
        """Actions [n, …] and their log-probs [n] for n observations, with noise [n, …]; no gradient. A policy that
        `remembers` also takes `lanes`, n lane numbers."""

    def reset(self, lanes: Sequence[int]) -> None:
        """New episodes begin on these lanes: forgets what there was of them."""

    def memory(self) -> dict[str, Tensor]:
        """What is remembered of all lanes, for checkpoints and for setting aside; empty where nothing is."""
        return {}

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        """Takes up what `memory` gave; an empty one forgets everything."""

    def observe(self, observations: Tensor) -> None:
        """Lets a running normaliser see new observations [n, …]; called once a step, after the update, so that acting
        and scoring within a step agree."""


@dataclass(frozen=True)
class Messages:
    """n sampled messages, ragged: `tokens` and `logp` per message, and whether it closed with an end token.

    A closed message includes its end token (a sampled decision); one cut by length does not.
    """

    tokens: list[Tensor]
    logp: list[Tensor]
    closed: list[bool]


@dataclass
class Generated:
    """What a policy has generated: tokens of all messages, and decode steps, the tokens of each call's longest.
    injected: tokens it was given beside a problem's own and those: put into its mouth, or added to the prompt; once for
    each context, however often that is gone on from."""

    tokens: int = 0
    decode_steps: int = 0
    injected: int = 0

    def add(self, said: Messages) -> Messages:
        """Counts the messages of one call."""
        sizes = [len(tokens) for tokens in said.tokens]
        self.tokens += sum(sizes)
        self.decode_steps += max(sizes, default=0)
        return said


class SpeakingPolicy(Policy):
    """A policy whose move is a message: many decisions, a token each."""

    needs_past: ClassVar[bool] = True
    context: int = sys.maxsize  # most tokens of a prompt and its message together

    @abstractmethod
    def encode(self, text: str, *, prompt: bool, after: int | None = None) -> list[int]:
        """Token ids of a text. `prompt`: as what the policy is asked (start tokens, chat template); else as an answer,
        without the end token. `after`: in a later turn, the last id of the conversation so far, which what is asked
        goes on from. Raises UsageError for a character the tokenizer lacks."""

    @abstractmethod
    def decode(self, tokens: Sequence[int] | Tensor) -> str:
        """The text of token ids, special tokens left out."""

    @property
    @abstractmethod
    def end_token(self) -> int:
        """The id that closes a message."""

    def can_read(self, tokens: Sequence[int]) -> bool:
        """Whether a prompt of these token ids leaves room for a message."""
        return True

    @cached_property
    def generated(self) -> Generated:
        """What `speak` has generated so far, for counting."""
        return Generated()

    @abstractmethod
    def speak(
        self,
        prompts: Sequence[Tensor],
        uniforms: Tensor,
        *,
        temperature: float = 1.0,
        repeats: int | Sequence[int] = 1,
        limits: Sequence[int] | None = None,
    ) -> Messages:
        """Samples `repeats` messages for each prompt (token ids), or so many for each as named; n in all, prompt-major.

        uniforms: [n, max_new_tokens] in [0, 1): draw t of message i decides its token t, whatever else is in the batch
        (inverse of the cumulative distribution). temperature 0 is greedy. `logp` is that of the untempered model.
        limits: most new tokens of each message, at least 1, where it may be fewer than there are draws. A prompt that
        leaves no room in the model's context gets empty messages, not closed.
        """


def parameters_under(policy: nn.Module, prefix: str) -> dict[str, nn.Parameter]:
    """Trainable parameters by name: "" all, "critic" those under `critic.`, "actor" all the others."""
    named = {n: p for n, p in policy.named_parameters() if p.requires_grad}
    if prefix == "":
        return named
    if prefix == "actor":
        return {n: p for n, p in named.items() if not n.startswith("critic.")}
    return {n: p for n, p in named.items() if n == prefix or n.startswith(prefix + ".")}


def count_nonfinite(tensors: Sequence[Tensor]) -> int:
    """How many entries are NaN or infinite."""
    return int(sum((~torch.isfinite(t)).sum() for t in tensors))


def score(batch: Batch, policy: Policy, name: str, among: Tensor | None = None) -> Tensor:
    """[D, …] one quantity of the policy at every decision that it made, or at those of them named by `among` [D] bool
    (0 at others), without gradient."""
    everything = rows_of(batch, policy.needs_past)
    wanted = everything if among is None else everything.only(among[batch.sampled])
    found: Tensor | None = None
    with torch.no_grad():
        for part in policy.split(wanted):
            given = policy.quantities(part, frozenset([name]))[name]
            given = given if isinstance(given, Tensor) else given.parameters
            if found is None:
                found = given.new_zeros((len(everything), *given.shape[1:]))
            found[part.index] = given
    if found is None:
        return torch.zeros(batch.decisions)
    out = found.new_zeros((batch.decisions, *found.shape[1:]))
    out[batch.sampled] = found
    return out
