"""Two gloo processes with half the groups each take the steps that one takes with all of them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pilotage.data.piece import UsageError
from pilotage.engines.processes import VARIABLES, Processes

WORKER = Path(__file__).with_name("worker.py")
# mean and deviation of the batch; those of all steps so far; a critic, and advantages standardised over the batch
SAME = ["language", "running", "control", "pairs"]
UNEQUAL = ["minibatches", "starved"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """`found(case, size)`: what each process of that size found; all were run side by side, once."""
    folder = tmp_path_factory.mktemp("processes")
    plain = {k: v for k, v in os.environ.items() if k not in VARIABLES}
    plain["PYTHONPATH"] = os.pathsep.join([str(WORKER.parent.parent), os.environ.get("PYTHONPATH", "")])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, str(WORKER), str(folder), *SAME]
    jobs = [(command, plain)]
    jobs += [([*command, *UNEQUAL, "sick"], {**plain, **shared, "RANK": rank}) for rank in ("0", "1")]
    children = [subprocess.Popen(job, env=env, stderr=subprocess.PIPE) for job, env in jobs]
    try:
        for child in children:
            _, said = child.communicate(timeout=200)
            assert child.returncode == 0, said.decode()
    finally:
        for child in children:
            child.kill()
            child.wait()
    return lambda case, size: [json.loads((folder / f"{case}-{size}-{r}.json").read_text()) for r in range(size)]


@pytest.mark.parametrize("case", SAME)
def test_two_are_one(found, case):
    (alone,), both = found(case, 1), found(case, 2)
    assert both[0]["parameters"] == both[1]["parameters"]
    assert len(alone["steps"]) == 2
    for one, *others in zip(alone["steps"], *[process["steps"] for process in both], strict=True):
        assert one["policy/gradient_norm"] > 1e-3
        for other in others:
            assert other["policy/gradient_norm"] == pytest.approx(one["policy/gradient_norm"], rel=1e-6)
            assert other["policy/loss"] == pytest.approx(one["policy/loss"], rel=1e-5, abs=1e-7)
            assert other["optimiser_steps"] == one["optimiser_steps"] == 1
    torch.testing.assert_close(
        torch.tensor(both[0]["parameters"]), torch.tensor(alone["parameters"]), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("case", UNEQUAL)
def test_processes_with_unequal_shares_keep_in_step(found, case):
    both = found(case, 2)
    assert both[0]["parameters"] == both[1]["parameters"]
    assert both[0]["steps"] == both[1]["steps"]
    assert [step["optimiser_steps"] for step in both[0]["steps"]] == [3, 3]


def test_a_loss_that_is_none_in_one_process_stops_all(found):
    both = found("sick", 2)
    assert both[0]["said"] == both[1]["said"] == "the loss of term 'policy' is nan at step 1"
    assert both[0]["parameters"] == both[1]["parameters"]


def test_processes_are_started_by_torchrun(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match="RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT not set: start"):
        Processes()


@pytest.mark.parametrize("address", ["192.0.2.7", "10.0.0.1"])
def test_no_other_machine_is_asked(monkeypatch, address):
    for name, value in zip(VARIABLES, ["0", "1", address, "29500"], strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=f"MASTER_ADDR is '{address}'"):
        Processes()
