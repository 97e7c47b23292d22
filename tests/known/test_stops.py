"""Forced stops, numbers by hand: BRPO's advantages, MRT's bonus and regret, what is recorded and what is trained."""

from hashlib import sha256

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import SMALL_LM, episodes, text_recipe
from pilotage import api
from pilotage.credit.cuts import BudgetRelative, most_progress, own_past, prior_of, progress, tail
from pilotage.credit.groups import Relative
from pilotage.data.batch import Batch
from pilotage.data.budgets import by_budget
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.policies.base import rows_of, score
from pilotage.policies.packing import pack
from pilotage.rollouts.budgets import Budgets
from pilotage.rollouts.messages import Messages
from pilotage.rollouts.prefixes import Prefixes
from pilotage.rollouts.stops import Stops, ends
from pilotage.rollouts.traces import Traces, gains
from pilotage.run import loop
from pilotage.run.assemble import assemble
from pilotage.run.budgets import AccuracyByBudget, Regret, area, first_reaching
from pilotage.run.measures import start_policy
from pilotage.run.summary import Counters

ONE, OTHER = [0.0, 0.5, 1.0, 1.0], [0.0, 0.0, 0.0, 0.5]
SCRATCHPAD = {"world.marker": "=", "world.detours": 0.3, "world.time_limit": None, "policy.context": 96}


def scores(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def of_thinking(score_, prior="uniform", group=None, **settings_):
    budgets = torch.arange(1, score_.shape[1] + 1).expand_as(score_)
    group = torch.zeros(len(score_)) if group is None else torch.tensor(group)
    known = torch.ones(len(score_), dtype=torch.bool)
    return BudgetRelative(prior=prior, **settings_).of_thinking(score_, prior_of(budgets, prior), group, known)


def close(found, expected, atol=1e-4):
    torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype), atol=atol, rtol=0)


# ---- card anytime-reasoner


def test_the_worked_case_of_the_card():
    c, prior = scores(ONE, OTHER), torch.full((2, 4), 0.25, dtype=torch.float64)
    returns = tail(prior * c)
    close(returns[0], [0.625, 0.625, 0.5, 0.25])
    close(own_past(c, prior, 2.0)[0], [0, 0, 0.1667, 0.17857])
    close(returns.mean(0), [0.375, 0.375, 0.3125, 0.1875])
    close(of_thinking(c), [[0.25, 0.34375, 0.26042, 0.06920], [-0.25, -0.15625, -0.03125, 0.078125]])


def test_the_worked_case_with_a_prior_that_grows():
    close(prior_of(torch.tensor([10, 20, 30, 40]), "linear"), [0.1, 0.2, 0.3, 0.4])
    found = of_thinking(scores(ONE, OTHER), "linear")
    close(found, [[0.3, 0.425, 0.35833, 0.11071], [-0.3, -0.175, -0.025, 0.125]])


def test_all_mass_on_the_last_budget_and_the_group_alone_give_every_segment_the_same():
    c = scores(ONE, OTHER)
    close(tail(prior_of(torch.tensor([1, 2, 3, 4]), "base") * c), [[1.0] * 4, [0.5] * 4])
    close(of_thinking(c, "base", baseline="group"), [[0.25] * 4, [-0.25] * 4])


def test_the_other_baselines():
    c, prior = scores(ONE, OTHER), torch.full((2, 4), 0.25, dtype=torch.float64)
    returns = tail(prior * c)
    close(of_thinking(c, baseline="none"), returns.tolist())
    close(of_thinking(c, baseline="own"), (returns - own_past(c, prior, 2.0)).tolist())
    close(of_thinking(c, baseline="group"), (returns - returns.mean(0)).tolist())
    alone = of_thinking(c, group=[0, 1], baseline="group")
    close(alone, returns.tolist())  # V2 is 0 in groups of one


matrices = st.integers(1, 5).flatmap(
    lambda size: st.lists(st.lists(st.floats(0, 1), min_size=size, max_size=size), min_size=1, max_size=6)
)


@given(rows=matrices, prior=st.sampled_from(["uniform", "linear", "base"]))
@settings(max_examples=50, deadline=None)
def test_the_first_segment_sums_to_zero_and_one_budget_is_the_group_mean(rows, prior):
    c = scores(*rows)
    found = of_thinking(c, prior)
    if len(rows) > 1:
        assert float(found[:, 0].sum()) == pytest.approx(0, abs=1e-9)
    if c.shape[1] == 1 and len(rows) > 1:
        close(found, (c - c.mean(0)).tolist(), 1e-12)
    assert bool(torch.isfinite(found).all())


