"""ExIt by hand: the buffer, what improvement pays, the factor on advantages, chains of improvement."""

import dataclasses

import numpy as np
import pytest
import torch

from helpers import differing, episodes, final_state, metrics, text_recipe, trained
from pilotage import api
from pilotage.credit.improvement import Novelty, distance_factor, gain, relative_gain
from pilotage.data.batch import Stop
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.base import Messages, SpeakingPolicy
from pilotage.rollouts.demonstrations import Demonstrations
from pilotage.run.assemble import assemble
from pilotage.run.improving import Improving
from pilotage.run.recipe import difference
from pilotage.samplers.space import Buffer, Entry, Item, TaskSpace, chances
from pilotage.samplers.uniform import Uniform
from pilotage.worlds.text import again
from toy_worlds import Echo

# ---- scores and chances


@pytest.mark.parametrize(("kappa", "expected"), [(1.0, (0.378, 0.328, 0.294)), (10.0, (0.754, 0.185, 0.062))])
def test_chances(kappa, expected):
    found = chances((0.25, 0.109375, 0.0), kappa)
    assert found.tolist() == pytest.approx(expected, abs=1e-3)
    assert found.sum() == pytest.approx(1.0)


def test_draws_follow_the_chances():
    buffer = Buffer(3)
    for i, score in enumerate((0.25, 0.109375, 0.0)):
        buffer.insert(Item(i), Entry(score))
    draws = np.array([buffer.draw(10.0, u).task for u in (np.arange(10_000) + 0.5) / 10_000])
    assert np.bincount(draws) / 10_000 == pytest.approx(chances((0.25, 0.109375, 0.0), 10.0), abs=2e-4)


def play(rewards, answers, variants=None, groups=None, **more):
    made = episodes(rewards, groups or [0] * len(rewards), **more)
    notes = {"answer": answers, "variant": variants or [""] * len(rewards)}
    return dataclasses.replace(made, notes=notes)


def opened(**settings):
    sampler = TaskSpace(**{"least_items": 1, "share": 1.0, "diverge": 0.0, **settings})
    sampler.open(Echo(), Streams(0))
    return sampler


@pytest.mark.parametrize(("right", "score"), [(4, 0.25), (1, 0.109375), (0, 0.0), (8, 0.0)])
def test_the_score_is_the_variance_of_one_group(right, score):
    sampler = opened()
    sampler.next()
    sampler.observe(play([1] * right + [0] * (8 - right), list("abcdefgh")))
    assert sampler.buffer.scores.tolist() == [score]
    assert sampler.metrics()["space/score"] == score


def test_the_score_is_of_quality_not_of_what_improvement_pays():
    sampler = opened()
    sampler.next()
    sampler.observe(play([0.5, 0.0], ["a", "b"]))
    sampler.next()
    sampler.observe(play([0.25, 0.0], ["c", "d"], ["improve 0.5"] * 2))  # neither is an improvement
    assert sampler.buffer.scores.tolist() == [0.25**2 / 4] * 2


# ---- the buffer


def test_it_is_never_above_its_capacity_and_its_least_score_does_not_fall():
    generator, buffer, least = np.random.default_rng(0), Buffer(5), -1.0
    for i in range(200):
        buffer.insert(Item(i), Entry(float(generator.random())))
        assert len(buffer) <= 5
        if len(buffer) == 5:
            assert buffer.scores.min() >= least
            least = buffer.scores.min()
    assert least > 0.9


def test_what_is_below_the_least_stays_out_and_what_is_equal_comes_in():
    buffer = Buffer(2)
    assert buffer.insert(Item(0), Entry(0.1))
    assert buffer.insert(Item(1), Entry(0.1))
    assert not buffer.insert(Item(2), Entry(0.05))
    assert buffer.insert(Item(3), Entry(0.1))
    assert [item.task for item in buffer.entries] == [1, 3]  # the older of equals went
    assert not buffer.insert(Item(3), Entry(0.9))  # it is there already, and stays as it is
    assert buffer.scores.tolist() == [0.1, 0.1]


def test_there_is_a_prefix_for_every_turn():
    item = Item(4, ("a", "r", "b", "s", "c"), (1, 0, 2))
    assert item.prefixes() == [Item(4, ("a",), (1,)), Item(4, ("a", "r", "b"), (1, 0)), item]
    assert Item(4, ("a",), (3,)).prefixes() == [Item(4, ("a",), (3,))]
    assert Item(4).prefixes() == [Item(4)]


