"""Alone = together, split = whole, chunked = whole, ours = transformers', written = read."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage.data.batch import Batch, from_episodes
from pilotage.data.tasks import Text
from pilotage.policies import generate, language, llama, llama_engine
from pilotage.policies.base import Minibatch
from pilotage.policies.language import TinyLanguageModel
from pilotage.policies.packing import pack, shared

TEXT = Text(max_tokens=16, alphabet="abcdefgh")
NAMES = frozenset({"logp", "entropy", "value"})


def make(architecture: str = "llama", **settings_) -> TinyLanguageModel:
    policy = TinyLanguageModel(TEXT, TEXT, architecture=architecture, hidden=32, critic=True, seed=0, **settings_)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return policy


POLICY = make(tokens_per_microbatch=40)


def ragged(lengths: list[int], seed: int = 0, share: float = 0.6) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    actions = [torch.randint(0, 11, (length,), generator=generator) for length in lengths]
    sampled = [torch.rand(length, generator=generator) < share for length in lengths]
    for mask in sampled:
        mask[:1] = False
    return from_episodes({"action": actions, "sampled": sampled}, {"group": torch.arange(len(lengths))})


def minibatch(batch: Batch) -> Minibatch:
    rows = batch.sampled.nonzero().squeeze(-1)
    return Minibatch(
        {name: column[rows] for name, column in batch.columns.items()},
        batch.owner[rows],
        torch.arange(len(rows)),
        batch,
    )


def rows(tokens: torch.Tensor) -> Batch:
    return from_episodes({"action": list(tokens)}, {"group": torch.arange(len(tokens))})


@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=12), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_split_is_whole(lengths, seed):
    batch = ragged(lengths, seed)
    whole = minibatch(batch)
    found = POLICY.quantities(whole, NAMES)
    seen = []
    for part in POLICY.split(whole):
        read = pack(part.episodes, torch.arange(part.episodes.decisions)).tokens
        assert len(part.episodes) == 1 or len(read) <= 40
        assert torch.equal(part["action"], whole["action"][part.index])
        assert torch.equal(part.owner, whole.owner[part.index])
        assert torch.equal(part["action"], part.episodes["action"][part.episodes.sampled])
        for name, value in POLICY.quantities(part, NAMES).items():
            torch.testing.assert_close(value, found[name][part.index], atol=1e-5, rtol=0)
        seen.append(part.index)
    assert sorted(torch.cat(seen).tolist() if seen else []) == list(range(len(whole)))


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "gpt2"])
def test_alone_is_together_and_transformers_agrees(architecture):
    policy = make(architecture)
    batch = ragged([3, 17, 9, 30, 2])
    whole = minibatch(batch)
    found = policy.quantities(whole, NAMES)
    for e in range(len(batch)):
        alone = policy.quantities(minibatch(batch.select(torch.tensor([e]))), NAMES)
        for name, value in alone.items():
            torch.testing.assert_close(value, found[name][whole.owner == e], atol=1e-5, rtol=0)
        tokens = batch["action"][batch.owner == e]
        mask = batch.sampled[batch.owner == e]
        logits = policy.model(tokens.unsqueeze(0)).logits[0].log_softmax(-1)
        logp = logits[:-1].gather(-1, tokens[1:, None]).squeeze(-1)[mask[1:]]
        torch.testing.assert_close(alone["logp"], logp, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", llama.ARCHITECTURES)
def test_by_hand_is_transformers_in_logits_and_gradients(architecture):
    policy = make(architecture)
    model = policy.model
    tokens = torch.randint(0, 11, (4, 23), generator=torch.Generator().manual_seed(2))
    keep = torch.arange(7, 80)

    theirs = model(tokens).logits.flatten(0, 1)[keep]
    theirs.square().mean().backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    mine = model.lm_head(llama.hidden(llama.fused(model, 23), pack(rows(tokens), keep)))
    mine.square().mean().backward()
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-6)
    for name, parameter in model.named_parameters():
        size = float(expected[name].abs().max())
        torch.testing.assert_close(parameter.grad / size, expected[name] / size, atol=1e-5, rtol=0)


@given(
    prompts=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    repeats=st.integers(1, 4),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_a_shared_beginning_is_read_once_and_changes_nothing(prompts, repeats, seed):
    generator = torch.Generator().manual_seed(seed)
    asked = [torch.randint(0, 11, (size,), generator=generator) for size in prompts]
    asked = [prompt for prompt in asked for _ in range(repeats)]
    said = [torch.randint(0, 11, (int(n),), generator=generator) for n in torch.randint(0, 20, (len(asked),))]
    batch = from_episodes(
        {
            "action": [torch.cat(pair) for pair in zip(asked, said, strict=True)],
            "sampled": [torch.arange(len(p) + len(a)) >= len(p) for p, a in zip(asked, said, strict=True)],
        },
        {"group": torch.arange(len(asked)) // repeats},
    )
    found = POLICY.quantities(minibatch(batch), NAMES)
    for e in range(len(batch)):
        alone = POLICY.quantities(minibatch(batch.select(torch.tensor([e]))), NAMES)
        for name, value in alone.items():
            torch.testing.assert_close(value, found[name][batch.owner[batch.sampled] == e], atol=1e-5, rtol=0)
    spoke = [e for e in range(len(batch)) if len(said[e])]
    whole = [torch.cat([asked[e], said[e]]).tolist() for e in spoke]
    beginnings = {tuple(tokens[:size]) for tokens in whole for size in range(1, len(tokens))}
    packed = pack(batch, batch.sampled.nonzero().squeeze(-1) - 1)
    assert len(packed.tokens) == len(beginnings)


@pytest.mark.parametrize("biases", [False, True])
def test_shared_key_heads_and_biases_agree_too(biases):
    shared = {"num_key_value_heads": 2, "num_attention_heads": 4, "hidden_size": 32, "num_hidden_layers": 2}
    sizes = {"vocab_size": 11, "intermediate_size": 64, "head_dim": 8, "max_position_embeddings": 64}
    choices = {"tie_word_embeddings": True, "attention_bias": biases, "mlp_bias": biases}
    model = language.new_model(shared | sizes | choices, "llama", 0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(4)))
    tokens = torch.randint(0, 11, (3, 9), generator=torch.Generator().manual_seed(2))
    expected = model(tokens).logits
    mine = model.lm_head(llama.hidden(llama.fused(model, 9), pack(rows(tokens), torch.arange(27)))).view_as(expected)
    torch.testing.assert_close(mine, expected, atol=1e-5, rtol=0)
    engine = llama_engine.LlamaEngine(model, 64)
    with torch.inference_mode():
        engine.prefill(tokens[:, :4], torch.tensor([4, 4, 4]), 8, torch.ones(3, dtype=torch.long))
        for t in range(4, 9):
            torch.testing.assert_close(engine.step(tokens[:, t]), expected[:, t], atol=1e-5, rtol=0)


def test_chunked_is_whole_in_values_and_gradients(monkeypatch):
    policy = make()
    whole = minibatch(ragged([30, 17, 9]))
    results = []
    for limit in (2**24, 11 * 12):
        monkeypatch.setattr(language, "CHUNK_ABOVE", limit)
        monkeypatch.setattr(language, "CHUNK", limit)
        policy.zero_grad()
        found = policy.quantities(whole, frozenset({"logp", "entropy"}))
        (found["logp"].sum() + found["entropy"].square().sum()).backward()
        gradients = torch.cat([p.grad.flatten() for p in policy.model.parameters()])
        results.append((found["logp"].detach(), found["entropy"].detach(), gradients))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


def test_values_stand_before_their_decision_and_final_values_after_all():
    policy = make()
    batch = ragged([5, 12, 3], share=2.0)  # all but the first token sampled
    whole = minibatch(batch)
    values = policy.quantities(whole, frozenset({"value"}))["value"]
    final = policy.final_values(batch)
    for e in range(len(batch)):
        tokens = batch["action"][batch.owner == e].unsqueeze(0)
        states = policy.critic.trunk(tokens).last_hidden_state[0]
        expected = policy.critic.head(states).squeeze(-1)
        torch.testing.assert_close(values[whole.owner == e], expected[:-1], atol=1e-5, rtol=0)
        torch.testing.assert_close(final[e], expected[-1].detach(), atol=1e-5, rtol=0)


def test_a_minibatch_without_sampled_tokens_is_empty_and_differentiable():
    whole = minibatch(ragged([4, 1, 6], share=-1.0))
    found = POLICY.quantities(whole, NAMES)
    assert {len(value) for value in found.values()} == {0}
    found["logp"].sum().backward()
    assert list(POLICY.split(whole)) == []


@pytest.mark.parametrize("architecture", llama.ARCHITECTURES)
def test_prompts_that_begin_alike_are_read_once_and_go_on_as_they_would(architecture):
    model = make(architecture).model
    generator = torch.Generator().manual_seed(5)
    trunk = torch.randint(0, 11, (20,), generator=generator)
    prompts = [torch.cat([trunk[:cut], torch.tensor([cut % 11])]) for cut in (4, 8, 8, 12, 16, 20, 3, 19)]
    together, lengths = generate.padded(prompts)
    assert shared(together, lengths) is not None
    assert shared(*generate.padded(list(torch.randint(0, 11, (4, 9), generator=generator)))) is None
    ours, theirs = llama_engine.LlamaEngine(model, 64), generate.TransformersEngine(model)
    with torch.inference_mode():
        torch.testing.assert_close(
            *(engine.prefill(together, lengths, 3, torch.ones_like(lengths)) for engine in (ours, theirs)),
            atol=1e-5,
            rtol=0,
        )
        for engine in (ours, theirs):
            engine.select(torch.tensor([0, 0, 3, 5, 7]))
        for token in (2, 9):
            tokens = torch.full((5,), token)
            torch.testing.assert_close(ours.step(tokens), theirs.step(tokens), atol=1e-5, rtol=0)


@pytest.fixture(params=["copied", "apart", "by cost"])
def past(request, monkeypatch):
    """Where rows find what was read: among their own columns, in blocks of like length, or where that costs less."""
    if request.param != "by cost":
        monkeypatch.setattr(llama_engine, "FOR_A_BLOCK", {"copied": 1e12, "apart": -1e12}[request.param])
    else:  # small enough for both to happen with tiny models
        monkeypatch.setattr(llama_engine, "FOR_A_BLOCK", 1000)
    return request.param


def grouped_model(architecture: str) -> torch.nn.Module:
    """Two query heads to a key head."""
    shape = {"num_key_value_heads": 2, "num_attention_heads": 4, "hidden_size": 32, "num_hidden_layers": 2}
    sizes = {"vocab_size": 11, "intermediate_size": 64, "head_dim": 8, "max_position_embeddings": 96}
    model = language.new_model(shape | sizes | {"tie_word_embeddings": True}, architecture, 0)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    return model


def logits_after(model, tokens):
    """Of the token after each row's, by one full pass a row."""
    return torch.stack([model(row.unsqueeze(0)).logits[0, -1] for row in tokens])


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.parametrize("lengths", [[60, 3, 41, 1, 44, 17, 58], [5, 5], [40]])
def test_rows_go_on_from_what_was_read_as_full_passes_do(architecture, lengths, past):
    model = grouped_model(architecture)
    generator = torch.Generator().manual_seed(len(lengths))
    prompts = [torch.randint(0, 11, (length,), generator=generator) for length in lengths]
    repeats = torch.tensor([3, 1, 4, 2, 1, 5, 2])[: len(prompts)]
    texts = [prompt for prompt, times in zip(prompts, repeats.tolist(), strict=True) for _ in range(times)]
    engine = llama_engine.LlamaEngine(model, 96)
    ways = set()
    with torch.inference_mode():
        found = engine.prefill(*generate.padded(prompts), 12, repeats)
        for _ in range(12):
            torch.testing.assert_close(found, logits_after(model, texts), atol=1e-5, rtol=1e-5)
            ways.add(bool(engine.blocks))
            if len(texts) > 2:  # some leave, in any order, until prompts have no rows and others many
                kept = torch.randperm(len(texts), generator=generator)[: -max(1, len(texts) // 4)]
                engine.select(kept)
                texts = [texts[row] for row in kept.tolist()]
            said = torch.randint(0, 11, (len(texts),), generator=generator)
            texts = [torch.cat([text, token.view(1)]) for text, token in zip(texts, said, strict=True)]
            found = engine.step(said)
        torch.testing.assert_close(found, logits_after(model, texts), atol=1e-5, rtol=1e-5)
    expected = {"copied": {False}, "apart": {True}, "by cost": {True, False} if len(lengths) > 2 else ways}
    assert ways == expected[past]


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_messages_are_those_of_transformers_and_of_each_prompt_alone(architecture, past):
    model = grouped_model(architecture)
    generator = torch.Generator().manual_seed(3)
    prompts = [torch.randint(0, 11, (length,), generator=generator) for length in (50, 2, 31, 96, 33, 7, 90)]
    repeats = [4, 3, 0, 2, 1, 5, 2]
    uniforms = torch.rand(sum(repeats), 20, generator=generator, dtype=torch.float64)
    limits = torch.randint(1, 21, (sum(repeats),), generator=generator).tolist()
    rules = {"ends": (10, 4), "context": 96}
    ours = generate.speak(
        llama_engine.LlamaEngine(model, 96), prompts, uniforms, repeats=repeats, limits=limits, **rules
    )
    theirs = generate.speak(
        generate.TransformersEngine(model), prompts, uniforms, repeats=repeats, limits=limits, **rules
    )
    assert len({len(tokens) for tokens in ours.tokens}) > 4
    row = 0
    for prompt, times in zip(prompts, repeats, strict=True):
        for _ in range(times):
            alone = generate.speak(
                llama_engine.LlamaEngine(model, 96), [prompt], uniforms[[row]], limits=limits[row : row + 1], **rules
            )
            for other, at in ((theirs, row), (alone, 0)):
                assert torch.equal(ours.tokens[row], other.tokens[at])
                assert ours.closed[row] == other.closed[at]
                torch.testing.assert_close(ours.logp[row], other.logp[at], atol=1e-5, rtol=0)
            row += 1


def test_what_was_read_is_held_once_however_many_rows_go_on(monkeypatch):
    monkeypatch.setattr(llama_engine, "FOR_A_BLOCK", 1000)
    model = grouped_model("llama")
    prompts = [torch.arange(length) % 11 for length in (64, 60, 12, 11)]
    held = []
    for times in (4, 32):
        engine = llama_engine.LlamaEngine(model, 96)
        with torch.inference_mode():
            engine.prefill(*generate.padded(prompts), 5, torch.full((4,), times))
        assert engine.keys.shape[1:] == (4 * times, 2, 8, 5)  # of their own, what they will write
        held.append(sum(block.keys.numel() + block.values.numel() for block in engine.blocks))
        assert [block.width for block in engine.blocks] == [64, 12]
    layers, key_heads, size = 2, 2, 8
    assert held == [2 * layers * key_heads * size * (2 * 64 + 2 * 12)] * 2
    with torch.inference_mode():  # a prompt without rows goes, and what is held with it
        engine.select(torch.arange(2 * 32, 3 * 32))
    assert sum(block.keys.numel() for block in engine.blocks) == layers * key_heads * size * 12
