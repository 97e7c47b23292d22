"""T-PPO by hand: extended GAE, the two sets of tokens, the pool and what goes on in it."""

import dataclasses

import pytest
import torch

from helpers import differing, episodes, final_state, metrics, rows, text_recipe
from pilotage import api
from pilotage.credit.returns import gae
from pilotage.credit.windows import Values, adaptive_trace, extended_gae, monte_carlo, whiten
from pilotage.data.batch import Stop
from pilotage.data.piece import UsageError
from pilotage.data.tasks import Task
from pilotage.learn.terms import Objective, Term
from pilotage.losses.policy import clipped_ratio, dual_clipped_ratio
from pilotage.losses.value import bounded_error, squared_error
from pilotage.policies.base import rows_of, score
from pilotage.rollouts.messages import Transcript
from pilotage.rollouts.pool import Pool, Response
from pilotage.run.assemble import assemble
from toy_worlds import Echo

V = [0.2, 0.5, 0.4]


def window(value=V, reward=0.0, ended=False, earlier=0, final=None):
    """One response: decisions of earlier windows, and a window with these values."""
    count = earlier + len(value)
    made = episodes([[0.0] * (count - 1) + [reward]], terminated=[ended], value=[[9.0] * earlier + list(value)])
    last = 0.0 if ended else value[-1]
    current = torch.arange(count) >= earlier
    return made.with_columns(current=current, sampled=current | ended).with_episode(
        final_value=torch.tensor([last if final is None else final]), so_far=torch.tensor([count])
    )


class TestExtendedGae:
    @pytest.mark.parametrize(
        ("trace", "reward", "ended", "expected"),
        [
            (0.95, 0.0, False, [0.205, -0.1, 0.0]),
            (0.95, 1.0, True, [0.7465, 0.47, 0.6]),
            (1.0, 0.0, False, [0.2, -0.1, 0.0]),  # V_last - V_t
            (1.0, 1.0, True, [0.8, 0.5, 0.6]),  # 1 - V_t
        ],
    )
    def test_by_hand(self, trace, reward, ended, expected):
        found = extended_gae(window(reward=reward, ended=ended), trace=trace, ignore=0)
        assert found["advantage"].tolist() == pytest.approx(expected, abs=1e-6)

    def test_earlier_windows_play_no_part(self):
        found = extended_gae(window(reward=1.0, ended=True, earlier=4), ignore=0)
        assert found["advantage"].tolist() == pytest.approx([0.0] * 4 + [0.7465, 0.47, 0.6], abs=1e-6)
        assert found["for_actor"].tolist() == [False] * 4 + [True] * 3

    def test_a_critic_that_knows_nothing_makes_no_signal_of_a_cut(self):
        assert extended_gae(window([0.0] * 5), ignore=0)["advantage"].tolist() == [0.0] * 5

    def test_below_one_the_discount_shows_at_the_cut(self):
        found = extended_gae(window(), discount=0.9, trace=0.95, ignore=0)["advantage"].tolist()
        assert found[2] == pytest.approx((0.9 - 1) * 0.4)
        assert found[1] == pytest.approx(0.9 * 0.4 - 0.5 + 0.9 * 0.95 * found[2])

    def test_of_whole_responses_it_is_gae(self):
        batch = episodes([[0.1, 0.3, 1.0], [0.5]], value=[V, [0.3]]).with_episode(final_value=torch.zeros(2))
        one, other = extended_gae(batch, trace=0.9), gae(batch, discount=1.0, trace=0.9)
        assert torch.equal(one["advantage"], other["advantage"])
        assert bool(one["for_actor"].all())

    @pytest.mark.parametrize(("ignore", "kept"), [(0, 3), (1, 2), (2, 1), (3, 0), (8, 0)])
    def test_the_tail_of_a_cut_window_is_left_out(self, ignore, kept):
        found = extended_gae(window(earlier=2), ignore=ignore)["for_actor"].tolist()
        assert found == [False] * 2 + [True] * kept + [False] * (3 - kept)
        assert extended_gae(window(ended=True), ignore=ignore)["for_actor"].tolist() == [True] * 3

    def test_the_trace_grows_with_length(self):
        lengths = torch.tensor([1.0, 400.0, 1000.0, 8192.0], dtype=torch.float64)
        assert adaptive_trace(lengths, 0.95, 0.05).tolist() == pytest.approx([0.95, 0.95, 0.98, 0.9975586], abs=1e-7)

    @pytest.mark.parametrize(("ended", "length"), [(True, 7), (False, 8.5)])
    def test_half_a_window_more_where_the_response_goes_on(self, ended, length):
        batch = window(reward=1.0 if ended else 0.0, ended=ended, earlier=4)
        found = extended_gae(batch, trace=0.5, alpha=1.0, ignore=0)
        fixed = extended_gae(batch, trace=1 - 1 / length, ignore=0)
        assert torch.equal(found["advantage"], fixed["advantage"])

    def test_the_tail_is_not_below_nothing(self):
        with pytest.raises(UsageError, match="at least 0"):
            extended_gae(window(), ignore=-1)


