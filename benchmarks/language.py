"""GRPO and generation on language models: ours against TRL and transformers, from the same weights."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import tiny
from benchmarks.measure import Measured
from benchmarks.sums import MOST_TOKENS, Sums, prompt, reward
from benchmarks.timing import clock, since
from pilotage.data.rng import Streams
from pilotage.data.tasks import Task
from pilotage.policies.characters import Characters
from pilotage.rollouts.messages import Messages

PROMPTS, GROUP = 32, 8
LEARNING_RATE, CLIP, MOST_NORM = 1e-4, 0.2, 1.0


def describe(lengths: Sequence[int], most: int) -> dict[str, float]:
    """Of completions: mean, quantiles, and the share that was cut."""
    found = {"mean_length": float(np.mean(lengths)), "cut": float(np.mean(np.asarray(lengths) >= most))}
    return found | {f"length_p{q}": float(np.percentile(lengths, q)) for q in (10, 50, 90, 99)}


def prompts(count: int) -> list[str]:
    """The same prompts for both sides."""
    rng = np.random.default_rng(0)
    return [prompt(rng) for _ in range(count)]


def tokenizer() -> Characters:
    """Ours, for counting; the peer's is its twin in the model's folder."""
    return Characters(Sums.observation.alphabet)


def _grpo_work(size: str, asked: Sequence[int], said: Sequence[int]) -> int:
    shape = tiny.SIZES[size].shape(tokenizer().size)
    return shape.generation(asked, said) + shape.training(asked, said)


class Overheard(Messages):
    """The library's own rollout, noting how long prompts and completions were."""

    prompts: list[int] = []  # noqa: RUF012  (the library makes the instance, so notes are kept on the class)
    completions: list[int] = []  # noqa: RUF012

    def converse(
        self, policy: Any, world: Any, tasks: list[Task], samples: int, streams: Streams, stream: str, step: int
    ) -> Any:
        batch = super().converse(policy, world, tasks, samples, streams, stream, step)
        said = batch.total(batch.sampled.long())
        Overheard.prompts += (batch.lengths - said)[::samples].tolist()
        Overheard.completions += said.tolist()
        return batch


def grpo_ours(*, size: str, rounds: int) -> Callable[[], Measured]:
    """Runs through the library's own loop: generation, verdicts by the guarded verifier, update, log."""
    from benchmarks.ours import recipe, timed_run

    folder = tiny.to_folder(size, Path(tempfile.mkdtemp(prefix="pilotage-bench-")))
    made = recipe(
        "grpo",
        "benchmarks.sums:Sums",
        {
            "policy.tokens_per_microbatch": 4096,
            "prompts_per_step": PROMPTS,
            "samples_per_prompt": GROUP,
            "terms.policy.optimiser.learning_rate": LEARNING_RATE,
            "terms.policy.max_grad_norm": MOST_NORM,
            "terms.policy.objectives.policy.loss.low": CLIP,
            "terms.policy.objectives.policy.loss.high": CLIP,
        },
        policy=f"hf:{folder}",
    ).vary("benchmark", {"rollout.use": f"{Overheard.__module__}:{Overheard.__qualname__}"})

    def repeat() -> Measured:
        Overheard.prompts, Overheard.completions = [], []
        seconds, processor, metrics = timed_run(made, rounds)
        count = rounds * PROMPTS * GROUP
        asked, said = Overheard.prompts[: rounds * PROMPTS], Overheard.completions[:count]
        facts = {**describe(said, MOST_TOKENS), "reward": metrics[-1]["train/reward"]}
        return Measured(count, seconds, processor, _grpo_work(size, asked, said), facts)

    return repeat


