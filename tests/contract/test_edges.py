"""At the edges no language method crashes or writes a NaN, and what happened there is counted."""

import math
from dataclasses import dataclass, replace
from unittest.mock import patch

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import SMALL
from pilotage import api
from pilotage.data.batch import Stop
from pilotage.data.piece import UsageError
from pilotage.learn.learner import RunStopped
from pilotage.methods.method import methods
from pilotage.rollouts.messages import Messages
from pilotage.run.assemble import assemble
from pilotage.run.evaluate import Evaluator
from pilotage.run.loop import one_step
from pilotage.run.summary import Counters

LANGUAGE = [slug for slug, method in methods().items() if "text" in method.worlds]
FEW = {"rollout.tasks": 4, "evaluation.measures.held_out.pairs": 2}  # of pairs that are made once
MANY = 13  # end tokens: every answer is one token long


@dataclass(frozen=True)
class Edge:
    """Groups and their samples, how answers are rewarded, their most tokens, how many tokens end one, long prompts."""

    prompts: int = 2
    samples: int = 3
    reward: str = "mixed"
    tokens: int = 3
    closing: int = 2
    long: float = 0.0


EDGES = {
    "groups of one": Edge(samples=1, prompts=3),
    "one group of one": Edge(samples=1, prompts=1),
    "all rewards equal": Edge(reward="all", closing=0),
    "nothing is right": Edge(reward="nothing"),
    "nothing is left": Edge(long=1.0),
    "some prompts do not fit": Edge(long=0.5, prompts=4),
    "empty answers": Edge(closing=MANY, tokens=4),
    "cut at once": Edge(closing=0, tokens=1),
    "verdicts that fail": Edge(reward="broken"),
}
anywhere = st.builds(
    Edge,
    prompts=st.integers(1, 3),
    samples=st.integers(1, 3),
    reward=st.sampled_from(["mixed", "nothing", "all", "broken"]),
    tokens=st.integers(1, 4),
    closing=st.sampled_from([0, 3, MANY]),
    long=st.sampled_from([0.0, 0.5, 1.0]),
)


def recipe_of(slug: str, edge: Edge):
    asked = {
        **SMALL, "steps": 2, "limits.invalid": 1.0,
        "prompts_per_step": edge.prompts, "samples_per_prompt": edge.samples,
        "world.reward": edge.reward, "world.tokens": edge.tokens, "world.long": edge.long,
        "policy.closing": edge.closing,
    }  # fmt: skip
    made = api.recipe(slug, "toy_edges:Edges", "toy_edges:Closing", settings=asked)
    for path, value in FEW.items():
        made = api.set_path(made, path, value) if made.get(path, missing=None) else made
    return replace(made, start=None)


def least_samples(recipe) -> int:
    """What links of credit that compare the members of a group ask for."""
    return max((getattr(link.target, "least_samples", 1) for link in recipe.credit.values()), default=1)


def steps(recipe):
    """Two steps: what was played and the metrics of each, and the policy's state at the end."""
    parts, counters, played = assemble(recipe), Counters(), []
    call = type(parts.rollout).__call__

    def heard(*given, **named):
        played.append(call(*given, **named))
        return played[-1]

    with patch.object(type(parts.rollout), "__call__", heard):
        told = [one_step(parts, step, counters) for step in range(2)]
    parts.world.close()
    return parts, played, told


def check(slug: str, edge: Edge) -> None:
    recipe = recipe_of(slug, edge)
    if edge.samples < least_samples(recipe):
        with pytest.raises(UsageError, match="samples_per_prompt is at least 2, not 1"):
            assemble(recipe)
        return
    parts, played, told = steps(recipe)
    assert all(bool(torch.isfinite(value).all()) for value in parts.policy.state_dict().values())
    for metrics in told:
        unknown = {name for name, value in metrics.items() if not math.isfinite(value)}
        assert not unknown
        assert "not_finite" not in metrics
    if type(parts.rollout) is not Messages:
        return
    ends = set(parts.policy.tokenizer.ends)
    for batch, metrics in zip(played, told, strict=True):
        assert len(batch) == metrics["train/episodes"] == edge.prompts * edge.samples
        said = batch.total(batch.sampled.long())
        fits = torch.tensor([len(prompt) < 40 for prompt in batch.notes["prompt"]])
        assert torch.equal(said > 0, fits)
        wrong = ~fits
        if edge.reward == "broken":
            answers = torch.tensor([len(answer) % 2 == 1 for answer in batch.notes["answer"]])
            wrong |= answers
        assert torch.equal(~batch.valid, wrong)
        assert metrics["train/invalid"] == pytest.approx(float(wrong.float().mean()))
        last = batch["action"][batch.offsets[1:] - 1].tolist()
        cut = torch.tensor([token not in ends for token in last]) & batch.valid
        assert torch.equal(batch["stop"] == Stop.LENGTH, cut)
        assert metrics["train/cut"] == pytest.approx(float(cut.float().mean()))
        if edge.closing == MANY:
            assert not bool(cut.any())
            assert said.tolist() == fits.long().tolist()
        if edge.reward in ("all", "nothing") and edge.samples > 1 and "train/no_signal" in metrics:
            assert metrics["train/no_signal"] == 1.0


@pytest.mark.parametrize("slug", LANGUAGE)
@pytest.mark.parametrize("name", EDGES)
def test_at_an_edge(name, slug):
    check(slug, EDGES[name])


@pytest.mark.parametrize("slug", LANGUAGE)
@given(edge=anywhere)
@settings(max_examples=3, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_anywhere(slug, edge):
    check(slug, edge)


def test_a_run_whose_prompts_do_not_fit_stops_and_says_so(tmp_path):
    recipe = recipe_of("grpo", Edge(long=1.0)).vary("tests", {"limits.invalid": 0.5})
    with pytest.raises(RunStopped, match=r"100% of the episodes .* a prompt of \d+ tokens fills the context"):
        api.train(recipe, out=tmp_path / "run")
    judged = api.Run(tmp_path / "run").metrics()[0]
    assert judged["eval/invalid"] == 1.0
    assert judged["eval/accuracy"] is None or math.isnan(judged["eval/accuracy"])


def test_an_evaluation_leaves_out_what_does_not_fit():
    recipe = recipe_of("grpo", Edge(long=0.5, reward="all")).vary("tests", {"evaluation.tasks": 12})
    parts, evaluator = assemble(recipe), Evaluator(recipe)
    found, _ = evaluator(parts.policy, 0)
    assert found["eval/accuracy"] == 1.0
    assert 0 < found["eval/invalid"] < 1
    assert sum(math.isnan(item) for item in found["eval/items"]) == round(12 * found["eval/invalid"])


def test_every_language_method_is_here():
    assert {"grpo", "dapo", "ppo", "rft", "sft", "dpo", "nft"} <= set(LANGUAGE)