class TestTargets:
    def test_the_critic_learns_where_responses_end_from_all_their_windows(self):
        found = monte_carlo(window(reward=1.0, ended=True, earlier=2))
        assert found["return"].tolist() == [1.0] * 5
        assert found["for_critic"].tolist() == found["praised"].tolist() == [True] * 5

    def test_and_nowhere_else(self):
        found = monte_carlo(window(earlier=2))
        assert not bool(found["for_critic"].any() | found["praised"].any())

    def test_discounted(self):
        assert monte_carlo(window(reward=1.0, ended=True), discount=0.5)["return"].tolist() == [0.25, 0.5, 1.0]

    def test_nothing_earned_is_not_praised(self):
        found = monte_carlo(window(ended=True))
        assert bool(found["for_critic"].all())
        assert not bool(found["praised"].any())

    def test_the_ablation_learns_from_cut_windows_too_up_to_the_value_at_the_cut(self):
        found = monte_carlo(window(earlier=2, final=0.7), critic="all", discount=0.5)
        assert found["for_critic"].tolist() == [False] * 2 + [True] * 3
        assert found["return"].tolist()[2:] == pytest.approx([0.0875, 0.175, 0.35])
        with pytest.raises(UsageError, match="finished or all"):
            monte_carlo(window(), critic="some")

    def test_whitened_over_the_actors_tokens_alone_and_held(self):
        batch = episodes([[0.0] * 4], advantage=[[1.0, 3.0, 1000.0, 5.0]])
        batch = batch.with_columns(for_actor=torch.tensor([True, True, False, True]))
        assert whiten(batch)["advantage"].tolist() == pytest.approx([-1.0, 0.0, 0.0, 1.0])
        assert whiten(batch, limit=0.5)["advantage"].tolist() == pytest.approx([-0.5, 0.0, 0.0, 0.5])


class TestLosses:
    def test_the_dual_clip_bounds_what_a_wrong_sign_costs(self):
        near, far = {"low": 0.2, "high": 0.28}, [[0.0, 3.0, 3.0, -3.0]]
        given = rows(advantage=[-1.0, -1.0, 1.0, -1.0], behaviour_logp=[0.0] * 4)
        logp = torch.tensor(far[0], dtype=torch.float64)
        plain = clipped_ratio(logp, given, **near).loss
        held = dual_clipped_ratio(logp, given, **near).loss
        assert plain.tolist() == pytest.approx([1.0, 20.0855369, -1.28, 0.8])
        assert held.tolist() == pytest.approx([1.0, 10.0, -1.28, 0.8])
        assert torch.equal(dual_clipped_ratio(logp, given, **near, dual=None).loss, plain)

    def test_a_value_may_rise_further_than_it_may_fall(self):
        given = rows(value=[0.0, 0.0, 0.0], **{"return": [1.0, -1.0, 1.0]})
        value = torch.tensor([0.9, -0.9, -0.9], dtype=torch.float64)
        # held at 0.6, at -0.5, and where the plain error is the larger
        expected = [0.4**2, 0.5**2, 1.9**2]
        assert bounded_error(value, given).loss.tolist() == pytest.approx(expected)
        even, plain = bounded_error(value, given, down=0.3, up=0.3), squared_error(value, given, clip=0.3)
        assert torch.equal(even.loss, plain.loss)
        assert torch.equal(bounded_error(value, given, down=None, up=None).loss, squared_error(value, given).loss)


