"""Which pairs come out of a group, by hand; preference files; and rollouts that give pairs."""

import json

import numpy as np
import pytest
import torch

from helpers import episodes
from pilotage.credit.preference import Pairs, by_reward
from pilotage.data import preferences
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.run.measures import win_rate
from pilotage.worlds.preferences import PreferenceFile

STREAMS = Streams(0)


class Oracle:
    """A world in which the answer's letter says how likely it wins."""

    def __init__(self, wins):
        self.wins = np.array(wins)

    def task(self, index, split):
        return index

    def win_probability(self, task, answers):
        rows = ["abcdef".index(answer) for answer in answers]
        return self.wins[np.ix_(rows, rows)]


def group_of(*rewards, valid=None, groups=None, answers=None):
    batch = episodes(rewards, groups=groups or [0] * len(rewards), lengths=range(1, len(rewards) + 1), valid=valid)
    batch = batch.with_episode(task=torch.arange(len(batch)))
    return type(batch)(batch.offsets, batch.columns, batch.episode, {"answer": answers or [""] * len(batch)})


def made(batch, world=None, step=0, **settings):
    """Each pair as (index of the preferred answer, index of the other), by the episodes' lengths, and the counts."""
    link = Pairs(**settings)
    found = link(batch, world, STREAMS, step)
    assert found["pair"].dtype == torch.int64
    pairs = {}
    for i, length in enumerate(found.lengths.tolist()):
        first = int(found.offsets[i])
        pairs.setdefault(int(found["pair"][first]), {})[bool(found["preferred"][first])] = length - 1
    return [(sides[True], sides[False]) for sides in pairs.values()], link.metrics()


@pytest.mark.parametrize(("rule", "expected"), [("best-worst", (1, 2)), ("best-second", (1, 3)), ("random", (1, 0))])
def test_the_rules(rule, expected):
    found, counts = made(group_of(0.4, 0.9, 0.1, 0.6), rule=rule)
    assert found == [expected]
    assert counts == {"labels/made": 1.0, "labels/ties": 0.0, "labels/short": 0.0, "labels/flipped": 0.0}


@pytest.mark.parametrize("rule", ["best-worst", "best-second", "random"])
def test_an_invalid_answer_never_loses(rule):
    # the invalid ones hold a 0, which would be the worst of all
    found, _ = made(group_of(0.0, 0.4, 0.9, 0.0, valid=[False, True, True, False]), rule=rule)
    assert found == [(2, 1)]
    found, counts = made(group_of(0.0, 0.4, valid=[False, True]), rule=rule)
    assert (found, counts["labels/short"]) == ([], 1.0)


@pytest.mark.parametrize("rule", ["best-worst", "best-second", "random"])
def test_ties_are_dropped_and_counted(rule):
    batch = group_of(0.5, 0.5, 0.2, 0.7, groups=[0, 0, 1, 1])
    found, counts = made(batch, rule=rule)
    assert found == [(3, 2)]
    assert (counts["labels/ties"], counts["labels/made"]) == (1.0, 1.0)


def test_second_best_of_equals_is_a_tie_and_the_worst_is_not():
    batch = group_of(0.9, 0.9, 0.1)
    assert made(batch, rule="best-second")[1]["labels/ties"] == 1.0
    assert made(batch, rule="best-worst")[0] == [(0, 2)]


