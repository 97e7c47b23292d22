"""ExIt where episodes have several turns: histories cut after each turn, restored, and gone on from."""

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch

from helpers import differing, episodes, final_state, metrics, text_recipe, trained
from pilotage import api
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.policies.base import Messages as Spoken
from pilotage.policies.base import SpeakingPolicy
from pilotage.rollouts.demonstrations import written
from pilotage.rollouts.messages import Messages
from pilotage.rollouts.variants import form
from pilotage.run import loop
from pilotage.run.assemble import assemble
from pilotage.run.improving import Improving
from pilotage.samplers.space import Entry, Item, TaskSpace
from pilotage.worlds.modes import Sums
from pilotage.worlds.text import again, begin
from toy_worlds import Dialled, Moody

BEGIN, SEPARATOR, END = 1, 2, 3


class Reads(SpeakingPolicy):
    """Says what it was told to, message by message, or what `reads` makes of what it was asked last."""

    def __init__(self, lines=(), reads=None):
        super().__init__()
        self.lines, self.reads, self.asked = list(lines), reads, []

    def encode(self, text, *, prompt, after=None):
        ids = [ord(letter) for letter in text]
        return [BEGIN, *ids, SEPARATOR] if prompt else ids

    def decode(self, tokens):
        return "".join(chr(i) for i in tokens if i > END)

    @property
    def end_token(self):
        return END

    def quantities(self, minibatch, names):
        raise NotImplementedError

    def speak(self, prompts, uniforms, *, temperature=1.0, repeats=1, limits=None):
        rows = [prompt for prompt in prompts for _ in range(repeats)]
        self.asked += ["".join({BEGIN: "<", SEPARATOR: ">", END: "|"}.get(i, chr(i)) for i in p.tolist()) for p in rows]
        last = [asked.rpartition("<")[2].strip(">") for asked in self.asked[-len(rows) :]]
        said = [self.reads(text) for text in last] if self.reads else [self.lines.pop(0) for _ in rows]
        tokens = [torch.tensor([*self.encode(text, prompt=False), END]) for text in said]
        return Spoken(tokens, [torch.zeros(len(t)) for t in tokens], [True] * len(rows))


def number(answer):
    """A world's task with this answer."""
    world = Dialled()
    return world, next(task for i in range(2000) if (task := world.task(i, "train")).answer == answer)


def conversed(policy, world, tasks, samples=1, **more):
    return Messages(**more).converse(policy, world, tasks, samples, Streams(0), "test", 0)


# ---- restoring


def test_the_world_is_given_the_earlier_messages_again():
    world, task = number("47")
    opening, paid = begin(world, [task.after(("4", "4?"), "", "x"), task, task.after(("5", "5?"), "", "x")], range(3))
    assert opening == ["47="] * 3
    assert paid == [[0.5], [], [0.0]]
    assert world.step(["7", "4", "7"], range(3)).reward.tolist() == [0.5, 0.5, 0.5]


def test_a_world_that_replies_otherwise_is_refused():
    world = Moody()
    task = world.task(0, "train")
    restored = task.after(("4", "1?"), "", "x")
    begin(world, [restored], [0])
    with pytest.raises(UsageError, match="Moody does not reply to the same messages as it did before: a part"):
        begin(world, [restored], [0])
    with pytest.raises(UsageError, match="Dialled does not reply"):  # it ends where it was said to go on
        begin(Dialled(), [task.after(("4", "4?", "7", "7?"), "", "x")], [0])


def test_an_episode_goes_on_after_what_was_said():
    world, task = number("47")
    policy = Reads(["7", "1", "7"])
    shown = again(world, task, ["4", "4?", "2"], "improve", "improve 0.5")
    batch = conversed(policy, world, [shown], 3)
    # the problem, the first answer as it was given, and in place of the reply the words that show the second one
    assert policy.asked == ["<47=>4|<4?2=>"] * 3
    assert batch.returns.tolist() == [1.0, 0.5, 1.0]  # what the first answer was paid is part of it
    tokens = "".join({BEGIN: "<", SEPARATOR: ">", END: "|"}.get(i, chr(i)) for i in batch["action"].tolist()[:15])
    assert tokens == "<47=>4|<4?2=>7|"
    assert batch["sampled"].tolist()[:15] == [False] * 13 + [True] * 2
    assert batch["turn"].tolist()[:15] == [0] * 7 + [1] * 8
    assert batch["reward"].tolist()[:15] == [0.0] * 6 + [0.5] + [0.0] * 7 + [0.5]
    assert [batch.talk(i) for i in range(3)] == [["4", "4?", "7"], ["4", "4?", "1"], ["4", "4?", "7"]]
    assert batch.notes["answer"] == ["4 / 7", "4 / 1", "4 / 7"]
    assert batch.notes["variant"] == ["improve 0.5"] * 3