def made(**settings):
    """Parts of a run whose windows are two tokens of at most four."""
    return assemble(text_recipe("t-ppo", settings={"rollout.window": 2, **settings}))


def step(parts, number, prompts=3, samples=4):
    """One step's record, with its credit."""
    batch = parts.rollout(parts.policy, parts.world, parts.sampler.next, parts.streams, number, prompts, samples)
    return parts.credited(batch, 0.0, number)


def shaken(policy):
    """Another policy: what learning does to it."""
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(1.5)


class TestPool:
    @pytest.mark.parametrize("window", [1, 2, 3])
    def test_every_token_is_the_actors_once_and_the_critics_once_when_its_response_ends(self, window):
        parts = made(**{"rollout.window": window, "credit.gae.ignore": 0})
        for_actor, for_critic, lengths = [], [], {}
        for number in range(9):
            batch = step(parts, number)
            assert len(batch) == 12  # the pool's size is constant
            assert bool((batch.total(batch.fresh.long()) <= window).all())
            for e, (start, end) in enumerate(zip(batch.offsets[:-1].tolist(), batch.offsets[1:].tolist(), strict=True)):
                response, written = int(batch["response"][e]), int(batch["so_far"][e])
                place = [(response, i - (end - start - written)) for i in range(end - start)]
                for_actor += [place[i] for i in batch["for_actor"][start:end].nonzero().flatten().tolist()]
                for_critic += [place[i] for i in batch["for_critic"][start:end].nonzero().flatten().tolist()]
                if batch["terminated"][e]:
                    assert response not in lengths
                    lengths[response] = written
        parts.world.close()
        waiting = {response.number: response.written for response in parts.rollout.line}
        every = [(number, i) for number, count in (lengths | waiting).items() for i in range(count)]
        assert sorted(for_actor) == sorted(every)
        assert len(for_actor) == parts.policy.generated.tokens
        assert sorted(for_critic) == sorted((number, i) for number, count in lengths.items() for i in range(count))
        assert len(set(lengths.values())) > 1
        assert set(lengths).isdisjoint(waiting)

    def test_what_was_cut_goes_on_with_the_policy_as_it_is_now(self):
        parts = made()
        first = step(parts, 0)
        shaken(parts.policy)
        second = step(parts, 1)
        parts.world.close()
        known = {int(number): i for i, number in enumerate(second["response"])}
        went_on = 0
        for e, number in enumerate(first["response"].tolist()):
            before = first["action"][first.offsets[e] : first.offsets[e + 1]]
            if not first["terminated"][e]:
                at = int(second.offsets[known[number]])
                assert torch.equal(second["action"][at : at + len(before)], before)
                went_on += 1
            else:
                assert number not in known
        assert went_on > 2
        current = second.fresh
        now = score(second, parts.policy, "logp")
        assert torch.allclose(now[current], second["behaviour_logp"][current], atol=1e-4)
        earlier = second.sampled & ~current  # these keep the log-probs of the policy that wrote them
        assert float((now - second["behaviour_logp"])[earlier].abs().min()) > 1e-3

    def test_values_of_earlier_windows_are_those_of_their_time(self):
        parts = made()
        first = step(parts, 0)
        shaken(parts.policy)
        second = step(parts, 1)
        parts.world.close()
        ended = [e for e in range(len(second)) if second["terminated"][e] and second["so_far"][e] > 2]
        assert ended
        for e in ended:
            here = slice(int(second.offsets[e]), int(second.offsets[e + 1]))
            old = second["value"][here][second.sampled[here] & ~second.fresh[here]]
            then = first.select(first["response"] == second["response"][e])
            assert torch.equal(old, then["value"][then.fresh])
        fresh = second.fresh
        assert torch.allclose(second["value"][fresh], score(second, parts.policy, "value")[fresh])
        assert set(parts.credit["value"].function.kept) == {r.number for r in parts.rollout.line if r.windows}

    def test_a_cut_gets_the_last_value_or_the_critics_of_the_state_there(self):
        parts = made()
        batch = step(parts, 0)
        parts.world.close()
        cut = ~batch["terminated"]
        assert bool(cut.any())
        assert torch.equal(batch["final_value"][cut], batch["value"][batch.offsets[1:] - 1][cut])
        other = Values(bootstrap="critic")(batch, parts.policy)["final_value"]
        assert torch.equal(other[cut], parts.policy.final_values(batch.select(cut)))
        assert not bool(other[~cut].any())
        with pytest.raises(UsageError, match="last or critic"):
            Values(bootstrap="next")

    def test_a_cut_is_neither_judged_nor_ended_and_the_whole_answer_is(self):
        parts = made()
        batches = [step(parts, number) for number in range(4)]
        parts.world.close()
        for batch in batches:
            cut = ~batch["terminated"]
            assert batch["stop"][cut].tolist() == [Stop.WINDOW] * int(cut.sum())
            assert not bool(batch.returns[cut].any())
            assert torch.isfinite(batch["episode_return"]).tolist() == (~cut).tolist()
            assert torch.equal(batch["truncated"], cut)
            for e in (~cut).nonzero().flatten().tolist():
                one = batch.select(torch.tensor([e]))
                said = parts.policy.decode(one["action"][one.sampled])
                task = parts.world.task(int(one["task"][0]), "train")
                assert one.notes["answer"] == [said]
                assert float(one.returns[0]) == pytest.approx(parts.world.verify(task, said))
        longest = [b for b in batches if bool((b["so_far"][b["terminated"]] == 4).any())]
        assert longest  # some reached the longest length: that is an end
        stops = torch.cat([b["stop"][b["so_far"] == 4] for b in longest])
        assert set(stops.tolist()) <= {Stop.TERMINATED, Stop.LENGTH}
        assert Stop.LENGTH in stops

    def test_the_first_in_line_are_those_that_were_cut_then_what_waits(self):
        parts = made()
        step(parts, 0, prompts=3, samples=4)
        cut = [response.number for response in parts.rollout.line]
        second = step(parts, 1, prompts=3, samples=4)
        parts.world.close()
        assert second["response"].tolist()[: len(cut)] == cut
        assert second["response"].tolist()[len(cut) :] == list(range(12, 24 - len(cut)))
        told = parts.rollout.metrics()
        assert told["pool/size"] == 12
        assert told["pool/continued"] == len(cut) / 12
        assert told["pool/waiting"] == -(12 - len(cut)) % 4
        assert told["pool/reread"] == 2 * len(cut)
        groups = second["group"].tolist()
        assert groups[0] == 0
        assert max(groups) == len(set(groups)) - 1

    def test_a_full_context_ends_a_response(self):
        parts = made(**{"policy.context": 7, "rollout.window": 3})  # prompts of 5: begin, two digits, =, separator
        asked = len(parts.policy.encode("12=", prompt=True))
        batch = step(parts, 0)
        parts.world.close()
        assert bool((batch["so_far"] <= 7 - asked).all())
        assert bool(batch["terminated"].all())
        assert Stop.LENGTH in batch["stop"]

    def test_a_prompt_that_fills_the_context_says_nothing_of_the_policy(self):
        parts = made(**{"policy.context": 5})
        batch = step(parts, 0)
        parts.world.close()
        assert batch["stop"].tolist() == [Stop.INVALID] * 12
        assert "fills the context" in batch.notes["reason"][0]
        assert not bool(batch.valid.any() | batch.sampled.any())
        assert not parts.rollout.line

    def test_a_world_that_answers_back_is_refused(self):
        class Back(Echo):
            def step(self, actions, lanes):
                found = super().step(actions, lanes)
                return dataclasses.replace(found, terminated=found.terminated & False)

        parts = made(**{"rollout.window": 4})
        with pytest.raises(UsageError, match="Back answers back"):
            parts.rollout(parts.policy, Back(), parts.sampler.next, parts.streams, 0, 3, 4)
        parts.world.close()
        with pytest.raises(UsageError, match="at least one token"):
            Pool(window=0)

    @pytest.mark.parametrize("trained", [None, 5])
    def test_its_state_is_all_there_is_to_it(self, trained):
        one, other = (made(**{"rollout.trained": trained}) for _ in range(2))
        for number in range(3):
            step(one, number)
        assert bool(one.rollout.outcomes) == (trained is not None)
        saved = one.state_dict()
        other.load_state_dict(saved)
        for number in (3, 4):
            a, b = step(one, number), step(other, number)
            assert differing(a.tree(), b.tree()) == []
        one.world.close()
        other.world.close()