def test_nothing_is_drawn_before_there_are_enough():
    sampler = opened(least_items=3)
    plain = Uniform()
    plain.open(Echo(), Streams(0))
    for _ in range(3):
        assert sampler.next() == plain.next()
        sampler.observe(play([1, 0], ["1", "2"]))
    assert sampler.next().variant == "improve 1.0" or sampler.buffer.entries
    assert sampler.metrics()["space/improve"] == 0.0


def test_children_inherit_and_parents_are_scored_anew():
    sampler = opened()
    task = sampler.next()
    sampler.observe(play([1, 1, 0, 0], ["11", "11", "11", "11"]))
    assert list(sampler.buffer.entries) == [Item(task.key, ("11",), (0,))]
    improved = sampler.next()
    assert improved.key == task.key
    assert improved.variant in ("improve 1.0", "improve 0.0")  # what the answer that was drawn had been worth
    sampler.observe(play([1, 0, 0, 0], ["22"] * 4, [improved.variant] * 4))
    items = Item(task.key, ("11",), (0,)), Item(task.key, ("22",), (1,))
    worth = [sampler.buffer.entries[item].worth for item in items]
    known = zip(items, [Entry(0.1875, worth[0], True), Entry(0.1875, worth[1])], strict=True)
    assert list(sampler.buffer.entries.items()) == list(known)
    assert sampler.metrics()["space/depth"] == 1
    assert sampler.metrics()["space/improve"] == 1.0
    assert sampler.metrics()["space/instances"] == 2
    again_drawn = {sampler.next().asked for _ in range(20)}
    assert again_drawn == {f"{task.prompt}11=", f"{task.prompt}22="}  # one earlier answer, never two


def test_a_starting_point_is_drawn_uniformly_from_valid_answers():
    seen = set()
    for seed in range(40):
        sampler = TaskSpace(least_items=1)
        sampler.open(Echo(), Streams(seed))
        sampler.next()
        sampler.observe(play([1, 0, 0], ["a", "b", "c"], valid=[True, True, False]))
        (item,) = sampler.buffer.entries
        seen.add(item.history)
        assert sampler.buffer.scores.tolist() == [0.25]
    assert seen == {("a",), ("b",)}
    sampler.next()
    sampler.observe(play([1], ["a"], valid=[False]))
    assert len(sampler.buffer) == 1  # nothing is learnt of a group without a verdict


def test_ways_and_shares():
    sampler = opened(share=0.5, diverge=0.2)
    sampler.next()
    sampler.observe(play([1, 0], ["1", "2"]))
    kinds = [sampler.next().variant.partition(" ")[0] for _ in range(4000)]
    assert kinds.count("") / 4000 == pytest.approx(0.5, abs=0.03)
    assert kinds.count("diverge") / 2000 == pytest.approx(0.2, abs=0.03)
    asked = {sampler.next().asked for _ in range(40)} - {""}
    assert {text.count("=") for text in asked} == {2, 3}  # both ways of asking


def test_the_curriculum_gives_tasks_back_as_they_were():
    sampler = opened(expand=False)
    task = sampler.next()
    sampler.observe(play([1, 0, 0, 0], list("abcd")))
    assert list(sampler.buffer.entries) == [Item(task.key)]
    assert sampler.next() == task
    sampler.observe(play([1, 1, 1, 1], list("abcd")))
    assert sampler.buffer.scores.tolist() == [0.0]


def test_what_it_refuses():
    with pytest.raises(UsageError, match="least_items"):
        TaskSpace(capacity=4, least_items=5)
    with pytest.raises(UsageError, match="probabilities"):
        TaskSpace(share=1.5)

    class Mute:
        pass

    with pytest.raises(UsageError, match="no TextWorld"):
        again(Mute(), Task(), ["1"], "improve")


def test_it_goes_on_exactly_with_what_it_holds():
    one, other = opened(capacity=4), opened(capacity=4)
    for step in range(6):
        one.next()
        one.observe(play([1, 0, step % 2], [f"{step}", "7", "8"]))
    other.load_state_dict(one.state_dict())
    assert other.buffer.entries == one.buffer.entries
    assert list(other.buffer.entries) == list(one.buffer.entries)
    assert [one.next() for _ in range(10)] == [other.next() for _ in range(10)]


# ---- credit


def test_relative_gains():
    new, earlier = torch.tensor([0.75, 0.5, 1.0, 1.0, 0.2]), torch.tensor([0.5, 0.75, 0.0, 1.0, 1.0])
    assert relative_gain(new, earlier).tolist() == [0.5, 0.0, 1.0, 0.0, 0.0]


