"""A run leaves the process's arithmetic as it found it."""

import gc

import pytest
import torch

from helpers import control_recipe
from pilotage import api
from pilotage.engines.local import tiny_numbers_flushed, what_is_there_kept

TINY = 1e-310


def flushed() -> bool:
    return bool((torch.tensor(TINY, dtype=torch.float64) * 1.0) == 0)


@pytest.fixture(params=[False, True])
def before(request):
    torch.set_flush_denormal(request.param)
    yield request.param
    torch.set_flush_denormal(False)


def test_tiny_numbers_are_flushed_within_only(before):
    with tiny_numbers_flushed():
        assert flushed()
    assert flushed() == before
    with pytest.raises(RuntimeError, match="inside"), tiny_numbers_flushed():
        raise RuntimeError("inside")
    assert flushed() == before


def test_a_run_leaves_arithmetic_alone(tmp_path):
    api.train(control_recipe("ppo", "toy_worlds:Line"), out=tmp_path / "run")
    assert not flushed()


def test_what_is_there_is_left_alone_by_the_collector_for_a_while():
    with what_is_there_kept():
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() == 0