def choice(pool, rows):
    """What a pool chooses of rows (prompt, "cut" or the return of a response that ended, or None: invalid), by row."""
    cut = [found == "cut" for _, found in rows]
    batch = episodes(
        [0.0 if found in ("cut", None) else found for _, found in rows], valid=[found is not None for _, found in rows]
    ).with_columns(current=torch.ones(len(rows), dtype=torch.bool))
    line = [Response(Transcript(Task(prompt="1"), [5, 6]), 0, group, 1) for group, _ in rows]
    pool.line = [response for response, goes_on in zip(line, cut, strict=True) if goes_on]
    found = pool._choose(batch, line, [not goes_on for goes_on in cut], pool.trained)
    return found["trained"].nonzero().flatten().tolist()


class TestChoice:
    # prompt 0 has right and wrong answers, 3 two unfinished ones, 2 one, 1 only wrong ones; 4 could not be judged
    ROWS = ((1, 0.0), (2, "cut"), (0, 1.0), (3, "cut"), (1, 0.0), (2, 1.0), (0, 0.0), (3, "cut"), (4, None))
    ORDER = (2, 6, 3, 7, 1, 5, 0, 4, 8)

    @pytest.mark.parametrize("count", range(1, 11))
    def test_prompts_that_tell_something_come_first_then_unfinished_ones_then_the_rest(self, count):
        pool = Pool(trained=count)
        assert choice(pool, self.ROWS) == sorted(self.ORDER[:count])
        assert pool.told["pool/left_out"] == pool.told["pool/left_out_tokens"] == max(0, 9 - count)

    def test_answers_of_earlier_steps_count_while_their_prompt_goes_on(self):
        pool = Pool(trained=1)
        assert choice(pool, [(0, 1.0), (0, "cut"), (1, "cut"), (1, "cut")]) == [2]
        assert pool.outcomes == {0: (1.0, 1.0)}
        resumed = Pool(trained=1)
        resumed.load_state_dict(pool.state_dict(), Echo())
        for one in (pool, resumed):
            assert choice(one, [(1, "cut"), (0, 0.0), (2, 1.0)]) == [1]
            assert one.outcomes == {}  # the prompt has ended

    def test_at_most_one_update_of_the_actor_and_those_left_out_go_on(self):
        parts = made(**{"rollout.trained": 5, "credit.gae.ignore": 0})
        for_actor, left_out, went_on = [], 0, 0
        for number in range(6):
            batch = step(parts, number)
            chosen = batch["trained"]
            assert int(chosen.sum()) == 5
            assert torch.equal(batch["for_actor"], batch.fresh & batch.spread(chosen))
            assert torch.equal(batch["for_critic"], batch.sampled & batch.spread(chosen & batch["terminated"]))
            assert not bool(batch["advantage"][~batch["for_actor"]].any())
            assert not bool(batch["praised"][~batch.spread(chosen)].any())
            told = parts.rollout.metrics()
            assert told["pool/left_out"] == 7
            assert told["pool/left_out_tokens"] == int((batch.fresh & ~batch["for_actor"]).sum())
            left_out += int(told["pool/left_out_tokens"])
            place = torch.arange(batch.decisions) - batch.spread(batch.offsets[1:] - batch["so_far"])
            rows = batch["for_actor"].nonzero().flatten()
            for_actor += list(zip(batch.spread(batch["response"])[rows].tolist(), place[rows].tolist(), strict=True))
            waiting = {response.number for response in parts.rollout.line}
            cut = batch["response"][~chosen & ~batch["terminated"]].tolist()
            went_on += len(cut)
            assert set(cut) <= waiting
        parts.world.close()
        assert went_on > 0
        assert len(set(for_actor)) == len(for_actor)
        assert len(for_actor) + left_out == parts.policy.generated.tokens

    def test_off_or_as_large_as_the_pool_it_changes_nothing(self, tmp_path):
        ends = []
        for i, settings in enumerate(({}, {"rollout.trained": 12}, {"rollout.trained": 6})):
            run = api.train(text_recipe("t-ppo", settings={"steps": 4, **settings}), out=tmp_path / str(i))
            ends.append(final_state(run.folder)["parts"]["policy"])
            records = [record for record in metrics(run.folder) if record["kind"] == "train"]
            assert all(("pool/left_out" in record) == bool(settings) for record in records)
        assert differing(*ends[:2]) == []
        assert differing(ends[0], ends[2]) != []

    def test_nothing_to_train_on_is_refused(self):
        with pytest.raises(UsageError, match="at least one response"):
            Pool(trained=0)


