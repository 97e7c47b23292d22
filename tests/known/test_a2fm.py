"""A2FM: numbers of the card, and what forced and free answers may move."""

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bigram import LITTLE
from helpers import differing, episodes, metrics, text_recipe
from pilotage import api
from pilotage.credit.groups import Relative
from pilotage.credit.modes import BASELINES, FORMS, OVER, RATES, Taxed, charged
from pilotage.data.batch import Batch
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.policies.characters import Characters
from pilotage.rollouts.modes import Modes
from pilotage.run.assemble import Parts, assemble
from pilotage.run.recipe import Recipe
from pilotage.run.routing import Routing, router
from pilotage.worlds.modes import Sums

INSTANT, REASONING, TOOL = range(3)


def answers(*each: tuple[int, bool, float], formed: list[bool] | None = None, groups: list[int] | None = None) -> Batch:
    """(mode, forced, reward) of each episode of one group, two decisions each."""
    modes, forced, rewards = zip(*each, strict=True)
    batch = episodes(list(rewards), groups or [0] * len(each), [2] * len(each))
    return batch.with_episode(
        mode=torch.tensor(modes),
        instant=torch.tensor([mode == INSTANT for mode in modes]),
        forced=torch.tensor(forced),
        formed=torch.tensor(formed or [True] * len(each)),
        cost=torch.tensor([3.0, 10.0, 43.0])[list(modes)],
        task=torch.tensor(groups or [0] * len(each)),
    )


def group(instant: list[float], reasoning: list[float], tool: list[float], free: list[tuple[int, float]]) -> Batch:
    """A group of forced answers with these verdicts, and free ones."""
    told = [(mode, True, r) for mode, side in enumerate((instant, reasoning, tool)) for r in side]
    return answers(*told, *[(mode, False, r) for mode, r in free])


@pytest.mark.parametrize(("right", "factor"), [(0, 1.0), (1, 0.8889), (2, 0.5556), (3, 0.0)])
def test_the_factor_of_the_card(right, factor):
    batch = group([1.0] * right + [0.0] * (3 - right), [1.0] * 3, [1.0] * 3, [(REASONING, 1.0)] * 3)
    found = Taxed()(batch)
    assert found.returns[:3].tolist() == batch.returns[:3].tolist()
    assert found.returns[3:].tolist() == pytest.approx([factor] * 9, abs=5e-5)
    assert found["rate"].tolist() == pytest.approx([right / 3] * 12)
    assert found["verdict"].tolist() == batch["reward"].tolist()


