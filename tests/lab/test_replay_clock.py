"""When readings are due."""

from __future__ import annotations

import numpy as np
import pytest

from detector.lab.replay_clock import ReplayClock

S = 1_000_000


class Clock:
    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("speed", "delay_s"), [(1.0, 20.0), (10.0, 2.0), (0.5, 40.0), (None, 0.0)])
def test_the_first_is_due_at_once_and_the_others_follow_from_it(speed: float | None, delay_s: float) -> None:
    clock = Clock()
    replay_clock = ReplayClock(speed, clock)
    assert replay_clock.delay_s(1_000 * S) == 0
    assert replay_clock.delay_s(1_020 * S) == pytest.approx(delay_s)
    clock.now += delay_s - 1 if speed else 0
    assert replay_clock.delay_s(1_020 * S) == pytest.approx(1.0 if speed else 0.0)
    clock.now += 5
    assert replay_clock.delay_s(1_020 * S) == 0


def test_what_is_due_keeps_its_order() -> None:
    clock = Clock()
    replay_clock = ReplayClock(2.0, clock)
    times = np.array([0, 1, 5, 3, 8]) * S
    assert replay_clock.due(times) == 1
    clock.now += 2.0
    assert replay_clock.due(times) == 2, "the older reading behind waits for the newer one before it"
    clock.now += 0.5
    assert replay_clock.due(times) == 4
    assert replay_clock.due(times[:0]) == 0
    assert ReplayClock(None, clock).due(times) == 5


@pytest.mark.parametrize("speed", [10.0, None])
def test_a_live_pace_catches_up_and_then_keeps_to_the_present(speed: float | None) -> None:
    clock, present = Clock(), Clock()  # the clock is at 50 s, and so is the present
    replay_clock = ReplayClock(speed, clock, present)
    times = np.array([20, 40, 50, 53]) * S
    assert replay_clock.due(times) == (1 if speed else 3)
    for now in (clock, present):
        now.now += 3.0  # at ten times the pace, 20 s have become 50 s
    assert replay_clock.due(times) == (3 if speed else 4)
    assert replay_clock.delay_s(56 * S) == pytest.approx(3.0)
    for now in (clock, present):
        now.now += 2.9
    assert replay_clock.due(times) == 4
    assert replay_clock.delay_s(56 * S) == pytest.approx(0.1)


def test_a_pace_that_stands_still_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        ReplayClock(0, Clock())
