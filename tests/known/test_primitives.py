"""What methods of reinforcement learning for language share: variants of tasks, prefixes restored, tokens injected,
rewards shaped, decisions chosen and weighed, tokens counted."""

import pytest
import torch

from helpers import episodes, text_recipe
from pilotage.credit.shaping import with_returns
from pilotage.data.piece import Piece, UsageError, piece
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.learn.terms import Objective
from pilotage.losses.policy import policy_gradient
from pilotage.methods.method import find
from pilotage.methods.stacks import forms_of
from pilotage.policies.base import Minibatch
from pilotage.rollouts.messages import Messages, Transcript, draws, extend, opened, recorded
from pilotage.rollouts.stops import Stops, Thought
from pilotage.rollouts.variants import improve
from pilotage.run import loop, recipe
from pilotage.run.assemble import assemble
from pilotage.run.log import read_metrics
from pilotage.worlds import phrases
from pilotage.worlds.reasoning import ReasoningWorld


@pytest.fixture
def parts():
    made = assemble(text_recipe("grpo"))
    yield made
    made.world.close()


def test_a_task_put_in_other_words_is_judged_as_it_was(parts):
    task = parts.world.task(0, "train")
    asked = task.put(task.prompt[::-1], "reversed")
    assert parts.world.reset([asked], [0]) == [task.prompt[::-1]]
    assert float(parts.world.step([task.answer], [0]).reward[0]) == 1.0
    assert (asked.shown, task.shown, asked.key) == (task.prompt[::-1], task.prompt, task.key)


def test_phrases_put_parts_in_and_leave_braces_alone():
    table = {"hint": "{prompt} begins {hint}"}
    assert phrases.fill(table, "hint", prompt="{hint}", hint="{prompt}") == "{hint} begins {prompt}"
    with pytest.raises(UsageError, match="did you mean 'hint'"):
        phrases.fill(table, "hnt", prompt="")
    with pytest.raises(ValueError, match="needs 'hint'"):
        phrases.fill(table, "hint", prompt="")


def test_every_compact_phrase_needs_no_new_character():
    world = ReasoningWorld(dataset="chain_sum", time_limit=None)
    parts = {"prompt": "1+2=", "answer": "3", "hint": "3"}
    for kind in phrases.COMPACT:
        names = dict.fromkeys(("answer", "hint"), "3")
        assert set(phrases.fill(phrases.COMPACT, kind, **(parts | names))) <= set(world.observation.alphabet), kind


def test_a_prefix_is_restored_tokens_injected_and_the_rest_sampled(parts):
    policy, world = parts.policy, parts.world
    task = world.task(0, "train")
    (script,) = opened(policy, world, [task])
    asked = len(script)
    extend(policy, [script], draws(Streams(0), "a", 0, 0, 1, 3), turn=0, temperature=1.0)
    cut = script.fork(asked + 1)
    cut.hear(policy.encode("7", prompt=False), 0)
    extend(policy, [cut], draws(Streams(0), "b", 0, 0, 1, 3), turn=0, temperature=1.0)
    batch = recorded([cut])
    assert torch.equal(cut.context[: asked + 1], script.context[: asked + 1])
    assert policy.decode(cut.context[asked + 1 : asked + 2]) == "7"
    assert batch.sampled.tolist() == [False] * (asked + 2) + [True] * (len(cut) - asked - 2)
    assert not bool(batch["behaviour_logp"][~batch.sampled].any())


def test_limits_bound_each_message_and_change_nothing_before_them(parts):
    policy = parts.policy
    contexts = [torch.tensor(policy.encode("12=", prompt=True))] * 3
    uniforms = draws(Streams(0), "limits", 0, 0, 3, 4)
    whole = policy.speak(contexts, uniforms)
    cut = policy.speak(contexts, uniforms, limits=[1, 2, 4])
    for one, other, most in zip(whole.tokens, cut.tokens, [1, 2, 4], strict=True):
        assert torch.equal(one[:most], other)
    with pytest.raises(ValueError, match="limits"):
        policy.speak(contexts, uniforms, limits=[0, 1, 1])