def test_where_instant_never_works_rewards_are_plain():
    batch = group([0.0] * 3, [1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [(TOOL, 1.0), (REASONING, 0.0), (INSTANT, 1.0)])
    found = Taxed()(batch)
    assert torch.equal(found["reward"], batch["reward"])


def test_where_instant_always_works_it_alone_pays():
    batch = group([1.0] * 3, [1.0] * 3, [1.0] * 3, [(INSTANT, 1.0), (REASONING, 1.0), (TOOL, 1.0)])
    found = Relative()(Taxed()(batch))
    assert found.returns.tolist() == [1.0] * 3 + [0.0] * 6 + [1.0, 0.0, 0.0]
    advantage = found["advantage"][found.offsets[1:] - 1]
    assert float(advantage.sum()) == pytest.approx(0.0, abs=1e-5)
    assert [a > 0 for a in advantage.tolist()] == [True] * 3 + [False] * 6 + [True, False, False]


def test_one_right_instant_answer_among_twelve_is_the_only_positive_one():
    batch = group([0.0, 1.0, 0.0], [0.0] * 3, [0.0] * 3, [(INSTANT, 0.0), (TOOL, 0.0), (REASONING, 0.0)])
    found = Relative()(Taxed()(batch))
    assert found["rate"][0] == pytest.approx(1 / 3)
    assert (found["advantage"][found.offsets[1:] - 1] > 0).nonzero().tolist() == [[1]]


def test_a_violated_form_is_worth_nothing():
    batch = answers((INSTANT, True, 1.0), (REASONING, True, 1.0), (-1, False, 1.0), formed=[False, False, False])
    assert Taxed()(batch).returns.tolist() == [0.0] * 3
    kept = Taxed(form="additive", weights=[2.0, 1.0, 1.0])(batch).returns.tolist()
    assert kept == pytest.approx([0.75, 0.5, 0.5])  # p is 1


def test_a_right_costly_answer_is_worth_less_the_easier_the_problem():
    said = {mode: [] for mode in range(3)}
    for right in range(4):
        batch = group([1.0] * right + [0.0] * (3 - right), [1.0], [1.0], [(mode, 1.0) for mode in range(3)])
        for mode, worth in zip(range(3), Taxed()(batch).returns[-3:].tolist(), strict=True):
            said[mode].append(worth)
    assert said[INSTANT] == [1.0] * 4
    for mode in (REASONING, TOOL):
        assert all(a > b for a, b in itertools.pairwise(said[mode]))


def test_whose_accuracy_counts():
    batch = group([1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [(INSTANT, 0.0), (TOOL, 1.0)])
    rates = {"forced-instant": 1 / 2, "forced": 1 / 2, "instant": 1 / 3, "all": 1 / 2}
    for rate, value in rates.items():
        assert Taxed(rate=rate)(batch)["rate"].tolist() == pytest.approx([value] * 8)
    # two right of three others for the first, who was right; three of the others for who was wrong
    others = Taxed(rate="forced", leave_one_out=True)(batch)["rate"].tolist()
    assert others == pytest.approx([2 / 5, 3 / 5, 2 / 5, 2 / 5, 3 / 5, 3 / 5, 1 / 2, 1 / 2])


def test_invalid_answers_say_nothing():
    batch = group([1.0, 0.0, 0.0], [1.0], [1.0], [(TOOL, 1.0)])
    batch = batch.with_episode(valid=torch.tensor([True, True, False, True, True, True]))
    found = Taxed()(batch)
    assert found["rate"].tolist() == pytest.approx([1 / 2] * 6)
    none = batch.with_episode(valid=torch.tensor([False, False, False, True, True, True]))
    assert Taxed()(none).returns.tolist() == batch.returns.tolist()  # no evidence, no tax


def test_gate_floor_and_steepness():
    batch = group([1.0, 1.0, 0.0], [1.0], [1.0], [(TOOL, 1.0)])
    assert Taxed(gate=0.75)(batch).returns[3:].tolist() == [1.0] * 3
    assert Taxed(gate=0.6)(batch).returns[3:].tolist() == pytest.approx([5 / 9] * 3)
    assert Taxed(floor=0.5)(batch).returns[3:].tolist() == pytest.approx([1 - 0.5 * 4 / 9] * 3)
    assert Taxed(floor=1.0)(batch).returns.tolist() == batch.returns.tolist()
    assert Taxed(alpha=1.0)(batch).returns[3:].tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("over", ["task", "category"])
def test_a_running_average_is_remembered_and_saved(over):
    first = answers((INSTANT, True, 1.0), (TOOL, False, 1.0), (INSTANT, True, 0.0), groups=[4, 4, 9])
    second = answers((INSTANT, True, 0.0), (TOOL, False, 1.0), groups=[4, 4])
    other = answers((TOOL, True, 1.0), groups=[7])
    for batch in (first, second, other):
        batch.notes["category"] = [str(number) for number in batch["task"].tolist()]
    link = Taxed(over=over, memory=0.75)
    assert link(first)["rate"].tolist() == [1.0, 1.0, 0.0]
    again = Taxed(over=over, memory=0.75)
    again.load_state_dict(link.state_dict())
    assert link(second)["rate"].tolist() == [0.75, 0.75] == again(second)["rate"].tolist()
    assert link(other)["rate"].tolist() == [0.0]
    assert link.state_dict() == {"seen": {"4": 0.75, "9": 0.0}}


def test_per_mode_baselines_part_the_forced_answers():
    batch = group([1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [(INSTANT, 1.0), (TOOL, 0.0)])
    found = Relative()(Taxed(baseline="mode", alpha=1e-9)(batch))
    assert found["group"].tolist() == [1, 1, 2, 2, 3, 3, 0, 0]
    for members in ([0, 1], [2, 3], [4, 5], [6, 7]):
        assert float(found["advantage"][found.offsets[1:] - 1][members].sum()) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"rate": "instan"}, "is not one of"),
        ({"form": "sum"}, "is not one of"),
        ({"alpha": 0.0}, "alpha is above 0"),
        ({"floor": 1.5}, "floor and gate"),
        ({"memory": 1.0}, "memory"),
        ({"weights": [1.0, 1.0]}, "weights are three"),
        ({"leave_one_out": True, "over": "task"}, "leave_one_out"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, said):
    with pytest.raises(UsageError, match=said):
        Taxed(**wrong)


def test_a_tax_without_evidence_or_modes_is_refused():
    with pytest.raises(UsageError, match="no episode is forced"):
        Taxed()(answers((INSTANT, False, 1.0), (TOOL, False, 1.0)))
    for link in (Taxed(), charged):
        with pytest.raises(UsageError, match="rollout"):
            link(episodes([1.0, 0.0]))


def test_a_charge_is_by_cost():
    batch = answers((INSTANT, False, 1.0), (TOOL, False, 1.0), (REASONING, False, 0.0))
    assert charged(batch, weight=0.01).returns.tolist() == pytest.approx([0.97, 0.57, -0.1])
    assert torch.equal(charged(batch, weight=0.0)["reward"], batch["reward"])


MEMBER = st.tuples(st.integers(0, 2), st.integers(-1, 2), st.booleans(), st.booleans(), st.booleans(), st.booleans())


@given(st.lists(MEMBER, min_size=1, max_size=12), st.data())
@settings(max_examples=150, deadline=None)
def test_whatever_was_played_rewards_stay_in_range(members, data):
    groups, modes, forced, right, formed, valid = (list(column) for column in zip(*members, strict=True))
    batch = answers(
        *zip(modes, forced, map(float, right), strict=True), formed=list(formed), groups=sorted(groups)
    ).with_episode(valid=torch.tensor(valid))
    batch = replace(batch, notes={"category": [str(number) for number in sorted(groups)]})
    over = data.draw(st.sampled_from(OVER))
    link = Taxed(
        rate=data.draw(st.sampled_from(RATES if any(forced) else RATES[2:])),
        form=data.draw(st.sampled_from(FORMS)),
        over=over,
        floor=data.draw(st.floats(0, 1)),
        leave_one_out=over == "group" and data.draw(st.booleans()),
        baseline=data.draw(st.sampled_from(BASELINES)),
    )
    found = Relative()(link(batch))
    assert ((found["rate"] >= 0) & (found["rate"] <= 1)).all()
    assert ((found.returns >= 0) & (found.returns <= 1)).all()
    assert torch.isfinite(found["advantage"]).all()
    assert len(found) == len(batch)
    assert torch.equal(found.returns[~batch.valid], batch.returns[~batch.valid])
    if link.form == "product":
        assert (found.returns <= batch.returns).all()


# --- real rollouts


def recipe(**more: Any) -> Recipe:
    few = {"world.terms": [2], "world.time_limit": None, "prompts_per_step": 16, "samples_per_prompt": 12}
    small = {"start": None, "evaluation.tasks": 2, "evaluation.every": 0, "steps": 1}
    return api.recipe("a2fm", "modes:sums", "bigram:Bigram", settings={**few, **small, **more})


def played(parts: Parts) -> Batch:
    sizes = parts.recipe.prompts_per_step, parts.recipe.samples_per_prompt
    return parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, 0, *sizes)


