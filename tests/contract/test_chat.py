"""Conversations through a model's own chat template, questions after worked ones, any folder by the same command."""

import itertools

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from helpers import metrics
from pilotage import api
from pilotage.data.batch import Stop
from pilotage.data.piece import UsageError
from pilotage.data.rng import Streams
from pilotage.data.tasks import TURN, Task
from pilotage.policies.pretrained import PretrainedLanguageModel, Subwords
from pilotage.rollouts.messages import Messages
from pilotage.worlds.base import Outcome
from pilotage.worlds.reasoning import ReasoningWorld
from pilotage.worlds.text import place
from toy_worlds import Echo

BEGIN = "{% if add_generation_prompt %}"
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    + BEGIN
    + "<|im_start|>assistant\n{% endif %}"
)
HEADED = (
    "<|begin|>{% for m in messages %}<|head|>{{ m.role }}<|head|>\n\n{{ m.content }}<|eot|>{% endfor %}"
    + BEGIN
    + "<|head|>assistant<|head|>\n\n{% endif %}"
)
BRACKETS = (
    "<s>{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}{{ m.content }}</s>"
    "{% endif %}{% endfor %}"
)
UNCLOSED = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}" + BEGIN + "assistant: {% endif %}"
# template, the tokenizer's own end, those of the model, and what closes a message first
TEMPLATES = {
    "chatml": (CHATML, "<|im_end|>", [], "<|im_end|>"),
    "chatml-on-a-base-model": (CHATML, "<|text|>", ["<|text|>"], "<|im_end|>"),
    "headed": (HEADED, "<|text|>", ["<|eot|>", "<|text|>"], "<|eot|>"),
    "brackets": (BRACKETS, "</s>", ["</s>"], "</s>"),
    "unclosed": (UNCLOSED, "<|text|>", [], "<|text|>"),
}
SPECIALS = ["<|im_start|>", "<|im_end|>", "<|begin|>", "<|head|>", "<|eot|>", "<|text|>", "<s>", "</s>"]
TALK = ["What is 3 + 4?", "It is 7.", "And twice that?\n", "14", "Thanks, and half?", "7"]


def of_bytes(template: str | None, end: str) -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes with special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    found = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end, additional_special_tokens=SPECIALS)
    found.chat_template = template
    return found


def subwords(name: str) -> Subwords:
    template, end, ends, _ = TEMPLATES[name]
    tokenizer = of_bytes(template, end)
    return Subwords(tokenizer, [tokenizer.convert_tokens_to_ids(one) for one in ends])


def messages(texts):
    return [
        {"role": role, "content": text}
        for role, text in zip(itertools.cycle(("user", "assistant")), texts, strict=False)
    ]


def whole(tokenizer, texts, **options) -> list[int]:
    """The conversation as transformers has it, in one piece."""
    return tokenizer.apply_chat_template(messages(texts), return_dict=False, **options)


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "unclosed"])
def test_turn_by_turn_is_the_whole_conversation(name):
    ours = subwords(name)
    closing = ours.tokenizer.convert_tokens_to_ids(TEMPLATES[name][3])
    assert ours.ends[0] == closing
    so_far: list[int] = []
    for asked, answer in zip(TALK[::2], TALK[1::2], strict=True):
        so_far += ours.encode(asked, prompt=True, after=so_far[-1] if so_far else None)
        told = TALK[: TALK.index(asked) + 1]
        assert so_far == whole(ours.tokenizer, told, add_generation_prompt=True)
        so_far += [*ours.encode(answer, prompt=False), closing]
    assert so_far == whole(ours.tokenizer, TALK)[: len(so_far)]


def test_a_cut_answer_is_closed_before_the_next_turn_and_any_end_counts():
    ours = subwords("chatml-on-a-base-model")
    closing, other = ours.ends
    first = ours.encode(TALK[0], prompt=True)
    cut = [*first, *ours.encode(TALK[1], prompt=False)]
    cut += ours.encode(TALK[2], prompt=True, after=cut[-1])
    assert cut == whole(ours.tokenizer, TALK[:3], add_generation_prompt=True)
    ended = ours.encode(TALK[2], prompt=True, after=other)
    assert ended == ours.encode(TALK[2], prompt=True, after=closing)
    assert closing not in ended[:1]