def updated(parts, batch, *, keep):
    """Parameters under a prefix after one update on a batch."""
    parts.learner.update(batch, 0, 0.5)  # past the warm-up of the rate
    return {n: p.detach().clone() for n, p in parts.policy.named_parameters() if n.startswith("critic.") == keep}


class TestUpdates:
    def test_the_critic_does_not_move_unless_a_response_ends(self):
        parts = made(**{"terms.value.minibatches": 1})
        batch = step(parts, 0, prompts=9)
        going = batch.select(~batch["terminated"])
        assert len(going) > 4
        before = {n: p.detach().clone() for n, p in parts.policy.named_parameters()}
        after = updated(parts, going, keep=True)
        assert all(torch.equal(before[name], value) for name, value in after.items())
        assert not parts.learner.terms[1].optimiser.state  # no step, not one of size 0
        moved = updated(parts, batch, keep=True)
        assert any(not torch.equal(before[name], value) for name, value in moved.items())
        parts.world.close()

    def test_the_actor_learns_nothing_from_earlier_windows_and_ignored_tails(self):
        found = []
        for spoil in (False, True):
            parts = made(**{"terms.policy.minibatches": 1})
            batch = [step(parts, number) for number in range(4)][-1]  # in it some end, and some are cut
            left_out = batch.sampled & ~batch["for_actor"]
            assert bool((left_out & batch.fresh).any())
            assert bool((left_out & ~batch.fresh).any())
            if spoil:
                noise = torch.randn(batch.decisions, generator=torch.Generator().manual_seed(0))
                batch = batch.with_columns(
                    advantage=torch.where(left_out, 5 * noise, batch["advantage"]),
                    behaviour_logp=torch.where(left_out & ~batch.fresh, noise, batch["behaviour_logp"]),
                )
            found.append(updated(parts, batch, keep=False))
            parts.world.close()
        assert differing(*found) == []

    def test_a_loss_does_not_reach_log_probs_that_are_not_the_actors(self):
        parts = made()
        step(parts, 0)
        minibatch = rows_of(step(parts, 1), needs_past=True)
        parts.world.close()
        active = parts.learner.terms[0]
        (objective,) = (one for _, one, _ in active.losses)
        weights = parts.learner._weights(minibatch, objective.reduction, objective.where, objective.by)
        logp = minibatch["behaviour_logp"].clone().requires_grad_()
        (dual_clipped_ratio(logp, minibatch).loss * weights).sum().backward()
        chosen = minibatch["for_actor"]
        assert not bool(logp.grad[~chosen].any())
        assert bool(logp.grad[chosen].any())
        assert float(weights.sum()) == pytest.approx(1.0)

    def test_the_critics_loss_is_a_mean_of_means_over_responses_that_ended(self):
        parts = made()
        step(parts, 0)
        batch = step(parts, 1)
        minibatch = rows_of(batch, needs_past=True)
        parts.world.close()
        (objective,) = (one for _, one, _ in parts.learner.terms[1].losses)
        assert objective.weight == 0.5
        weights = parts.learner._weights(minibatch, objective.reduction, objective.where, objective.by)
        ended = batch["terminated"]
        expected = batch.spread(ended / (ended.sum() * batch["so_far"]))[batch.sampled]
        assert torch.allclose(weights, expected.float())

    def test_the_actor_waits_while_the_critic_warms_up(self, tmp_path):
        api.train(text_recipe("t-ppo", settings={"terms.policy.after": 2, "steps": 4}), out=tmp_path / "run")
        records = [record for record in metrics(tmp_path / "run") if record["kind"] == "train"]
        assert ["policy/loss" in record for record in records] == [False, False, True, True]
        assert "value/loss" in records[1]
        with pytest.raises(UsageError, match="at least 0 batches"):
            Term(objectives={}, after=-1)

    def test_praise_is_the_likelihood_of_all_windows_of_good_responses(self, tmp_path):
        recipe = text_recipe("t-ppo")
        praised = recipe.vary("test", {"terms.policy.objectives.praise.weight": 0.1})
        ends = [api.train(one, out=tmp_path / str(i)) for i, one in enumerate((recipe, praised))]
        states = [final_state(end.folder)["parts"]["policy"] for end in ends]
        assert differing(*states) != []
        assert isinstance(praised.get("terms.policy.objectives.praise"), Objective)
        assert praised.get("terms.policy.objectives.praise.where") == "praised"

    def test_the_mismatch_is_of_this_steps_tokens(self, tmp_path):
        api.train(
            text_recipe("t-ppo", settings={"steps": 5, "terms.policy.optimiser.learning_rate": 3e-2}),
            out=tmp_path / "run",
        )
        records = [record for record in metrics(tmp_path / "run") if "mismatch/max" in record]
        assert len(records) == 5
        assert max(record["mismatch/max"] for record in records) < 1e-4  # though the policy moved a lot


