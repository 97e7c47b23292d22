"""Beginnings that episodes share are worked out once: values and gradients are those of each episode alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage.data.batch import Batch, from_episodes
from pilotage.policies import language, llama, packing

VOCABULARY = 11
SIZES = {"vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
HEADS = {"llama": (4, 4), "qwen2": (4, 2), "qwen3": (4, 1)}


def make(architecture):
    heads, key_heads = HEADS[architecture]
    settings_ = SIZES | {"num_attention_heads": heads, "num_key_value_heads": key_heads, "max_position_embeddings": 128}
    model = language.new_model(settings_, architecture, 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


MODELS = {architecture: make(architecture) for architecture in llama.ARCHITECTURES}


@pytest.fixture(autouse=True)
def always(monkeypatch):
    """Tails wherever they are possible, though texts here are too short for them to pay."""
    monkeypatch.setattr(packing, "TAILS_FROM", 0)
    monkeypatch.setattr(packing, "TAIL_FROM", 0.01)


def text(size, seed):
    return torch.randint(0, VOCABULARY, (size,), generator=torch.Generator().manual_seed(seed))


def episodes(*parts) -> Batch:
    """Each a list of texts; what is sampled, and so wanted, is the last of them."""
    sampled = [torch.arange(sum(map(len, p))) >= max(1, sum(map(len, p[:-1]))) for p in parts]
    return from_episodes(
        {"action": [torch.cat(p) for p in parts], "sampled": sampled}, {"group": torch.zeros(len(parts))}
    )


def check(batch: Batch, wanted=None, architecture="llama") -> packing.Packing:
    """The states at the decisions before the sampled ones are those of transformers, each episode alone."""
    model = MODELS[architecture]
    wanted = batch.sampled.nonzero().squeeze(-1) - 1 if wanted is None else wanted
    target = torch.randn(len(wanted), SIZES["hidden_size"], generator=torch.Generator().manual_seed(3))

    def gradients(states):
        model.zero_grad()
        (states * target).sum().backward()
        return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in model.base_model.parameters()]

    alone = [
        model.base_model(batch["action"][batch.offsets[e] : batch.offsets[e + 1]].unsqueeze(0)).last_hidden_state[0]
        for e in range(len(batch))
    ]
    theirs = torch.cat(alone)[wanted]
    packed = packing.pack(batch, wanted)
    mine = language.hidden_states(model, packed)
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    for one, other in zip(gradients(mine), gradients(theirs), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5 * max(1.0, float(other.abs().max())), rtol=0)
    return packed


def tails(packed):
    return [rectangle.tails for rectangle in packed.rectangles if rectangle.tails is not None]


PROMPT, THOUGHT = text(9, 1), text(20, 2)

CASES = {
    "one": ([[PROMPT, text(7, 3)]], 0),
    "equal": ([[PROMPT, text(7, 3)]] * 4, 0),
    "group": ([[PROMPT, text(3 + 2 * seed, seed)] for seed in range(5)], 4),
    # some begin with all of another, some add nothing to it
    "nested": (
        [
            [PROMPT, THOUGHT],
            *([PROMPT, THOUGHT[:cut], text(1 + cut // 4, cut)] for cut in (20, 5, 12, 12, 0)),
            [PROMPT, THOUGHT[:11]],
            [PROMPT, text(20, 4), text(3, 5)],
            [PROMPT, text(20, 4), text(3, 6)],
        ],
        4,
    ),
    "prompts": ([[text(size, size), text(size // 2, 40 + size + n)] for size in (30, 4, 14) for n in range(3)], 6),
}


@pytest.mark.parametrize("architecture", llama.ARCHITECTURES)
@pytest.mark.parametrize("case", CASES)
def test_states_and_gradients_are_those_of_episodes_alone(case, architecture):
    parts, count = CASES[case]
    packed = check(episodes(*parts), architecture=architecture)
    asked = [place for part in tails(packed) for place in part.index.flatten()[... if part.own is None else part.own]]
    assert len(set(map(int, asked))) == len(asked)
    assert sum(len(part.index) for part in tails(packed)) == count


def test_what_is_beyond_the_wanted_decisions_is_left_out():
    batch = episodes(*([PROMPT, THOUGHT, text(12, seed)] for seed in range(4)))
    wanted = torch.tensor([15, 28, 41 + 30, 2 * 41 + 4, 3 * 41 + 34, 3 * 41 + 35])
    packed = check(batch, wanted)
    assert len(packed.tokens) == 36 + 2  # the fourth to its decision 35, and two tokens more of the second
    assert [part.index.shape for part in tails(packed)] == [(1, 2)]
    assert len(check(batch, wanted[:0]).tokens) == 0


@given(
    tree=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=9),
    share=st.sampled_from([0.01, 0.5]),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_any_tree(tree, share, seed):
    texts: list[torch.Tensor] = []
    for number, (parent, cut, size) in enumerate(tree):
        before = texts[parent % len(texts)][:cut] if texts else text(5, seed)
        texts.append(torch.cat([before, text(size, seed + number)]))
    texts = [one for one in texts if len(one) > 1] or [text(2, seed)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "TAIL_FROM", share)
        packed = check(episodes(*([one[:1], one[1:]] for one in texts)))
    assert len(packed.tokens) == len({tuple(one[:end].tolist()) for one in texts for end in range(1, len(one))})


def test_short_prompts_are_read_as_rows(monkeypatch):
    monkeypatch.undo()
    short = [[text(12, prompt), text(10 + 3 * n, 50 * prompt + n)] for prompt in range(4) for n in range(8)]
    assert not tails(check(episodes(*short)))
    long = [[text(90, prompt), text(5 + n, 50 * prompt + n)] for prompt in range(2) for n in range(8)]
    found = tails(check(episodes(*long)))
    assert sum(len(part.index) for part in found) == 14
    assert all(part.mask.shape[2] <= 12 for part in found)


def test_what_is_read_anew_is_what_the_episode_before_does_not_begin_with():
    batch = from_episodes(
        {"action": [torch.tensor(one) for one in ([1, 2, 3], [1, 2, 4, 5], [1, 2, 3], [7], [1, 2], [1, 2, 3])]},
        {"group": torch.zeros(6, dtype=torch.long)},
    )
    assert packing.read_anew(batch, torch.arange(6)).tolist() == [3, 2, 1, 1, 2, 1]
    assert packing.read_anew(batch, torch.tensor([0, 2, 5, 4])).tolist() == [3, 0, 0, 0]


def test_a_run_counts_what_it_reads():
    new, lengths, every = torch.tensor([5, 1, 1, 5, 1]), torch.tensor([5, 5, 5, 5, 5]), torch.arange(5)
    cut = [run.tolist() for run in language.runs(new, lengths, every, 8, every)]
    assert cut == [[0, 1, 2], [3, 4]]
    cut = [run.tolist() for run in language.runs(new, lengths, every, 6, every)]
    assert cut == [[0, 1], [2], [3, 4]]  # the third is read whole, as the first of its run
    pairs = torch.tensor([0, 0, 1, 1, 2])
    assert [run.tolist() for run in language.runs(new, lengths, every, 8, pairs)] == [[0, 1], [2, 3], [4]]