def test_what_improvement_pays():
    variants = ["", "improve 0.5", "improve 0.75", "diverge 0.5", "improve"]
    batch = play([0.75, 0.75, 0.5, 0.75, 0.25], list("abcde"), variants)
    found = gain(batch, Echo())
    assert found.returns.tolist() == [0.75, 0.5, 0.0, 0.75, 0.25]
    assert torch.equal(found["verdict"], batch["reward"])
    assert gain(batch, Echo(), relative=False) is batch
    assert gain.shapes_rewards


def test_factors_of_distances():
    assert distance_factor(torch.tensor([1.0, 2.0, 3.0])).tolist() == [0.5, 1.0, 1.5]
    assert distance_factor(torch.tensor([2.0, 2.0, 2.0])).tolist() == [1.0, 1.0, 1.0]
    assert distance_factor(torch.zeros(2)).tolist() == [1.0, 1.0]


class Told:
    """A policy whose features are a column of the record."""

    gives = frozenset({"features"})
    needs_past = False

    def split(self, minibatch):
        yield minibatch

    def quantities(self, minibatch, names):
        return {"features": torch.stack([minibatch["one"], minibatch["two"]], -1)}


def advantages(values, features, **more):
    made = episodes([0.0] * len(values), [0] * len(values), lengths=[2] * len(values),
                    one=[[x - 1, x + 1] for x, _ in features], two=[[y, y] for _, y in features], **more)  # fmt: skip
    return made.with_columns(advantage=made.spread(torch.tensor(values)))


def test_the_factor_keeps_signs_and_not_the_mean():
    # the centre is 0; distances are 1, 2, 3 and 3
    batch = advantages([1.0, -1.0, 1.0, -1.0], [(1, 0), (2, 0), (-3, 0), (0, 0)])
    distances = torch.tensor([1.0, 2.0, 3.0, 0.0])
    link = Novelty(most=None)
    found = link(batch, Told())["advantage"].view(4, 2)
    assert torch.equal(found[:, 0], found[:, 1])
    expected = torch.tensor([1.0, -1.0, 1.0, -1.0]) * distances / 3
    assert found[:, 0].tolist() == pytest.approx(expected.tolist())
    assert float(found.mean()) != pytest.approx(0.0, abs=0.01)
    assert link.metrics() == {"novelty/factor": pytest.approx(0.5), "novelty/most": pytest.approx(1.0)}


def test_the_factor_of_answers_that_are_nearly_the_same_is_held():
    batch = advantages([1.0, -1.0, 0.5], [(1, 0), (-1.0, 0), (0, 1.001)])
    assert float(Novelty(most=None)(batch, Told())["advantage"].abs().max()) > 2
    assert float(Novelty(most=2.0)(batch, Told())["advantage"].abs().max()) <= 2
    same = advantages([1.0, -1.0], [(1, 1), (1, 1)])
    assert torch.equal(Novelty()(same, Told())["advantage"], same["advantage"])
    with pytest.raises(UsageError, match="most is above 0"):
        Novelty(most=0.0)


def test_groups_without_a_signal_and_invalid_members_are_left_alone():
    quiet = advantages([0.0, 0.0], [(1, 0), (5, 0)])
    assert torch.equal(Novelty()(quiet, Told())["advantage"], quiet["advantage"])
    batch = advantages([1.0, -1.0, 0.0], [(1, 0), (-2, 0), (float("nan"), 0)], valid=[True, True, False])
    assert bool(torch.isfinite(Novelty()(batch, Told())["advantage"]).all())


# ---- chains of improvement