@given(rows=matrices, prior=st.sampled_from(["uniform", "linear", "base"]), at=st.integers(0, 4), value=st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_the_own_past_of_a_segment_knows_nothing_measured_after_it_began(rows, prior, at, value):
    c = scores(*rows)
    weights = prior_of(torch.arange(1, c.shape[1] + 1).expand_as(c), prior)
    at = min(at, c.shape[1] - 1)
    changed = c.clone()
    changed[:, at:] = value
    assert torch.equal(own_past(changed, weights, 2.0)[:, : at + 1], own_past(c, weights, 2.0)[:, : at + 1])


@pytest.mark.parametrize("prior", ["uniform", "linear", "base"])
def test_a_flat_thought_is_left_with_what_the_group_says(prior):
    c = scores([0.5] * 4, OTHER, ONE)
    weights = prior_of(torch.tensor([1, 2, 3, 4]).expand_as(c), prior)
    returns = tail(weights * c)
    close(own_past(c, weights, 2.0)[0, 1:], returns[0, 1:].tolist(), 1e-12)
    share = (4 - torch.arange(4.0, dtype=torch.float64)) / 4
    close(of_thinking(c, prior)[0], (share * (returns - returns.mean(0))[0]).tolist(), 1e-12)


def cut_record(rewards, stands, places, thoughts, groups, segments, **more):
    batch = episodes(rewards, groups=groups, lengths=[len(s) for s in segments], **more)
    count = len(stands[0])
    return batch.with_columns(
        segment=torch.tensor([s for row in segments for s in row]),
        sampled=torch.ones(batch.decisions, dtype=torch.bool),
    ).with_episode(
        thought=torch.tensor(thoughts),
        place=torch.tensor(places),
        budgets=torch.arange(1, count + 1).expand(len(thoughts), -1),
        stands_for=torch.tensor(stands, dtype=torch.float32),
    )


def test_answers_are_held_against_the_others_at_their_place():
    # one thought, ended by itself after the first budget: two answers before, four after that stand for two budgets
    stands = [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]
    segments = [[-1]] * 2 + [[0, 1, -1]] + [[-1]] * 3
    batch = cut_record([1, 0, 1, 0, 0, 0], stands, [0, 0, 1, 1, 1, 1], [0] * 6, [0] * 6, segments)
    found = BudgetRelative(baseline="none")(batch)["advantage"]
    # c = (.5, .5, 0): R = (1/3, 1/6, 0); the four at the end share the mean 1/4
    close(found, [0.5, -0.5, 1 / 3, 1 / 6, 0.75, -0.25, -0.25, -0.25])
    assert float(found[[0, 1]].sum()) == float(found[4:].sum()) == 0.0
    last = BudgetRelative(baseline="none", answers="last")(batch)["advantage"]
    close(last, [0, 0, 1 / 3, 1 / 6, 0, 0, -0.25, -0.25])


def test_with_one_answer_each_is_held_against_the_group_at_its_budget():
    stands = [[1, 0], [0, 1], [1, 0], [0, 1]]
    segments = [[-1], [0, 1, -1]] * 2
    batch = cut_record([1, 1, 0, 1], stands, [0, 1, 2, 3], [0, 0, 1, 1], [0] * 4, segments)
    answers = BudgetRelative()(batch)["advantage"][torch.tensor([0, 3, 4, 7])]
    close(answers, [0.5, 0.0, -0.5, 0.0])


def test_an_early_end_stands_for_all_budgets_from_there_on():
    batch = cut_record([1, 0.5], [[1, 0, 0], [0, 1, 1]], [0, 1], [0, 0], [0, 0], [[-1], [0, 1]])
    close(by_budget(batch)[0], [[1, 0.5, 0.5]])


def test_a_thought_without_a_valid_verdict_at_a_budget_enters_nothing():
    stands, segments = [[1, 0], [0, 1]] * 3, [[-1], [0, 1, -1]] * 3
    valid = [True, False, True, True, True, True]
    whole = cut_record([0, 1, 1, 1, 0, 0], stands, range(6), [0, 0, 1, 1, 2, 2], [0] * 6, segments, valid=valid)
    found = BudgetRelative()(whole)["advantage"]
    assert not bool(found[1:4].any())  # the thinking and the invalid answer of the first thought
    rest = BudgetRelative()(whole.select(torch.arange(2, 6)))["advantage"]
    assert torch.equal(found[4:], rest)


def test_one_budget_and_one_answer_is_dr_grpo_to_the_bit():
    rewards = [0.3, 0.7, 1.0, 0.1]
    batch = cut_record(rewards, [[1]] * 4, range(4), range(4), [0, 0, 1, 1], [[0, 0, -1]] * 4)
    assert torch.equal(BudgetRelative()(batch)["advantage"], Relative(std="none")(batch)["advantage"])


# ---- what is played


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A policy that has learnt the scratchpad a little, so that thoughts end now and then, and its world."""
    recipe = api.recipe(
        "anytime-reasoner",
        "reasoning:chain_sum",
        settings={**SMALL_LM, **SCRATCHPAD, "start.steps": 60, "start.prompts_per_step": 64, "evaluation.tasks": 4},
    )
    from pilotage.run import starts
    from pilotage.run.loop import train_or_resume

    starts.ensure(recipe.start, train_or_resume)
    parts = assemble(recipe)
    yield start_policy(recipe, parts.world), parts.world, recipe
    parts.world.close()


def played(started, rollout, samples=4, tasks=6, step=0) -> Batch:
    policy, world, _ = started
    rollout.check(policy, world)
    return rollout.converse(
        policy, world, [world.task(i, "train") for i in range(tasks)], samples, Streams(0), "t", step
    )


def test_the_record_of_thoughts_under_budgets(started):
    policy, _world, _ = started
    plan = Budgets(budgets=(4, 9, 16), answers=2, answer_tokens=5)
    batch = played(started, plan)
    marker = policy.encode("=", prompt=False)[0]
    trained = {}
    assert torch.equal(batch["group"], batch["thought"] // 4)
    for e in range(len(batch)):
        rows = slice(int(batch.offsets[e]), int(batch.offsets[e + 1]))
        tokens, sampled, segment = (batch[n][rows] for n in ("action", "sampled", "segment"))
        prompt = int((tokens == 1).nonzero()[0]) + 1
        said, spoke, parts = tokens[prompt:], sampled[prompt:], segment[prompt:]
        thought = int(batch["thought"][e])
        assert not bool(sampled[:prompt].any())
        if bool((parts >= 0).any()):  # the one episode in which the thinking is trained
            assert thought not in trained
            thinking = int((parts >= 0).sum())
            trained[thought] = said[:thinking]
            assert bool(spoke[:thinking].all())
            assert parts[:thinking].tolist() == [0 if t < 4 else 1 if t < 9 else 2 for t in range(thinking)]
            assert thinking <= 16
        answer = spoke & (parts < 0)
        assert int(answer.sum()) <= 5
        if bool(answer.any()):  # an answer follows a marker, sampled or injected
            assert int(said[int(answer.nonzero()[0]) - 1]) == marker
        if policy.decode(said).count("=") != 1:
            assert float(batch.returns[e]) == 0.0
    assert sorted(trained) == list(range(24))
    for e in range(len(batch)):  # what is restored is what was thought
        rows = slice(int(batch.offsets[e]), int(batch.offsets[e + 1]))
        said = batch["action"][rows][int((batch["action"][rows] == 1).nonzero()[0]) + 1 :]
        before = trained[int(batch["thought"][e])]
        size = min(4, len(before))
        assert torch.equal(said[:size], before[:size])
    sums = torch.zeros(24, 3).index_add(0, batch["thought"], batch["stands_for"])
    assert set(sums.unique().tolist()) <= {1.0, 2.0}  # two answers, or one early end for all budgets from there on
    assert plan.metrics()["budgets/ended"] > 0
    injected = batch["action"][(~batch.sampled) & (batch["action"] == marker)]
    assert len(injected) > 0


@pytest.mark.parametrize(
    "rollout", [Budgets(budgets=(4, 9, 16), answers=2), Prefixes(answered=True), Traces(stops=2), Traces(cut=True)]
)
def test_inserted_tokens_and_prefixes_have_no_gradient(started, rollout):
    policy, *_ = started
    batch = played(started, rollout, tasks=2)
    weight = torch.linspace(-1, 1, batch.decisions)
    assert not bool(batch.sampled.all())
    gradients = []
    for outside in (0.0, 1e6):  # whatever stands at tokens that were restored or injected, nothing comes of it
        rows = rows_of(batch.with_columns(advantage=torch.where(batch.sampled, weight, outside)), needs_past=True)
        logp = policy.quantities(rows, frozenset({"logp"}))["logp"]
        assert len(logp) == int(batch.sampled.sum())
        with torch.enable_grad():
            head = policy.model.get_output_embeddings().weight.requires_grad_(True)
            logp = policy.quantities(rows, frozenset({"logp"}))["logp"]
            gradients.append(torch.autograd.grad((logp * rows["advantage"]).sum(), head)[0])
    assert torch.equal(*gradients)
    assert bool(gradients[0].any())


def test_apart_and_in_a_tree_have_the_same_log_probs(started):
    policy, *_ = started
    batch = played(started, Budgets(budgets=(4, 9, 16), answers=2))
    together = score(batch, policy, "logp")
    apart = torch.cat([score(batch.select(torch.tensor([e])), policy, "logp") for e in range(len(batch))])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)
    torch.testing.assert_close(together[batch.sampled], batch["behaviour_logp"][batch.sampled], atol=1e-4, rtol=0)
    # and the tree is one: every token that a thought's episodes share is read once
    packed = pack(batch, batch.sampled.nonzero().squeeze(-1) - 1)
    distinct = set()
    for e in range(len(batch)):
        rows = slice(int(batch.offsets[e]), int(batch.offsets[e + 1]))
        tokens, sampled = batch["action"][rows].tolist(), batch["sampled"][rows].nonzero()
        last = int(sampled[-1]) if len(sampled) else 0
        distinct |= {tuple(tokens[: t + 1]) for t in range(last)}
    assert len(packed.tokens) == len(distinct)


def test_one_budget_of_everything_plays_what_messages_play(started):
    _policy, world, _ = started
    plan = Budgets(budgets=(world.action.max_tokens,), answers=1, strict=False)
    ours, theirs = played(started, plan), played(started, Messages())
    for name in theirs.columns:
        assert torch.equal(ours[name], theirs[name]), name
    for name in theirs.episode:
        assert torch.equal(ours[name], theirs[name]), name
    assert ours.notes == theirs.notes


def test_empty_prefixes_play_what_messages_play(started):
    ours, theirs = played(started, Prefixes(begun=False)), played(started, Messages())
    for name in (*theirs.columns, *theirs.episode):
        assert torch.equal(ours[name], theirs[name]), name
    assert ours.notes == theirs.notes


def test_drawn_budgets_rise_to_the_last_and_differ_by_step(started):
    seen = set()
    for step in range(4):
        batch = played(started, Budgets(budgets=(4, 9, 16), answers=1, drawn=True), tasks=1, step=step)
        budgets = batch["budgets"][0].tolist()
        assert budgets == sorted(set(budgets))
        assert budgets[-1] == 16
        seen.add(tuple(budgets))
    assert len(seen) > 1


def test_a_prefix_ends_with_an_episode_and_is_shared(started):
    policy, _world, _ = started
    batch = played(started, Prefixes(stops=3, answered=True), tasks=12)
    lengths = set()
    for _, members in batch.groups():
        heard = []
        for e in range(len(members)):
            rows = slice(int(members.offsets[e]), int(members.offsets[e + 1]))
            tokens, sampled = members["action"][rows], members["sampled"][rows]
            first = int(sampled.nonzero()[0]) if bool(sampled.any()) else len(sampled)
            heard.append(policy.decode(tokens[:first]))
        going = {text for text, stopped in zip(heard, members["stopped"].tolist(), strict=True) if not stopped}
        cut = {text for text, stopped in zip(heard, members["stopped"].tolist(), strict=True) if stopped}
        assert len(going) == 1
        prefix = going.pop().partition("=")[2]
        assert not prefix or prefix.endswith((";", "="))
        assert len(cut) == 1
        lengths.add(len(prefix))
        rewards = members.returns[members["stopped"]]
        assert float(members["stop_reward"][0]) == pytest.approx(float(rewards.mean()))
    assert len(lengths) > 1


def test_no_room_for_an_answer_is_no_crash(started):
    _policy, world, _recipe = started
    bound = world.action.max_tokens
    batch = played(started, Budgets(budgets=tuple(range(1, bound + 1)), answers=1), samples=2, tasks=2)
    assert bool(torch.isfinite(BudgetRelative()(batch)["advantage"]).all())


def test_a_context_that_ends_inside_a_thought_is_judged_as_it_stands():
    parts = assemble(text_recipe("anytime-reasoner", settings={"policy.context": 7}))
    tasks = [parts.world.task(i, "train") for i in range(3)]
    batch = parts.rollout.converse(parts.policy, parts.world, tasks, 3, Streams(0), "t", 0)
    assert int(batch.lengths.max()) <= 7
    assert bool(torch.isfinite(BudgetRelative()(batch)["advantage"]).all())
    parts.world.close()


@pytest.mark.parametrize("slug", ["anytime-reasoner", "mrt", "mrt-star"])
@pytest.mark.parametrize("context", [4, 5, 6])
@pytest.mark.parametrize("samples", [1, 3])
def test_prompts_that_fill_the_context_are_told_and_harm_nothing(slug, context, samples):
    sizes = {"policy.context": context, "samples_per_prompt": samples, "limits.invalid": 1.0}
    parts = assemble(text_recipe(slug, world="toy_worlds:Flat", settings=sizes))  # where all rewards are equal besides
    found = loop.one_step(parts, 0, Counters())
    parts.world.close()
    assert found["train/invalid"] == (1.0 if context < 6 else 0.0)
    assert not [name for name, value in found.items() if value != value]


def test_ends_are_found_by_token(started):
    policy, *_ = started
    tokens = torch.tensor(policy.encode("12;3;=4;", prompt=False))
    assert ends(policy, tokens, ";") == [3, 5, 8]
    assert ends(policy, tokens, "3;=") == [6]
    assert ends(policy, tokens, "9") == []


def test_what_does_not_fit_is_refused(started):
    policy, world, _ = started
    with pytest.raises(UsageError, match="beyond this world's"):
        Budgets(budgets=(5, 10_000)).check(policy, world)
    with pytest.raises(UsageError, match="budgets are tokens that rise"):
        Budgets(budgets=(5, 5))
    with pytest.raises(UsageError, match="not in the alphabet"):
        Stops(marker="!").check(policy, world)
    with pytest.raises(UsageError, match="prior 'flat' is not one of"):
        BudgetRelative(prior="flat")
    with pytest.raises(UsageError, match="needs the rollout"):
        BudgetRelative()(episodes([1.0]))
    with pytest.raises(UsageError, match="go together"):
        progress(played(started, Prefixes()), baseline="joint")
    with pytest.raises(UsageError, match="needs the rollout"):
        progress(episodes([1.0]))


# ---- card mrt


def test_progress_telescopes():
    found = gains([0.1, 0.4, 0.4, 0.8, 0.7])
    assert found == pytest.approx([0.3, 0.0, 0.4, -0.1])
    assert sum(found) == pytest.approx(0.7 - 0.1)


def test_an_unknown_chance_is_no_gain_and_no_gap():
    nan = float("nan")
    assert gains([0.1, nan, 0.8, nan]) == pytest.approx([0.0, 0.7, 0.0])
    assert gains([nan, nan, 0.4, 0.6]) == pytest.approx([0.0, 0.0, 0.2])
    assert gains([nan]) == []


def stopped_batch(rewards, stop, groups=None):
    batch = episodes(rewards, groups=groups or [0] * len(rewards))
    return Relative()(batch).with_episode(
        stop_reward=torch.full((len(rewards),), float(stop)), stopped=torch.zeros(len(rewards), dtype=torch.bool)
    )


def test_the_mean_bonus_is_progress():
    batch = stopped_batch([1, 1, 0, 1], torch.tensor([0.0, 1, 0, 0]).mean())
    found = progress(batch, baseline="term")["advantage"]
    close(found, [0.75, 0.75, -0.25, 0.75])
    assert float(found.mean()) == 0.5
    both = progress(batch, alpha=2.0)["advantage"]
    close(both, (batch["advantage"] + 2 * found).tolist(), 1e-6)


def test_without_weight_it_is_grpo_to_the_bit():
    batch = stopped_batch([1, 0, 0.3, 1], 0.4)
    assert torch.equal(progress(batch, alpha=0.0)["advantage"], batch["advantage"])


def test_an_empty_prefix_shifts_by_a_constant_of_the_prompt():
    batch = stopped_batch([1, 0, 0, 1], 0.3)
    shift = progress(batch, baseline="term")["advantage"] - Relative(std="none")(batch)["advantage"]
    close(shift, [float(shift[0])] * 4, 1e-6)


def test_what_is_solved_at_the_prefix_earns_nothing_and_the_unsolvable_nothing_either():
    assert float(progress(stopped_batch([1, 0, 1, 1], 1.0), baseline="term")["advantage"].max()) <= 0
    assert not bool(progress(stopped_batch([0, 0, 0, 0], 0.0))["advantage"].any())


def test_no_valid_stop_is_no_bonus_and_no_nan():
    batch = stopped_batch([1, 0, 0, 1], float("nan"))
    assert torch.equal(progress(batch)["advantage"], batch["advantage"])


def test_the_joint_form_normalises_over_both(started):
    batch = played(started, Prefixes(answered=True), samples=4, tasks=8)
    related = Relative()(batch)
    assert torch.equal(progress(related, baseline="joint")["advantage"], related["advantage"])
    assert int(batch["stopped"].sum()) == 32
    assert batch["group"][batch["stopped"]].tolist() == [g for g in range(8) for _ in range(4)]


def messages_of(policy, batch):
    """What each episode says after its prompt, a character for each token, and their gains."""
    found = []
    for e in range(len(batch)):
        rows = slice(int(batch.offsets[e]), int(batch.offsets[e + 1]))
        start = int((batch["action"][rows] == 1).nonzero()[0]) + 1
        text = "".join(policy.decode(token.reshape(1)) or "\0" for token in batch["action"][rows][start:])
        found.append((text, batch["gain"][rows][start:]))
    return found


def test_whole_messages_are_those_of_their_own_and_gains_add_up(started):
    policy, *_ = started
    plan = Traces(stops=3, ends=4)
    ours, theirs = played(started, plan), played(started, Messages())
    for name in (*theirs.columns, *theirs.episode):
        assert torch.equal(ours[name], theirs[name]), name
    assert ours.notes == theirs.notes
    assert bool(ours["progress"].any())
    for _, members in ours.groups():
        assert len(members["stop_reward"].unique()) == 1
    seen = set()
    for (text, gain), made in zip(messages_of(policy, ours), ours["progress"].tolist(), strict=True):
        thinking, marker, _ = text.partition("=")
        if marker:  # the answer has no gain, and an episode has one number; these add up
            assert not bool(gain[len(thinking) + 1 :].any())
            parts = [len(part) + 1 for part in thinking.split(";")]
            if len(parts) <= 4:
                each = gain[: len(thinking) + 1].split(parts)
                assert all(len(part.unique()) == 1 for part in each)
                assert sum(float(part[0]) for part in each) == pytest.approx(made, abs=1e-5)
                seen.add(len(parts))
    assert len(seen) > 1
    told = plan.metrics()
    assert told["stops/places"] <= 4
    assert told["stops/progress"] == pytest.approx(float(ours["progress"].mean()), abs=1e-6)
    assert not bool(played(started, Traces(ends=0))["gain"].any())


def test_each_episode_is_paid_for_its_own_progress():
    batch = stopped_batch([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0]], 0.1)
    batch = batch.with_columns(gain=torch.tensor([0.3, 0.4, -0.1, 0.0, 0.0, 0.2]))
    close(progress(batch, baseline="term")["advantage"], [0.3, 0.4, -0.1, 0.0, 0.0, 0.2], 1e-6)
    both = progress(batch, alpha=2.0)["advantage"]
    close(both - batch["advantage"], [0.6, 0.8, -0.2, 0.0, 0.0, 0.4], 1e-6)
    assert torch.equal(progress(batch, alpha=0.0)["advantage"], batch["advantage"])


class Fickle(Traces):
    """A verdict that hangs on every letter, so that half of all texts are right."""

    def judge(self, policy, world, scripts, closed):
        super().judge(policy, world, scripts, closed)
        for script, asked in scripts:
            script.spans[-1].reward = float(sha256(policy.decode(script.context[asked:]).encode()).digest()[0] % 2)


def test_messages_are_cut_where_the_chance_is_highest(started):
    policy, *_ = started
    plan = Fickle(cut=True)
    ours, theirs = played(started, plan), played(started, Fickle())
    assert torch.equal(ours.valid, theirs.valid)
    assert bool((ours.returns >= theirs.returns).all())
    pairs = enumerate(zip(messages_of(policy, ours), messages_of(policy, theirs), strict=True))
    changed = {e: (text, whole) for e, ((text, _), (whole, _)) in pairs if text != whole}
    assert plan.metrics()["stops/cut"] == pytest.approx(len(changed) / len(ours))
    assert changed
    for e, (text, whole) in changed.items():
        thinking, marker, _ = text.partition("=")
        assert marker
        assert "=" not in thinking
        assert whole.startswith(thinking)  # the beginning of what was thought, up to the end of an episode
        assert thinking.endswith(";")
        assert float(theirs.returns[e]) > 0  # a wrong message stays what it is
        assert len(thinking) < len(whole.partition("=")[0])
        assert float(ours["progress"][e]) >= float(theirs["progress"][e])
    # all of a cut message is trained, and its log-probs are the policy's: the marker's too, which it did not say
    prompts = torch.cat([torch.arange(int(n)) <= int((ours["action"][ours.owner == e] == 1).nonzero()[0])
                         for e, n in enumerate(ours.lengths)])  # fmt: skip
    assert torch.equal(ours.sampled, ~prompts)
    torch.testing.assert_close(
        score(ours, policy, "logp")[ours.sampled], ours["behaviour_logp"][ours.sampled], atol=1e-4, rtol=0
    )


def test_the_right_of_most_progress_keep_their_labels():
    batch = episodes([1, 1, 0, 1, 0, 1, 0.5, 1], groups=[0, 0, 0, 0, 1, 1, 2, 2], valid=[True] * 7 + [False])
    nan = float("nan")
    made = batch.with_episode(progress=torch.tensor([0.25, 0.5, 0.75, 0.5, 0.1, -0.5, nan, 0.9]))
    made = made.with_columns(label=batch.returns)
    # a wrong one of more progress takes nothing from the right; ties stay; where nothing is known all stay
    close(most_progress(made)["label"], [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.5, 1.0])
    unknown = made.with_episode(progress=torch.full((8,), nan))
    assert torch.equal(most_progress(unknown)["label"], made["label"])
    with pytest.raises(UsageError, match="needs the rollout"):
        most_progress(batch)


def test_the_regret_of_the_card():
    points = [(0, 0.0), (1000, 0.5), (2000, 0.5), (3000, 1.0)]
    assert area(points, 4000) == pytest.approx(0.625)
    assert 1 - area(points, 4000) == pytest.approx(0.375)
    assert area(points, 2000) == pytest.approx(0.375)  # (250 + 500) / 2000: cut at the budget
    assert area([(4.0, 0.5)], 4) == pytest.approx(0.25)
    assert first_reaching(points, 0.5, 4000) == 1000
    assert first_reaching(points, 0.75, 4000) == pytest.approx(2500)
    assert first_reaching(points, 0.75, 2400) is None
    assert area([(3.0, float("nan"))], 4) == 0.0


@given(
    steps=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    data=st.data(),
)
@settings(max_examples=50, deadline=None)
def test_the_area_is_monotone_in_every_chance(steps, data):
    tokens = torch.tensor(steps).cumsum(0).tolist()
    chances = data.draw(st.lists(st.floats(0, 1), min_size=len(tokens), max_size=len(tokens)))
    at = data.draw(st.integers(0, len(tokens) - 1))
    more = [min(1.0, c + 0.1) if i == at else c for i, c in enumerate(chances)]
    budget = data.draw(st.integers(1, 60))
    low, high = (area(list(zip(tokens, c, strict=True)), budget) for c in (chances, more))
    assert low <= high + 1e-12
    assert -1e-12 <= low <= 1 + 1e-12


def test_measures_of_a_start(started):
    policy, world, recipe = started
    given_ = {"policy": policy, "world": world, "recipe": recipe, "step": 0, "streams": Streams(0)}
    found = AccuracyByBudget(budgets=(4, 9, 16), answers=2)(**given_)
    assert list(found) == ["budgets/accuracy_4", "budgets/accuracy_9", "budgets/accuracy_16", "budgets/anytime",
                           "budgets/thinking"]  # fmt: skip
    assert found["budgets/anytime"] == pytest.approx(sum(list(found.values())[:3]) / 3)
    assert AccuracyByBudget(budgets=(4, 9, 16), answers=2)(**given_) == found
    regret = Regret(stops=2)(**given_)
    assert 0 <= regret["regret/area"] <= 1
    assert 0 < regret["regret/tokens_to_solve"] <= world.action.max_tokens