def grpo_peer(*, size: str, rounds: int, microbatch: int = 32) -> Callable[[], Measured]:
    """TRL's GRPOTrainer; `microbatch` rows at a time through the update."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    folder = tiny.to_folder(size, Path(tempfile.mkdtemp(prefix="pilotage-bench-")))
    texts = prompts(PROMPTS * rounds)
    characters = tokenizer()
    heard: dict[str, list[Any]] = {"said": [], "asked": [], "rewards": []}

    def judge(prompts: list[str], completions: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        heard["asked"] += [len(characters.encode(text, prompt=True)) for text in prompts[::GROUP]]
        heard["said"] += [len(ids) for ids in completion_ids]
        # not `completions`: the twin tokenizer puts spaces between characters when it decodes
        found = [reward(characters.decode(ids)) for ids in completion_ids]
        heard["rewards"].append(float(np.mean(found)))
        return found

    class Clock(TrainerCallback):  # type: ignore[misc]
        began = ended = (0.0, 0.0)

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 0:
                self.began = clock()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.ended = clock()

    def repeat() -> Measured:
        for notes in heard.values():
            notes.clear()
        ticking = Clock()
        with tempfile.TemporaryDirectory(prefix="trl-bench-") as aside:
            settings = GRPOConfig(
                output_dir=aside,
                use_cpu=True,
                bf16=False,
                gradient_checkpointing=False,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                max_steps=rounds,
                per_device_train_batch_size=microbatch,
                gradient_accumulation_steps=PROMPTS * GROUP // microbatch,
                num_generations=GROUP,
                max_completion_length=MOST_TOKENS,
                temperature=1.0,
                top_p=1.0,
                top_k=0,
                beta=0.0,
                epsilon=CLIP,
                loss_type="grpo",
                scale_rewards="group",
                learning_rate=LEARNING_RATE,
                lr_scheduler_type="constant",
                max_grad_norm=MOST_NORM,
                weight_decay=0.0,
                shuffle_dataset=False,
                dataloader_pin_memory=False,
            )
            trainer = GRPOTrainer(
                model=AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32),
                processing_class=AutoTokenizer.from_pretrained(folder),
                reward_funcs=judge,
                args=settings,
                train_dataset=Dataset.from_list([{"prompt": text} for text in texts]),
                callbacks=[ticking],
            )
            trainer.train()
        seconds, processor = (b - a for a, b in zip(ticking.began, ticking.ended, strict=True))
        facts = {**describe(heard["said"], MOST_TOKENS), "reward": heard["rewards"][-1]}
        work = _grpo_work(size, heard["asked"], heard["said"])
        return Measured(rounds * PROMPTS * GROUP, seconds, processor, work, facts)

    return repeat


def generate_ours(*, size: str, ends: bool, rows: int, most: int) -> Callable[[], Measured]:
    """`speak` on distinct prompts, its random numbers drawn within what is timed."""
    policy = tiny.make(size, ends=ends)
    asked = [torch.tensor(policy.encode(text, prompt=True)) for text in prompts(rows)]
    streams, drawn = Streams(0), iter(range(10**9))

    def repeat() -> Measured:
        began = clock()
        uniforms = streams.generator("benchmark", next(drawn)).random((rows, most))
        said = policy.speak(asked, torch.from_numpy(uniforms))
        seconds = since(began)
        return _generated(size, [len(p) for p in asked], [len(tokens) for tokens in said.tokens], most, seconds)

    return repeat


def generate_peer(*, size: str, ends: bool, rows: int, most: int) -> Callable[[], Measured]:
    """transformers' `generate`, sampling from the whole distribution, prompts padded on the left."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory(prefix="pilotage-bench-") as aside:
        folder = tiny.to_folder(size, Path(aside), ends=ends)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        encoder = AutoTokenizer.from_pretrained(folder, padding_side="left")
    given = encoder(prompts(rows), return_tensors="pt", padding=True)
    asked = given["attention_mask"].sum(1).tolist()
    end = encoder.eos_token_id
    torch.manual_seed(0)

    def repeat() -> Measured:
        began = clock()
        with torch.inference_mode():
            out = model.generate(
                input_ids=given["input_ids"],
                attention_mask=given["attention_mask"],
                do_sample=True,
                top_k=0,
                top_p=1.0,
                temperature=1.0,
                max_new_tokens=most,
                eos_token_id=end,
                pad_token_id=end,
            )
        seconds = since(began)
        new = out[:, given["input_ids"].shape[1] :]
        before_end = (new == end).long().cumsum(1).eq(0).sum(1)
        return _generated(size, asked, (before_end + 1).clamp(max=most).tolist(), most, seconds)

    return repeat


def _generated(
    size: str, asked: Sequence[int], said: Sequence[int], most: int, seconds: tuple[float, float]
) -> Measured:
    work = tiny.SIZES[size].shape(tokenizer().size).generation(asked, said)
    return Measured(sum(said), *seconds, work, describe(said, most))