def test_ties_may_be_labelled_by_a_coin():
    batch = group_of(*[0.5] * 400, groups=[i // 2 for i in range(400)])
    found, counts = made(batch, rule="random", ties="random")
    assert len(found) == counts["labels/ties"] == 200
    first = sum(winner < loser for winner, loser in found)
    assert 70 < first < 130
    assert all(len({winner, loser}) == 2 for winner, loser in made(group_of(0.5, 0.5, 0.5), ties="random")[0])


def test_labels_are_turned_by_counter():
    batch = group_of(*[0.9, 0.1] * 200, groups=[i // 2 for i in range(400)])
    found, counts = made(batch, flip=0.2)
    wrong = {pair[0] // 2 for pair in found if pair[0] % 2}
    assert counts["labels/flipped"] == len(wrong)
    assert 20 < len(wrong) < 60
    assert made(batch, flip=0.2)[0] == found
    assert made(batch, flip=0.2, step=1)[0] != found  # a round later it is another answer
    # whatever else is in the batch
    some = batch.select(batch["group"] % 3 == 0)
    assert {pair[0] // 2 for pair in made(some, flip=0.2)[0] if pair[0] % 2} == {g for g in wrong if g % 3 == 0}
    assert all(pair[0] % 2 == 1 for pair in made(batch, flip=1.0)[0])


def test_a_pair_kept_over_steps_keeps_its_label():
    batch = group_of(*[0.9, 0.1] * 50, groups=[i // 2 for i in range(100)])
    batch = batch.with_episode(origin=torch.arange(100) // 2)
    assert made(batch, flip=0.3)[0] == made(batch, flip=0.3, step=7)[0]


def test_an_oracle_of_chances_is_asked():
    wins = [[0.5, 0.7, 0.9], [0.3, 0.5, 0.6], [0.1, 0.4, 0.5]]
    answers = ["b", "a"] * 300
    batch = group_of(*[0.0] * 600, groups=[i // 2 for i in range(600)], answers=answers)
    found, _ = made(batch, Oracle(wins), rule="random", by="world")
    share = np.mean([winner % 2 for winner, _ in found])  # how often a beat b
    assert 0.63 < share < 0.77
    found, _ = made(group_of(0.0, 0.0, 0.0, answers=["b", "c", "a"]), Oracle(wins), by="world")
    assert found == [(2, 1)]
    with pytest.raises(UsageError, match="no win_probability"):
        made(group_of(0.0, 1.0), object(), by="world")


def test_an_intransitive_group_has_no_best():
    rock = np.array([[0.5, 0.0, 1.0], [1.0, 0.5, 0.0], [0.0, 1.0, 0.5]])
    found, counts = made(group_of(0.0, 0.0, 0.0, answers=["a", "b", "c"]), Oracle(rock), by="world")
    assert (found, counts["labels/ties"]) == ([], 1.0)


def test_returns_as_an_oracle():
    assert by_reward([1.0, 0.0, 1.0]).tolist() == [[0.5, 1.0, 0.5], [0.0, 0.5, 0.0], [0.5, 1.0, 0.5]]


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"rule": "best"}, "rule 'best'"), ({"flip": 1.5}, "flip is a share"), ({"ties": "keep"}, "ties drop or random")],
)
def test_settings_that_are_none(settings, said):
    with pytest.raises(UsageError, match=said):
        Pairs(**settings)


def test_win_rates():
    assert win_rate([1.0, 0.0, 0.5, np.nan], [0.0, 1.0, 0.5, 1.0]) == 0.5
    assert win_rate([1.0, 1.0], [0.0, 1.0]) == 0.75
    assert np.isnan(win_rate([np.nan], [0.0]))
    with pytest.raises(ValueError, match="cannot be paired"):
        win_rate([1.0], [1.0, 0.0])


# ---- files


def line(**fields):
    return json.dumps({"prompt": "1+1=", "chosen": "2", "rejected": "3"} | fields)


def said(content):
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(
    "text",
    [
        line(),
        line(prompt=said("1+1="), chosen=said("2"), rejected=said("3")),
        json.dumps({"chosen": said("1+1=") + said("2"), "rejected": said("1+1=") + said("3")}),
        line(score=0.3) + "\n\n",
    ],
)
def test_a_pair_in_each_of_its_forms(text, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text(text)
    assert preferences.read(path) == [preferences.Preference("1+1=", "2", "3")]


def file_world(folder, count=40, **settings):
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(line(prompt=f"{i}=", chosen=str(i), rejected=str(i + 1)) for i in range(count)))
    return PreferenceFile(path=str(path), **settings)


def test_a_file_is_a_world(tmp_path):
    world = file_world(tmp_path)
    train = [world.task(i, "train") for i in range(len(world.lines["train"]))]
    held = [world.task(i, "held_out") for i in range(len(world.lines["held_out"]))]
    assert len({t.prompt for t in train}) + len({t.prompt for t in held}) == 40  # a pass has every line once
    assert not {t.prompt for t in train} & {t.prompt for t in held}
    after = [world.task(len(train) + i, "train") for i in range(len(train))]
    assert [t.prompt for t in after] != [t.prompt for t in train]
    assert {t.prompt for t in after} == {t.prompt for t in train}
    task = train[0]
    assert world.pair(task) == (task.answer, str(int(task.answer) + 1))
    assert [world.verify(task, answer) for answer in world.pair(task)] == [1.0, 0.0]
    assert set(world.action.alphabet) == set("0123456789=")


def test_a_file_that_changed_is_refused(tmp_path):
    found = preferences.digest(tmp_path / "pairs.jsonl") if file_world(tmp_path) else ""
    assert file_world(tmp_path, digest=found)
    (tmp_path / "pairs.jsonl").write_text(line())
    with pytest.raises(UsageError, match="is not the file this recipe was made with"):
        PreferenceFile(path=str(tmp_path / "pairs.jsonl"), digest=found)
    with pytest.raises(UsageError, match="none of 1 lines is in the split"):
        PreferenceFile(path=str(tmp_path / "pairs.jsonl"))