def test_a_template_that_closes_nothing_still_parts_turns():
    ours = subwords("unclosed")
    (end,) = ours.ends
    assert ours.encode("b", prompt=True, after=end) == ours.encode("\nuser: b\nassistant: ", prompt=False)
    assert ours.encode("b", prompt=True, after=5) == [end, *ours.encode("\nuser: b\nassistant: ", prompt=False)]


def test_without_a_template_later_turns_are_bare():
    ours = Subwords(of_bytes(None, "</s>"), [])
    assert ours.encode("ab", prompt=True, after=3) == ours.encode("ab", prompt=False)
    assert ours.encode(f"a{TURN}b", prompt=True) == ours.encode("a\nb", prompt=False)


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_a_text_may_be_a_conversation(name):
    ours = subwords(name)
    expected = whole(ours.tokenizer, TALK[:3], add_generation_prompt=True)
    assert ours.encode(TURN.join(TALK[:3]), prompt=True) == expected


class Twice(Echo):
    """Asks once more after the first answer."""

    def step(self, actions, lanes) -> Outcome:
        found = super().step(actions, lanes)
        again = [lane for lane in lanes if lane not in self.__dict__.setdefault("heard", set())]
        self.heard.update(again)
        self._open().update({lane: Task(answer="1") for lane in again})
        found.terminated[:] = [lane not in again for lane in lanes]
        return Outcome(["go on"] * len(lanes), found.reward, found.terminated, found.truncated, {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Hugging Face folder of a tiny chat model."""
    path = tmp_path_factory.mktemp("chat")
    tokenizer = of_bytes(CHATML, "<|im_end|>")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ends = [tokenizer.eos_token_id, *range(30)]  # so that some messages close, with one end token or another
        config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=512, **sizes)
        model = LlamaForCausalLM(config)
        model.generation_config.eos_token_id = ends
        model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def test_the_record_of_two_turns_reads_as_the_template_writes_it(folder):
    world = Twice()
    policy = PretrainedLanguageModel(world.observation, world.action, path=str(folder), seed=0)
    batch = Messages().converse(policy, world, [Task(prompt="12=", answer="12")], 12, Streams(0), "rollout", 0)
    framing = policy.tokenizer.tokenizer.encode("\n<|im_start|>user\ngo on<|im_end|>\n<|im_start|>assistant\n")
    closing = policy.end_token
    closed = 0
    for i in range(len(batch)):
        tokens, turn, said = (batch[name][batch.owner == i] for name in ("action", "turn", "sampled"))
        first, heard = tokens[(turn == 0) & said], tokens[(turn == 1) & ~said].tolist()
        ended = int(first[-1]) in policy.tokenizer.ends
        closed += ended
        assert heard == (framing if ended else [closing, *framing])
    assert 0 < closed < len(batch)


def test_a_conversation_that_outgrows_the_context_is_cut_and_counted(folder):
    world = Twice()
    policy = PretrainedLanguageModel(world.observation, world.action, path=str(folder), seed=0)
    short, long = (Task(prompt=text, answer="1") for text in ("1=", "1" * 400 + "="))
    policy.context = len(policy.encode(short.prompt, prompt=True)) + 20  # room for one answer, not for two
    batch = Messages().converse(policy, world, [short, long], 4, Streams(0), "rollout", 0)
    assert batch["stop"].tolist() == [int(Stop.LENGTH)] * 4 + [int(Stop.INVALID)] * 4
    assert batch.valid.tolist() == [True] * 4 + [False] * 4
    assert all("fills the context" in reason for reason in batch.notes["reason"][4:])
    assert batch.total(batch.sampled.long())[4:].tolist() == [0] * 4
    assert bool(torch.isfinite(batch.returns).all())


def test_the_same_command_takes_a_folder(folder, tmp_path):
    sizes = {"steps": 2, "prompts_per_step": 2, "samples_per_prompt": 3, "evaluation.tasks": 2, "evaluation.every": 0}
    sizes |= {"world.time_limit": None, "learning_rate": 1e-3, "world.partial_credit": True}
    made = api.recipe("grpo", "reasoning:chain_sum", f"hf:{folder}", settings={**sizes, "policy.lora_rank": 2})
    assert made.world.settings["prompt_style"] == "chat"
    run = api.train(made, out=tmp_path / "run")
    steps = [record for record in metrics(run.folder) if record["kind"] == "train"]
    assert len(steps) == 2
    assert all(record["mismatch/max"] < 1e-4 for record in steps if "mismatch/max" in record)
    assert run.load().policy.facts()["trained"] < 10_000


def test_what_a_pretrained_policy_takes_where_nobody_says_otherwise(folder):
    usual = api.recipe("grpo", "reasoning:chain_sum", f"hf:{folder}")
    assert (usual.steps, usual.prompts_per_step, usual.samples_per_prompt) == (30, 8, 8)
    assert usual.get("terms.policy.optimiser.learning_rate") == 1e-5
    adapted = api.recipe("grpo", "reasoning:chain_sum", f"hf:{folder}", settings={"policy.lora_rank": 4})
    assert adapted.get("terms.policy.optimiser.learning_rate") == 5e-4
    asked = {"world.prompt_style": "full", "steps": 7, "learning_rate": 1e-6}
    said = api.recipe("grpo", "reasoning:chain_sum", f"hf:{folder}", settings=asked)
    assert said.world.settings["prompt_style"] == "full"
    assert said.steps == 7
    assert said.get("terms.policy.optimiser.learning_rate") == 1e-6
    assert said.prompts_per_step == 8
    assert api.recipe("grpo", "toy_worlds:Echo", f"hf:{folder}").steps == 30  # a world without such a setting


class TestQuestionsAfterWorkedOnes:
    def test_examples_are_for_training_worded_right_and_never_the_question_itself(self):
        world = ReasoningWorld(prompt_style="chat", settings={"max_digits": 1}, time_limit=None)
        shown = {world.task(key, "train").prompt: world.task(key, "train") for key in range(400)}
        for task in [*shown.values(), *(world.task(key, "held_out") for key in range(50))]:
            *worked, question = task.shown.split(TURN)
            assert question == task.prompt
            assert len(worked) == 4
            assert task.prompt not in worked[::2]
            assert all(place(one) >= world.held_out_share for one in worked[::2])
            examples = [(shown[one], answer) for one, answer in zip(worked[::2], worked[1::2], strict=True)]
            assert [verdict.reward for verdict in world.judge(examples)] == [1.0, 1.0]
        assert {len(task.shown.split(TURN)) for task in shown.values()} == {5}

    def test_instructions_stand_below_every_question_and_other_words_keep_them(self):
        world = ReasoningWorld(prompt_style="chat", examples=1, instruction="Only the equation.", time_limit=None)
        task = world.task(0, "train")
        asked, _, question = task.shown.split(TURN)
        assert asked.endswith("\nOnly the equation.")
        assert question == task.prompt + "\nOnly the equation."
        again = world.phrase("improve", task, answer="3")
        assert again.split(TURN)[0] == asked
        assert again.endswith("\nOnly the equation.")
        assert "An earlier answer was: 3" in again

    @pytest.mark.parametrize("dataset", ["chain_sum", "products", "basic_arithmetic", "letter_counting"])
    def test_answers_as_shown_are_right_and_fit(self, dataset):
        world = ReasoningWorld(dataset=dataset, prompt_style="chat", time_limit=None)
        tasks = [world.task(key, "held_out") for key in range(30)]
        rng = np.random.default_rng(0)
        answers = [world.demonstrate(task, rng) for task in tasks]
        assert {verdict.reward for verdict in world.judge(list(zip(tasks, answers, strict=True)))} == {1.0}
        assert max(map(len, answers)) < world.action.max_tokens

    def test_mistakes(self):
        with pytest.raises(UsageError, match="full question"):
            ReasoningWorld(examples=2)
        with pytest.raises(UsageError, match="number of worked problems"):
            ReasoningWorld(prompt_style="chat", examples=-1)
        with pytest.raises(UsageError, match="no 3 worked problems to show: set examples=0"):
            ReasoningWorld(dataset="rush_hour", prompt_style="chat").task(0, "train")