def test_what_a_policy_generates_is_counted_whether_recorded_or_not(parts):
    policy = parts.policy
    before = policy.generated.tokens, policy.generated.decode_steps
    said = policy.speak([torch.tensor(policy.encode("1=", prompt=True))] * 2, draws(Streams(0), "n", 0, 0, 2, 4))
    sizes = [len(tokens) for tokens in said.tokens]
    assert policy.generated.tokens - before[0] == sum(sizes)
    assert policy.generated.decode_steps - before[1] == max(sizes)


def test_a_run_counts_training_tokens_only(tmp_path):
    recipe = text_recipe("grpo", settings={"evaluation.every": 1})
    loop.train(recipe, tmp_path / "run")
    rows = [row for row in read_metrics(tmp_path / "run") if row["kind"] == "train"]
    assert rows[-1]["count/generated"] == rows[-1]["count/decisions"]
    assert 0 < rows[0]["count/decode_steps"] < rows[-1]["count/decode_steps"] <= 4 * len(rows)


def test_what_is_injected_is_counted_once_for_each_context(parts):
    policy, world = parts.policy, parts.world
    task = world.task(0, "train")
    longer = task.put(task.prompt + "12", "hint 0.25")
    before = policy.generated.injected
    (script, *_) = opened(policy, world, [task, task, longer, longer, task.put("1", "shorter")])
    assert policy.generated.injected - before == 2
    stops = Stops(marker="=", hurry="7")
    thought = Thought(script, len(script), 0, False, False)
    stem = stops.forced(policy, world, thought, 0, 3)
    assert len(stem.scripts) == 3
    assert policy.generated.injected - before == 2 + 2
    forced = opened(policy, world, [task])
    Messages().talk(policy, world, forced, Streams(0), "a", 0, prefixes=["71"])
    assert policy.generated.injected - before == 2 + 2 + 2


def test_a_run_tells_what_it_injected(tmp_path):
    loop.train(text_recipe("a2fm", world="toy_worlds:Tagged"), tmp_path / "run")
    told = [row["count/injected"] for row in read_metrics(tmp_path / "run") if row["kind"] == "train"]
    assert 0 < told[0] < told[-1]


def test_a_transcript_is_kept_up_to_a_token_with_what_stands_there():
    script = Transcript(Task(prompt="1"), [5, 6])
    script.say(torch.tensor([7, 8]), torch.tensor([-1.0, -2.0]), 0)
    script.hear([9], 1)
    script.say(torch.tensor([], dtype=torch.int64), torch.tensor([]), 1)  # nothing said leaves no trace
    script.spans[-1].reward = 0.5
    whole = recorded([script])
    assert whole["action"].tolist() == [5, 6, 7, 8, 9]
    assert whole.sampled.tolist() == [False, False, True, True, False]
    assert whole["behaviour_logp"].tolist() == [0.0, 0.0, -1.0, -2.0, 0.0]
    assert whole["turn"].tolist() == [0, 0, 0, 0, 1]
    assert whole["reward"].tolist() == [0.0, 0.0, 0.0, 0.0, 0.5]
    script.keep(3)
    cut = recorded([script])
    assert (cut["action"].tolist(), cut["behaviour_logp"].tolist()) == ([5, 6, 7], [0.0, 0.0, -1.0])
    assert (cut.sampled.tolist(), cut["reward"].tolist()) == ([False, False, True], [0.0] * 3)


def test_links_that_change_rewards_come_first():
    recipe = text_recipe("dapo").vary("test", {"credit.doubled": Piece("helpers:doubled")})
    assert list(recipe.credit)[-1] == "doubled"
    made = assemble(recipe)
    made.world.close()
    assert list(made.credit) == ["doubled", "advantage", "filter"]


def test_returns_are_replaced_where_they_differ_and_verdicts_kept():
    batch = episodes([[0.25, 0.5], 1.0, 1.0], valid=[True, True, False])
    found = with_returns(batch, torch.tensor([1.0, 1.0, 9.0]))
    assert found["reward"].tolist() == [0.25, 0.75, 1.0, 1.0]
    assert found.returns.tolist() == [1.0, 1.0, 1.0]
    assert torch.equal(found["verdict"], batch["reward"])


