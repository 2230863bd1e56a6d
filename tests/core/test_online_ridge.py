"""What a stream learns to read from its memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from detector.core.readout import EARLY_READINGS, KEPT, LEARNED_MAX, RENEWED_EARLY, RENEWED_READINGS, RIDGE, RunningReadout
from detector.core.running import COUNT_ACCEPTED
from detector.core.scaling import SCALED_MAX
from detector.core.states import Column, arrays_of
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

F4 = NDArray[np.float32]
ROW = np.zeros(1, np.int32)
UNITS, CHANNELS = 6, 2
LEARNED = ("readout_learned", "readout_gram", "readout_cross", "readout_own", "readout_weight", "readout_slope", "readout_error")


class Stream:
    """One stream, whose memory the test says."""

    def __init__(self, horizons: tuple[int, ...] = (1, 5)) -> None:
        self.readout = RunningReadout(CHANNELS, UNITS, horizons)
        others = {"h": Column("f4", (1, UNITS)), "last": Column("f4", (CHANNELS,))}
        self.states: dict[str, Any] = arrays_of(self.readout.columns() | others)

    def see(self, x: F4, h: F4, *, teaches: bool = True) -> F4:
        """Expect a reading, then learn from it, after which the memory is h."""
        expected, said = self.readout.expected(ROW, self.states["last"].copy(), self.states)
        self.states["h"][0, 0], self.states["last"][0] = h, np.where(np.isnan(x), self.states["last"][0], x)
        self.readout.learn(ROW, x[np.newaxis], said, np.array([teaches]), self.states)
        first: F4 = expected[0]
        return first

    def learned(self) -> list[bytes]:
        return [self.states[name].tobytes() for name in LEARNED]


def played(readings: int, seed: int = 0) -> tuple[F4, F4]:
    """Waves f4[T, D] whose phases the memory f4[T, H] holds, beside noise."""
    rng = np.random.default_rng(seed)
    phase = np.outer(np.arange(readings), (0.3, 0.07))
    x = (np.sin(phase) @ rng.standard_normal((2, CHANNELS)) + 0.01 * rng.standard_normal((readings, CHANNELS))).astype(np.float32)
    h = np.concatenate((np.sin(phase), np.cos(phase), 0.3 * rng.standard_normal((readings, UNITS - 4))), axis=1).astype(np.float32)
    return x, h


def test_a_wave_is_expected_ever_better() -> None:
    stream, (x, h) = Stream(), played(1_200)
    off = np.abs(np.array([stream.see(*each) for each in zip(x, h, strict=True)]) - x)
    step = np.abs(np.diff(x, axis=0)).mean()
    assert off[400:600].mean() < 0.7 * step
    assert off[1_000:].mean() < 0.4 * step
    assert off[20:60].mean() > off[400:600].mean()


def test_as_long_as_nothing_was_said_the_value_before_is_expected() -> None:
    stream, (x, h) = Stream((1, 5)), played(3)
    assert stream.see(x[0], h[0]) == pytest.approx([0, 0])
    assert stream.see(x[1], h[1]) == pytest.approx(x[0])


def test_it_is_the_ridge_regression_of_changes() -> None:
    readings, horizons = EARLY_READINGS + 3 * RENEWED_READINGS, (1, 5)
    stream, (x, h) = Stream(horizons), played(readings + 5)
    for each in zip(x, h, strict=True):
        stream.see(*each)
    assert stream.states["readout_learned"][0] == readings
    for k in range(CHANNELS):
        u = np.concatenate((h, np.ones((len(h), 1)), x[:, k : k + 1]), axis=1)[:readings]
        y = np.stack([x[ahead : readings + ahead, k] - x[:readings, k] for ahead in horizons], axis=1)
        age = np.power(float(KEPT), np.arange(readings)[::-1])
        weight = np.linalg.solve((age * u.T) @ u + RIDGE * np.eye(UNITS + 2), (age * u.T) @ y)
        assert stream.states["readout_weight"][0][:, k::CHANNELS] == pytest.approx(weight[:-1], abs=2e-4)
        assert stream.states["readout_slope"][0][k::CHANNELS] == pytest.approx(weight[-1], abs=2e-4)


def test_it_is_solved_for_now_and_then() -> None:
    stream, (x, h) = Stream((1,)), played(EARLY_READINGS + 2 * RENEWED_READINGS + 1)
    renewed, before = [], stream.states["readout_weight"].copy()
    for each in zip(x, h, strict=True):
        stream.see(*each)
        if (before != stream.states["readout_weight"]).any():
            renewed.append(int(stream.states["readout_learned"][0]))
            before = stream.states["readout_weight"].copy()
    assert renewed == [*range(RENEWED_EARLY, EARLY_READINGS + 1, RENEWED_EARLY), *range(EARLY_READINGS + 64, EARLY_READINGS + 129, 64)]


def test_it_is_solved_for_now_and_then_however_long_a_stream_lives() -> None:
    stream, (x, h) = Stream((1,)), played(3 * RENEWED_READINGS + 1)
    stream.see(x[0], h[0])
    stream.states["readout_learned"][0] = LEARNED_MAX
    before, renewed = stream.states["readout_weight"].copy(), 0
    for each in zip(x[1:], h[1:], strict=True):
        stream.see(*each)
        renewed += int((before != stream.states["readout_weight"]).any())
        before = stream.states["readout_weight"].copy()
    assert renewed == 3
    assert stream.states["readout_learned"][0] == LEARNED_MAX


def test_nothing_is_learned_from_what_does_not_teach() -> None:
    stream, (x, h) = Stream(), played(300)
    for each in zip(x[:200], h[:200], strict=True):
        stream.see(*each)
    learned = stream.learned()
    for each in zip(9 * x[200:], h[200:], strict=True):
        stream.see(*each, teaches=False)
    assert stream.learned() == learned


def test_after_an_accepted_alert_the_new_normal_is_learned_soon() -> None:
    stream, (x, h) = Stream(), played(1_300)
    for each in zip(x[:1_000], h[:1_000], strict=True):
        stream.see(*each)
    gram = stream.states["readout_gram"].copy()
    stream.readout.accept(0, stream.states)
    assert stream.states["readout_learned"][0] == COUNT_ACCEPTED
    assert stream.states["readout_gram"] == pytest.approx(gram * COUNT_ACCEPTED / 995, rel=1e-5)
    fewer = Stream()
    for each in zip(x[:50], h[:50], strict=True):
        fewer.see(*each)
    gram = fewer.states["readout_gram"].copy()
    fewer.readout.accept(0, fewer.states)
    assert (fewer.states["readout_gram"] == gram).all()  # nothing to forget yet


def test_a_horizon_that_errs_less_has_more_to_say() -> None:
    stream, (x, h) = Stream((1, 5)), played(300)
    for each in zip(x, h, strict=True):
        stream.see(*each)
    of_two = stream.readout.expected(ROW, x[-1:], stream.states)
    near, far = of_two[1][0, :CHANNELS], of_two[1][0, CHANNELS:]
    stream.states["readout_error"][0] = [0.01, 0.01, 1, 1]
    assert stream.readout.expected(ROW, x[-1:], stream.states)[0][0] == pytest.approx((100 * near + far) / 101, rel=1e-5)


def test_a_missing_value_counts_as_the_last_one_and_its_error_not_at_all() -> None:
    stream, (x, h) = Stream((1,)), played(200)
    x[::3, 1] = np.nan
    for each in zip(x, h, strict=True):
        assert np.isfinite(stream.see(*each)).all()
    error = stream.states["readout_error"].copy()
    stream.see(np.full(CHANNELS, np.nan, np.float32), h[-1])
    assert (stream.states["readout_error"] == error).all()
    assert np.isfinite(error).all()


@example([0.0, 0.0, 0.0, 0.0, 4.0, -20.0, 3.0, -20.0, 0.0], 0)  # both horizons say 20, and their mean was 20.000002
@given(st.lists(st.floats(-SCALED_MAX, SCALED_MAX, width=32), min_size=1, max_size=60), st.integers(0, 9))
def test_it_stays_finite_and_within_bounds_whatever_comes(values: list[float], seed: int) -> None:
    stream, rng = Stream((1, 3)), np.random.default_rng(seed)
    for value in values:
        expected = stream.see(np.array([value, -value], np.float32), rng.choice([-1, 0, 1], UNITS).astype(np.float32))
        assert np.abs(expected).max() <= SCALED_MAX


def test_a_memory_that_tells_nothing_new_for_long_keeps_its_readout_sound() -> None:
    """The same over and over: G is of rank one, and only the ridge makes it solvable."""
    stream = Stream((1,))
    for _ in range(5_000):
        expected = stream.see(np.ones(CHANNELS, np.float32), np.ones(UNITS, np.float32))
    assert expected == pytest.approx([1, 1], abs=1e-3)