@pytest.fixture
def parts() -> Parts:
    return assemble(recipe())


@pytest.mark.parametrize(("forced", "samples"), [(3, 12), (2, 12), (1, 7), (4, 12), (0, 5)])
def test_a_group_is_its_forced_answers_and_the_rest(forced, samples):
    made = assemble(recipe(**{"rollout.forced": forced, "samples_per_prompt": samples}))
    batch = played(made)
    assert len(batch) == 16 * samples
    assert batch["group"].tolist() == [i // samples for i in range(16 * samples)]
    each = batch["forced"].view(16, samples)
    assert each.sum(1).tolist() == [3 * forced] * 16
    assert each[:, : 3 * forced].all()
    modes = batch["mode"].view(16, samples)
    assert modes[:, : 3 * forced].tolist() == [[mode for mode in range(3) for _ in range(forced)]] * 16
    for chosen in modes[:, 3 * forced :].unique().tolist():
        assert chosen in (INSTANT, REASONING, TOOL)


def test_what_is_put_into_its_mouth_and_what_is_replied_is_not_trained(parts):
    batch, world, ids = played(parts), parts.world, parts.policy.tokenizer.ids
    tags = {ids[tag] for tag in "IRT"}
    assert isinstance(world, Sums)
    turns = 0
    for i in range(len(batch)):
        rows = slice(int(batch.offsets[i]), int(batch.offsets[i + 1]))
        tokens, sampled, turn = (batch[name][rows].tolist() for name in ("action", "sampled", "turn"))
        opens = tokens.index(Characters.separator)
        assert not any(sampled[: opens + 1])
        assert tokens[opens + 1] in tags
        assert sampled[opens + 1] is not bool(batch["forced"][i])
        replies = [t for t, token in enumerate(tokens) if token == Characters.begin and t]
        turns += len(replies)
        for start in replies:
            end = tokens.index(Characters.separator, start)
            assert not any(sampled[start : end + 1])
            assert all(sampled[end + 1 :]) or len(replies) > 1
        assert turn[-1] == len(replies) <= world.max_calls
        assert float(batch["cost"][i]) == sum(sampled) + 30 * len(replies)
        said = batch.notes["answer"][i].split(" / ")
        mode = list(world.modes)[int(batch["mode"][i])]
        assert world.mode_of(said[0]) == mode
        assert bool(batch["formed"][i]) == world.obeys(mode, said)
    assert turns > 16


def test_a_forced_message_is_no_longer_than_a_free_one():
    made = assemble(recipe())
    table = made.policy.table.detach()
    table.fill_(LITTLE)
    table[:, :, made.policy.tokenizer.ids["1"]] = 0.0  # a message that does not end
    batch = played(made)
    most = made.world.action.max_tokens
    forced = batch.total(batch.sampled.long())[batch["forced"]]
    assert forced.tolist() == [most - 1] * len(forced)
    assert {len(text) for text in batch.notes["answer"]} == {most}


def learnt(made: Parts, batch: Batch) -> tuple[torch.Tensor, dict[str, float]]:
    """How the table moves in an update on this batch, and what is said of it."""
    before = made.policy.table.detach().clone()
    told = made.learner.update(batch, 0, 0.5)
    return made.policy.table.detach() - before, told


@pytest.mark.parametrize("free", [False, True])
def test_forced_answers_move_no_tag_and_free_ones_do(parts, free):
    batch = parts.credited(played(parts), 0.0)
    chosen = batch.select(batch["forced"] != free)
    assert float(chosen["advantage"].abs().sum()) > 0
    moved, _ = learnt(parts, chosen)
    assert bool((moved[0, Characters.separator] != 0).any()) is free
    assert bool((moved != 0).any())


def test_free_answers_without_advantage_move_nothing(parts):
    batch = parts.credited(played(parts), 0.0)
    batch = batch.select(~batch["forced"])
    moved, _ = learnt(parts, batch.with_columns(advantage=torch.zeros(batch.decisions)))
    assert not moved.any()


@pytest.mark.parametrize("where", ["tags", "replies"])
def test_logits_where_nothing_was_sampled_do_not_matter(where):
    row = {"tags": (0, Characters.separator), "replies": (1, Characters.begin)}[where]
    sides = []
    for disturbed in (False, True):
        made = assemble(recipe())
        batch = made.credited(played(made), 0.0)
        if disturbed:
            made.policy.table.data[row] += torch.arange(made.policy.table.shape[-1]) * 0.37
        sides.append(learnt(made, batch.select(batch["forced"])))
    (one, said), (other, also_said) = sides
    assert one.any()
    assert torch.equal(one, other)
    assert differing(said, also_said) == []


def test_a_reward_is_worth_less_only_after_it_was_told(parts):
    batch = played(parts)
    credited = parts.credited(batch, 0.0)
    assert torch.equal(credited["verdict"], batch["reward"])
    instant = batch["instant"] & batch["formed"]
    assert torch.equal(credited.returns[instant], batch.returns[instant])
    assert (credited.returns <= batch.returns).all()
    rate = batch.returns.view(16, 12)[:, :3].mean(1).repeat_interleave(12)
    expected = batch.returns * batch["formed"] * torch.where(batch["instant"], 1.0, 1 - rate**2)
    assert credited.returns.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    told = parts.told()
    assert {"mode/2 terms/tool", "forced/instant", "cost/mean", "mode/entropy", "tax/rate"} <= set(told)
    right = float(batch.returns[~batch["forced"]].sum())
    assert told.get("cost/per_right", 0.0) * right == pytest.approx(
        float(batch["cost"][~batch["forced"]].sum()) if right else 0.0
    )
    assert sum(told[f"mode/{name}"] for name in parts.world.modes) == pytest.approx(1.0)


def test_without_forced_answers_it_is_grpo_with_a_reward_by_mode():
    made = assemble(recipe(**{"rollout.forced": 0, "credit.tax.rate": "instant", "steps": 2}))
    batch = played(made)
    assert not batch["forced"].any()
    credited = made.credited(batch, 0.0)
    assert (credited.returns < batch.returns).any()
    broken = assemble(recipe(**{"rollout.forced": 0}))
    batch = played(broken)
    with pytest.raises(UsageError, match="no episode is forced"):
        broken.credited(batch, 0.0)


def test_sizes_that_do_not_fit_are_refused_before_anything_is_made(tmp_path):
    with pytest.raises(UsageError, match="do not fit a group of 8"):
        api.train(recipe(**{"samples_per_prompt": 8}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="has no modes"):
        assemble(text_recipe("grpo").vary("you", {"rollout": recipe().rollout}))
    with pytest.raises(UsageError, match="0 or more"):
        Modes(forced=-1)


def test_routing_says_what_is_chosen_and_what_it_is_worth(parts):
    world = Sums(terms=[2, 3], time_limit=None)
    found = Routing(tasks=40, samples=2)(parts.policy, world, parts.recipe, 0, Streams(0))
    assert found["router/entropy"] == pytest.approx(1.0986, abs=1e-3)  # ln 3: all tags are as likely
    assert found["router/none"] == pytest.approx(0.0, abs=1e-6)
    for level in ("2 terms", "3 terms"):
        assert sum(found[f"mode/{level}/{name}"] for name in world.modes) == pytest.approx(1.0, abs=1e-6)
    assert found["cost/per_right"] > 0
    assert 0 <= found["forced/2 terms/instant"] <= 1
    parts.policy.table.data[0, Characters.separator] = (
        torch.nn.functional.one_hot(torch.tensor(parts.policy.tokenizer.ids["R"]), parts.policy.table.shape[-1]).float()
        * 2
    )
    tasks = [world.task(i, "held_out") for i in range(3)]
    chances = router(parts.policy, world, tasks)
    size = parts.policy.table.shape[-1]
    share = torch.tensor([1.0, torch.e**2, 1.0]) / (size - 1 + torch.e**2)
    assert chances.tolist() == [pytest.approx(share.tolist(), abs=1e-6)] * 3


def test_a_prompt_that_fills_the_context_is_counted_and_no_more(tmp_path):
    tight = {"world.time_limit": None, "steps": 1, "policy.context": 8, "prompts_per_step": 12}
    run = api.train(
        text_recipe("a2fm", world="modes:sums", settings=tight).vary("test", {"limits.invalid": 1.0}),
        out=tmp_path / "run",
    )
    record = next(record for record in metrics(run.folder) if record["kind"] == "train")
    assert 0 < record["train/invalid"] < 1