def test_what_is_counted(tmp_path):
    api.train(text_recipe("t-ppo", settings={"steps": 6}), out=tmp_path / "run")
    records = [record for record in metrics(tmp_path / "run") if record["kind"] == "train"]
    last = records[-1]
    assert last["count/decisions"] == last["count/generated"]
    assert last["count/decode_steps"] <= 2 * 6
    assert last["count/verdicts"] == sum(round(12 * (1 - record["pool/unfinished"])) for record in records)
    assert all(record["pool/size"] == 12 for record in records)
    assert all(record["train/length"] <= 2 for record in records)


@pytest.mark.parametrize("case", range(6))
def test_odd_sizes_neither_crash_nor_give_nan(case, tmp_path):
    sizes = {
        "prompts_per_step": (1, 3)[case % 2],
        "samples_per_prompt": (1, 2, 5)[case % 3],
        "rollout.window": (1, 3, 4, 99)[case % 4],
        "credit.gae.ignore": (8, 0, 1)[case // 2],
    }
    world = ("toy_worlds:Echo", "toy_worlds:Flat")[case == 3]
    run = api.train(text_recipe("t-ppo", world=world, settings={**sizes, "steps": 5}), out=tmp_path / "run")
    assert not any("not_finite" in record for record in metrics(run.folder))
    assert all(bool(value.isfinite().all()) for value in final_state(run.folder)["parts"]["policy"].values())