def test_a_first_answer_is_asked_for_anew_and_the_rest_is_played():
    world, task = number("47")
    policy = Reads(["4", "5", "7", "7"])
    batch = conversed(policy, world, [again(world, task, ["2"], "improve")], 2)
    assert policy.asked == ["<47=2=>"] * 2 + ["<47=2=>4|<4?>", "<47=2=>5|<5?>"]
    assert batch.returns.tolist() == [1.0, 0.5]


def test_a_restored_context_is_the_one_that_was():
    parts = assemble(text_recipe("exit", world="toy_worlds:Dialled"))
    batch = conversed(parts.policy, parts.world, [parts.world.task(i, "train") for i in range(60)])
    whole = 0
    for i in range(len(batch)):
        talk, tokens = batch.talk(i), batch.select(torch.tensor([i]))["action"]
        restored = parts.world.task(i, "train").after(talk[:2], "", "x")
        one = conversed(parts.policy, parts.world, [restored])
        before = one["action"][~one.sampled]
        if torch.equal(before, tokens[: len(before)]):
            whole += 1
            assert one["turn"][one.sampled].tolist() == [1] * int(one.sampled.sum())
        else:  # only where the message was cut, which is closed now
            assert parts.policy.end_token not in batch.select(torch.tensor([i]))["action"][4:6]
    parts.world.close()
    assert whole >= 5


def test_turns_before_count_as_turns():
    world, task = number("47")
    shown = again(world, task, ["4"], "improve")
    batch = conversed(Reads(["4"]), world, [shown], max_turns=1)
    assert batch.talk(0) == ["4", "4?"]  # nobody answers the reply
    assert Item(task.key, ("4",), (2,)).grown(batch.talk(0)) == Item(task.key, ("4",), (3,))
    restored = again(world, task, ["4", "4?", "7"], "improve")
    assert conversed(Reads(["7"]), world, [restored], max_turns=2).talk(0) == ["4", "4?", "7"]


# ---- the space


def space(world, seed, **settings):
    sampler = TaskSpace(**{"least_items": 1, "share": 1.0, "diverge": 0.0, **settings})
    sampler.open(world, Streams(seed))
    return sampler


def test_scores_of_continuations_of_each_prefix():
    """Returns 1, ½, ½, 0 of the whole: S = ⅛ for both cuts. From the second turn on 3 of 4 are right, and each is half
    of the return: S = ¼ · 3/16, whatever the first answer was."""
    for seed in range(30):
        world = Dialled()
        sampler = space(world, seed)
        task = sampler.next()
        first, second = task.answer
        off = str((int(first) + 1) % 10), str((int(second) + 1) % 10)
        sampler.observe(conversed(Reads([first] * 2 + [off[0]] * 2 + [second, off[1]] * 2), world, [task], 4))
        short, long = sampler.buffer.entries
        assert short.history == long.history[:1]
        assert (short.depths, long.depths) == ((0,), (0, 0))
        worth = 0.5 * (long.history[0] == first) + 0.5 * (long.history[2] == second)
        assert list(sampler.buffer.entries.values()) == [Entry(0.125, worth)] * 2  # inherited by both
        asked = sampler.next()
        assert asked.variant == f"improve {worth!r}"
        if not asked.said:
            assert asked.asked == f"{task.prompt}{short.history[0]}="
            continue
        assert asked.said == long.history[:2]
        sampler.observe(conversed(Reads([second] * 3 + [off[1]]), world, [asked], 4))
        scores = {item: entry.score for item, entry in sampler.buffer.entries.items()}
        child = next(item for item in scores if item.depths == (0, 1))
        assert scores == {short: 0.125, long: 0.046875, child: 0.046875}
        assert child.history[:2] == long.history[:2]
        assert child.history[2] in (second, off[1])
        assert sampler.metrics()["space/depth"] == 1.0
        assert sampler.metrics()["space/instances"] == 2.0
        return
    raise AssertionError("no seed cut after the second turn")


def test_a_new_first_answer_makes_a_new_rest():
    grown = Item(3, ("a", "r", "b"), (1, 2)).prefixes()[0].grown(["c", "s", "d", "t", "e", "u"])
    assert grown == Item(3, ("c", "s", "d", "t", "e"), (2, 0, 0))
    assert Item(3).grown(["c", "s", "d"]) == Item(3, ("c", "s", "d"), (0, 0))
    assert Item(3, ("a", "r", "b"), (1, 2)).grown(["a", "r", "c"]) == Item(3, ("a", "r", "c"), (1, 3))


