"""Switches go on and off where they say, and keep their state."""

import pytest

from pilotage.data.piece import UsageError
from pilotage.learn.schedules import step
from pilotage.learn.switches import Hysteresis, Step


def test_a_step_goes_on_once():
    assert [Step(2)(n) for n in range(4)] == [False, False, True, True]
    assert Step()(0)
    with pytest.raises(UsageError, match="step 0 or later"):
        Step(-1)


def test_hysteresis_stays_as_it_is_in_between():
    switch = Hysteresis(0.6, 0.3)
    assert [switch(x) for x in (0.5, 0.59, 0.6, 0.5, 0.31, 0.3, 0.5, 0.7, 0.0)] == [
        False, False, True, True, True, False, False, True, False,
    ]  # fmt: skip


def test_hysteresis_takes_nothing_from_what_is_not_known():
    switch = Hysteresis(0.6, 0.3)
    assert switch(0.9)
    assert switch(float("nan"))


def test_its_state_goes_on():
    one, other = Hysteresis(0.6, 0.3), Hysteresis(0.6, 0.3)
    one(0.9)
    other.load_state_dict(one.state_dict())
    assert other(0.5)


@pytest.mark.parametrize(("on", "off"), [(0.3, 0.3), (0.3, 0.6), (float("nan"), 0.1)])
def test_a_switch_that_cannot_stay_is_refused(on, off):
    with pytest.raises(UsageError, match="goes off below where it goes on"):
        Hysteresis(on, off)


def test_a_rate_falls_in_a_step():
    assert [step(p, at=0.5, final=0.2) for p in (0.0, 0.49, 0.5, 0.99)] == [1.0, 1.0, 0.2, 0.2]