class Script(SpeakingPolicy):
    """Says one more than the last number it was shown, in digits, and remembers what it was asked."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def encode(self, text, *, prompt):
        return [ord(letter) for letter in text]

    def decode(self, tokens):
        return "".join(map(chr, tokens))

    @property
    def end_token(self):
        return 0

    def quantities(self, minibatch, names):
        raise NotImplementedError

    def speak(self, prompts, uniforms, *, temperature=1.0, repeats=1, limits=None):
        texts = [self.decode(prompt.tolist()) for prompt in prompts]
        self.asked += texts
        said = [f"{int(text.strip('=').rpartition('=')[2]) + 1:02d}" for text in texts]
        return Messages(
            [torch.tensor(self.encode(s, prompt=False)) for s in said], [torch.zeros(2)] * len(said), [True] * len(said)
        )


class Far(Echo):
    """Right is what lies 4 further on."""

    def verify(self, task, answer):
        return float(answer == f"{int(task.answer) + 4:02d}")


def test_each_step_is_shown_one_earlier_answer():
    policy, world = Script(), Far()
    found = Improving(tasks=3, steps=(0, 1, 3, 5))(policy, world, Streams(0))
    assert found["improving/accuracy@3"] == 1.0  # the fourth answer
    assert [found[f"improving/accuracy@{k}"] for k in (0, 1, 5)] == [0.0, 0.0, 0.0]
    prompts = policy.asked[:3]
    assert all(text.count("=") == 1 for text in prompts)
    for k in range(1, 6):
        for prompt, text in zip(prompts, policy.asked[3 * k : 3 * k + 3], strict=True):
            assert text == f"{prompt}{int(prompt[:2]) + k:02d}="  # the problem and the latest answer, no other
    assert found["improving/gain"] == found["improving/bettered"] == found["improving/spoilt"] == 0.0


def test_corrections_are_counted_from_the_first_answer_to_the_last():
    found = Improving(tasks=3, steps=(0, 3))(Script(), Far(), Streams(0))
    assert found["improving/gain"] == found["improving/bettered"] == 1.0
    with pytest.raises(UsageError, match="steps from 0"):
        Improving(steps=())


def test_demonstrations_of_improvement():
    parts = assemble(text_recipe("sft"))
    made = Demonstrations(variants={"improve": 0.5, "diverge": 0.5})
    batch = made(parts.policy, parts.world, parts.sampler.next, parts.streams, 0, 20, 1)
    parts.world.close()
    assert set(batch.notes["variant"]) == {"improve", "diverge"}
    for prompt, answer, variant in zip(*(batch.notes[n] for n in ("prompt", "answer", "variant")), strict=True):
        assert prompt == f"{answer}={answer}{'=' if variant == 'improve' else '=='}"


# ---- runs


def test_its_start_knows_the_words():
    made = api.recipe("exit", "reasoning:chain_sum")
    shares = made.start.rollout.defaults()["variants"]
    assert set(shares) == {"improve", "diverge"}
    assert made.start.digest() == api.recipe("grpo", "reasoning:chain_sum", alongside=("exit",)).start.digest()
    assert made.get("credit.gain.relative") is False
    graded = api.recipe("exit", "reasoning:chain_sum", settings={"world.partial_credit": True})
    assert graded.get("credit.gain.relative") is True
    assert graded.get("sampler.capacity") == 512
    assert api.recipe("exit", "toy_worlds:Echo", settings={"sampler.pool": 9}).get("sampler.pool") == 9


LADDER = {
    "curriculum": {"sampler.expand": False, "credit.novelty": None},
    "improve": {"sampler.diverge": 0.0, "credit.novelty": None},
    "diverge": {"credit.novelty": None},
    "full": {},
}


def test_without_its_parts_it_is_grpo(tmp_path):
    base = trained(text_recipe("grpo"), tmp_path / "grpo")
    off = text_recipe("exit").vary("test", {"sampler.share": 0.0, "credit.novelty": None})
    assert differing(trained(off, tmp_path / "off"), base) == []
    uniform = off.vary("test", {"sampler": text_recipe("grpo").sampler, "credit.gain": None, "evaluation.measures": {}})
    assert difference(uniform, text_recipe("grpo")) == []
    before = trained(
        text_recipe("exit", settings={"sampler.least_items": 500, "credit.novelty": None}), tmp_path / "few"
    )
    assert differing(before, base) == []  # base tasks only, below least_items
    states = {name: trained(text_recipe("exit").vary("test", rung), tmp_path / name) for name, rung in LADDER.items()}
    for name, state in states.items():
        assert differing(state, base) != [], name
    assert differing(states["diverge"], states["full"]) != []
    assert differing(states["curriculum"], states["improve"]) != []


def test_what_a_run_shows(tmp_path):
    run = api.train(text_recipe("exit", settings={"steps": 6}), out=tmp_path / "run")
    records = metrics(run.folder)
    trained_on = [record for record in records if record["kind"] == "train"]
    assert sum(record["space/improve"] + record["space/diverge"] for record in trained_on) > 0
    assert trained_on[-1]["space/items"] > 2
    assert all(f"improving/accuracy@{k}" in records[0] for k in (0, 1, 2, 4, 8, 16))
    state = final_state(run.folder)["parts"]["sampler"]
    assert len(state["items"]) == trained_on[-1]["space/items"]


def test_worlds_say_what_returns_are_worth():
    class Wide(Echo):
        reward_range = (-1.0, 3.0)

    assert Wide().quality(torch.tensor([1.0])).tolist() == [0.5]
    assert Echo().quality(0.25) == 0.25


def test_groups_that_are_never_whole_are_refused():
    sampler = opened()
    sampler.next()
    cut = play([1, 0], ["a", "b"]).with_episode(stop=torch.tensor([Stop.TERMINATED, Stop.WINDOW]))
    with pytest.raises(UsageError, match="goes on in the next"):
        sampler.observe(cut)
    assert len(sampler.buffer) == 0