def test_what_is_drawn_is_cut_after_any_of_its_turns():
    world = Dialled()
    sampler = space(world, 0)
    sampler.buffer.insert(Item(5, ("1", "1?", "2"), (0, 3)), Entry(0.25, 0.5))
    tasks = [sampler.next() for _ in range(1000)]
    assert np.mean([bool(task.said) for task in tasks]) == pytest.approx(0.5, abs=0.05)
    assert {(task.said, task.now) for task in tasks} == {((), ""), (("1", "1?"), "1?2=")}
    # the buffer lacks the prefix, which is known by the episode that it is of
    assert {task.variant for task in tasks} == {"improve 0.5"}
    assert set(sampler.handed) == {Item(5, ("1",), (0,)), Item(5, ("1", "1?", "2"), (0, 3))}


def test_turns_are_in_its_state():
    world = Dialled()
    one, other = space(world, 0), space(world, 0)
    policy = Reads(reads=lambda text: text[0])
    for _ in range(4):
        one.observe(conversed(policy, world, [one.next()], 2))
    other.load_state_dict(one.state_dict())
    assert other.buffer.entries == one.buffer.entries
    assert any(len(item.depths) == 2 for item in other.buffer.entries)
    assert [one.next() for _ in range(10)] == [other.next() for _ in range(10)]


def test_answers_of_records_without_a_talk_are_all_of_it():
    batch = dataclasses.replace(episodes([1.0, 0.0]), notes={"answer": ["a / b", "c"]})
    assert batch.talk(0) == ["a / b"]


# ---- starts and evaluations


def test_demonstrations_of_improving_a_turn():
    world, task = number("47")
    made = [form("improve")(world, task, np.random.default_rng(i)) for i in range(20)]
    assert {(asked.asked, asked.said, asked.now, tuple(answer)) for asked, answer in made} == {
        ("47=4=", (), "", ("4", "4?", "7")),
        ("", ("4", "4?"), "4?7=", ("7",)),
    }
    asked = next((asked, answer) for asked, answer in made if asked.said)
    batch = written(Reads(), *zip(asked, strict=True))
    assert Reads().decode(batch["action"][batch.sampled].tolist()) == "7"
    assert Reads().decode(batch["action"].tolist()) == "47=44?7=7"
    assert batch.notes["answer"] == ["4 / 7"]
    assert batch["sampled"].tolist() == [False] * 13 + [True] * 2


def test_sums_are_solved_at_once_where_one_message_is_all():
    world = Sums(failing=0.0)
    task = world.task(0, "train")
    assert world.solution(task) == f"I{task.answer}"
    for i in range(20):
        asked, answer = form("improve")(world, task, np.random.default_rng(i))
        if asked.said:
            assert asked.said[0].startswith("T[")
            assert answer == [task.answer]
            assert asked.now == f"{task.answer}{task.answer}="
        else:
            assert answer == f"I{task.answer}" or answer[0].startswith("T[")
    world.close()


def test_each_turn_is_improved_on_before_the_world_gets_it():
    """It says 0 first, and one more than the answer that it is shown: the digit d is right after d steps."""

    def reads(text):
        shown = text[:-1].rpartition("=")[2] if text.count("=") == 2 else text[2:-1] if text.endswith("=") else ""
        return str(int(shown) + 1) if shown and "?" not in shown else "0"

    world, policy = Dialled(), Reads(reads=reads)
    found = Improving(tasks=8, steps=(0, 1, 2, 4))(policy, world, Streams(0))
    digits = [world.task(i, "held_out").answer for i in range(200)]
    kept = list(dict.fromkeys(digits))[:8]
    for k in (0, 1, 2, 4):
        expected = np.mean([0.5 * (int(a) == k) + 0.5 * (int(b) == k) for a, b in kept])
        assert found[f"improving/accuracy@{k}"] == pytest.approx(expected)
    later = [asked for asked in policy.asked if asked.count("<") == 2]
    assert all(asked.count("|") == 1 and asked.count("=") <= 2 for asked in later)  # one answer of each turn


# ---- runs


SETTINGS = {"sampler.least_items": 2, "steps": 4}


def test_it_trains_on_histories_of_several_turns_and_goes_on_exactly(tmp_path):
    recipe = partial(text_recipe, "exit", world="toy_worlds:Dialled")
    trained(recipe(settings=SETTINGS), tmp_path / "whole")
    state = final_state(tmp_path / "whole")
    turns = {len(item[2]) for item in state["parts"]["sampler"]["items"]}
    assert turns == {1, 2}
    asked = [record["space/improve"] for record in metrics(tmp_path / "whole") if record["kind"] == "train"]
    assert sum(asked) > 0
    loop.train(recipe(settings=SETTINGS), tmp_path / "parted", until=2)
    api.resume(tmp_path / "parted")
    assert differing(final_state(tmp_path / "parted"), state) == []


def test_a_world_of_chance_stops_the_run_and_says_why(tmp_path):
    with pytest.raises(UsageError, match="a partial history can be restored only in a world that task and answers dec"):
        api.train(text_recipe("exit", world="toy_worlds:Moody", settings=SETTINGS | {"steps": 9}), out=tmp_path / "run")