def weights_of(objective: Objective, **columns: torch.Tensor) -> torch.Tensor:
    made = assemble(text_recipe("grpo"))
    made.world.close()
    owner = torch.tensor([0, 0, 1, 1, 1])
    minibatch = Minibatch(columns, owner, torch.arange(5))
    return made.learner._weights(minibatch, objective.reduction, objective.where, objective.by)


def test_an_objective_may_be_about_some_decisions_and_weigh_them():
    loss = piece(policy_gradient)
    chosen = torch.tensor([True, False, True, True, False])
    found = weights_of(Objective(loss, "token", where="late"), late=chosen)
    assert torch.allclose(found, torch.tensor([1 / 3, 0, 1 / 3, 1 / 3, 0]))
    found = weights_of(Objective(loss, "sequence", where="late"), late=chosen)
    assert torch.allclose(found, torch.tensor([1 / 2, 0, 1 / 4, 1 / 4, 0]))
    scale = torch.tensor([0.5, 0.5, 1.0, 1.0, 1.0])
    found = weights_of(Objective(loss, "token", by="scale"), scale=scale)
    assert torch.equal(found, torch.full((5,), 0.2) * scale)
    everything = weights_of(Objective(loss, "sequence", where="late"), late=torch.ones(5, dtype=torch.bool))
    assert torch.equal(everything, weights_of(Objective(loss, "sequence")))
    with pytest.raises(UsageError, match="'late'"):
        weights_of(Objective(loss, where="late"))


def test_unused_fields_of_an_objective_leave_digests_alone(monkeypatch):
    made = text_recipe("grpo")
    path, before = "terms.policy.objectives.policy.where", made.digest()
    assert made.vary("test", {path: "late"}).digest() != before
    monkeypatch.setattr(recipe, "ADDED", {})  # without the exception the empty fields would be hashed too
    assert made.digest() != before


def test_detours_repeat_totals_and_the_answer_follows_the_marker():
    world = ReasoningWorld(dataset="chain_sum", marker="=", detours=0.6, time_limit=None)
    lengths = set()
    for key in range(60):
        task = world.task(key, "train")
        answer = world.demonstrate(task, Streams(0).generator("d", key))
        working, _, final = answer.partition("=")
        totals = working.split(";")
        assert final == totals[-1] == task.answer
        assert len(answer) < world.action.max_tokens
        assert world.verify(task, answer) == 1.0
        lengths.add(len(totals))
    assert len(lengths) > 3


def test_without_detours_demonstrations_are_what_they_were():
    world = ReasoningWorld(dataset="chain_sum", time_limit=None)
    task = Task(prompt="12+34-5=", answer="41")
    assert world.demonstrate(task, Streams(0).generator("d", 0)) == "46;41"


def test_the_improve_form_shows_one_earlier_answer():
    world = ReasoningWorld(dataset="chain_sum", time_limit=None)
    task, answer = improve(world, world.task(0, "train"), Streams(0).generator("d", 0))
    assert task.shown == f"{task.prompt}{answer}="
    assert task.variant == "improve"


def test_forms_are_those_of_all_that_are_compared_the_larger_share_of_each():
    assert forms_of("grpo", "nft") == {}
    own = {name: find(name).forms for name in ("exit", "ghpo")}
    assert all(own.values())
    assert forms_of("grpo", "exit", "ghpo+nft") == {**own["exit"], **own["ghpo"]}


def test_scripts_keep_their_own_prompt():
    script = Transcript(Task(prompt="1", asked="2", variant="other", category="sums"), [5, 6])
    batch = recorded([script, Transcript(Task(prompt="3"), [7])], groups=[4, 9])
    assert batch.notes["prompt"] == ["2", "3"]
    assert batch.notes["variant"] == ["other", ""]
    assert batch.notes["category"] == ["sums", ""]
    assert batch["group"].tolist() == [4, 9]
