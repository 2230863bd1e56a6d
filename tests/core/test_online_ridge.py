"""The forecast that a stream learns from its memory."""

from __future__ import annotations

from math import isqrt

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core import online_ridge
from detector.core.arithmetic import LANES, copy
from detector.core.compiled import entry
from detector.core.compiled_model import Described, compile_model, of_rows
from detector.core.forecast import HORIZONS, SCALED_MAX
from detector.core.limits import COUNT_MAX
from detector.core.online_ridge import KEPT, PENDING, RIDGE, SOLVE_EVERY
from detector.core.scaler import YOUNG_READINGS
from detector.core.stream_state import part
from tests.core.builders import Records

F4 = NDArray[np.float32]
UNITS, CHANNELS, LONGEST = 6, 2, HORIZONS[-1]
LEARNED = ("gram", "total", "cross", "own", "weight", "constant", "value_weight", "error")


@entry
def see(heads, floats, at_of, model, room, x, h, may_learn, expected):  # type: ignore[no-untyped-def]
    s, at, m, b = heads[0], at_of[0], model[0], room.floats
    copy(part(floats, at.fed, x.shape[0]), part(b, m.expected, x.shape[0]))
    online_ridge.forecast_of(s, floats, at, m, 0, b)
    copy(part(b, m.expected, x.shape[0]), expected)
    copy(x, part(b, m.x, x.shape[0]))
    copy(h, part(floats, at.hidden, h.shape[0]))
    for k in range(x.shape[0]):
        if not np.isnan(x[k]):
            floats[at.fed + k] = x[k]
    online_ridge.learn(s, floats, at, m, 0, may_learn, b, room.doubles)
    s.readings += 1


@entry
def reset(heads, floats, at_of):  # type: ignore[no-untyped-def]
    online_ridge.reset_sums(heads[0], floats, at_of[0])


class Stream:
    """One stream, whose memory the test says."""

    def __init__(self) -> None:
        memory = (1, UNITS)
        self.record = Records([("hidden", memory, 0), ("cell", memory, 0), ("fed", (CHANNELS,), 0), *online_ridge.parts(CHANNELS, UNITS)])
        room = {name: of_rows(CHANNELS) for name in ("expected", "x")}
        sizes = Described({"channels": CHANNELS, "hidden": UNITS, "layers": 1}, {}, room, {})
        (self._at, self._model, _, _), self._room = compile_model(self.record.layout, [sizes, online_ridge.describe(CHANNELS, UNITS)])

    def see(self, x: F4, h: F4, *, may_learn: bool = True) -> F4:
        """Forecast a reading, then learn from it, after which the memory is h. Where it is missing, the last value is fed."""
        expected = np.empty(CHANNELS, np.float32)
        see(self.record.heads, self.record.floats[0], self._at, self._model, self._room, x, h, may_learn, expected)
        return expected

    def at_horizons(self) -> F4:
        """What was forecast of the last reading at each horizon, [K, D]."""
        start, outputs = int(self._model["ridge_at_horizons"][0]), len(HORIZONS) * CHANNELS
        return self._room.floats[start : start + outputs].reshape(-1, CHANNELS).copy()

    def reset(self) -> None:
        reset(self.record.heads, self.record.floats[0], self._at)

    @property
    def readings(self) -> int:
        """Learned from."""
        return int(self.record.heads["ridge_readings"][0])

    def learned(self) -> list[bytes]:
        return [self.record.part(name).tobytes() for name in LEARNED]


def played(readings: int, seed: int = 0) -> tuple[F4, F4]:
    """Waves f4[T, D] whose phases the memory f4[T, H] holds, beside noise."""
    rng = np.random.default_rng(seed)
    phase = np.outer(np.arange(readings), (0.3, 0.07))
    x = (np.sin(phase) @ rng.standard_normal((2, CHANNELS)) + 0.01 * rng.standard_normal((readings, CHANNELS))).astype(np.float32)
    h = np.concatenate((np.sin(phase), np.cos(phase), 0.3 * rng.standard_normal((readings, UNITS - 4))), axis=1).astype(np.float32)
    return x, h


def shown(readings: int, stream: Stream | None = None) -> Stream:
    """A stream that has seen so many readings of the waves."""
    stream = stream or Stream()
    for each in zip(*played(readings), strict=True):
        stream.see(*each)
    return stream


def test_a_wave_is_forecast_ever_better() -> None:
    stream, (x, h) = Stream(), played(1_200)
    off = np.abs(np.array([stream.see(*each) for each in zip(x, h, strict=True)]) - x)
    step = np.abs(np.diff(x, axis=0)).mean()
    assert off[400:600].mean() < 0.7 * step
    assert off[1_000:].mean() < 0.4 * step
    assert off[20:60].mean() > off[400:600].mean()


def test_as_long_as_nothing_was_learned_the_value_before_is_expected() -> None:
    """At the first horizon at once, later the mean with those five and ten readings before."""
    stream, (x, h) = Stream(), played(12)
    found = [stream.see(*each) for each in zip(x, h, strict=True)]
    assert found[0] == pytest.approx([0, 0])
    assert found[1] == pytest.approx(x[0])
    assert found[7] == pytest.approx((x[6] + x[2]) / 2)
    assert found[10] == pytest.approx((x[9] + x[5] + x[0]) / 3, rel=1e-5)


def test_it_is_the_ridge_regression_of_changes() -> None:
    readings = 24**2  # solved for in every 24th
    stream, (x, h) = shown(readings + LONGEST), played(readings + LONGEST)
    assert stream.readings == readings
    panels, constant = stream.record.part("weight"), stream.record.part("constant")
    outputs = np.concatenate(panels, axis=1)
    for k in range(CHANNELS):
        u = np.concatenate((h, np.ones((len(h), 1)), x[:, k : k + 1]), axis=1)[:readings]
        y = np.stack([x[ahead : readings + ahead, k] - x[:readings, k] for ahead in HORIZONS], axis=1)
        age = np.power(float(KEPT), np.arange(readings)[::-1])
        weight = np.linalg.solve((age * u.T) @ u + RIDGE * np.eye(UNITS + 2), (age * u.T) @ y)
        of_channel = slice(k, len(HORIZONS) * CHANNELS, CHANNELS)
        assert outputs[:, of_channel] == pytest.approx(weight[:UNITS], abs=2e-4)
        assert constant[of_channel] == pytest.approx(weight[UNITS], abs=2e-4)
        assert stream.record.part("value_weight")[of_channel] == pytest.approx(weight[-1], abs=2e-4)
    assert not outputs[:, len(HORIZONS) * CHANNELS :].any()
    assert panels.shape[2] == LANES


def test_it_is_solved_for_now_and_then() -> None:
    readings = SOLVE_EVERY * (SOLVE_EVERY + 3)
    stream, (x, h) = Stream(), played(readings + LONGEST)
    solved, before = [], stream.record.part("weight").copy()
    for each in zip(x, h, strict=True):
        stream.see(*each)
        if (before != stream.record.part("weight")).any():
            solved.append(stream.readings)
            before = stream.record.part("weight").copy()
    assert solved == [n for n in range(1, readings + 1) if n % min(max(isqrt(n), PENDING), SOLVE_EVERY) == 0]
    assert np.diff(solved)[-2:].tolist() == [SOLVE_EVERY] * 2


def test_it_is_solved_for_now_and_then_however_long_a_stream_lives() -> None:
    stream, (x, h) = shown(LONGEST), played(3 * SOLVE_EVERY + LONGEST)
    stream.record.heads["ridge_readings"] = COUNT_MAX
    before, solved = stream.record.part("weight").copy(), 0
    for each in zip(x[LONGEST:], h[LONGEST:], strict=True):
        stream.see(*each)
        solved += int((before != stream.record.part("weight")).any())
        before = stream.record.part("weight").copy()
    assert solved == 3
    assert stream.readings == COUNT_MAX


def test_nothing_is_learned_from_what_must_not_teach() -> None:
    """Once the readings before, which are taken in a few at a time, are in the sums."""
    stream, (x, h) = shown(200), played(300)
    learned = stream.learned()
    for each in zip(9 * x[200:], h[200:], strict=True):
        stream.see(*each, may_learn=False)
    assert stream.learned() == learned
    assert stream.readings == 200 - LONGEST


def test_after_a_reset_of_the_baseline_the_new_normal_is_learned_soon() -> None:
    """What was learned counts as much as that of YOUNG_READINGS readings; there is nothing to forget where it was no more."""
    stream = shown(1_000)
    sums = {name: stream.record.part(name).copy() for name in ("gram", "total", "cross", "own")}
    weight, readings = stream.record.part("weight").copy(), stream.readings
    stream.reset()
    assert stream.readings == YOUNG_READINGS
    for name, before in sums.items():
        assert stream.record.part(name) == pytest.approx(before * YOUNG_READINGS / readings, rel=1e-5)
    assert (stream.record.part("weight") == weight).all()
    fewer = shown(50)
    learned = fewer.learned()
    fewer.reset()
    assert fewer.learned() == learned


def test_a_horizon_that_errs_less_has_more_to_say() -> None:
    stream, (x, h) = shown(300), played(301)
    stream.record.part("error")[:] = [0.01, 0.01, 1, 1, 4, 4]
    expected = stream.see(x[300], h[300])
    near, far, farthest = stream.at_horizons()
    assert expected == pytest.approx((100 * near + far + farthest / 4) / 101.25, rel=1e-5)


def test_a_missing_value_counts_as_the_last_one_and_its_error_not_at_all() -> None:
    stream, (x, h) = Stream(), played(200)
    x[::3, 1] = np.nan
    for each in zip(x, h, strict=True):
        assert np.isfinite(stream.see(*each)).all()
    error = stream.record.part("error").copy()
    stream.see(np.full(CHANNELS, np.nan, np.float32), h[-1])
    assert (stream.record.part("error") == error).all()
    assert np.isfinite(error).all()


@example([0.0, 0.0, 0.0, 0.0, 4.0, -20.0, 3.0, -20.0, 0.0], 0)  # all horizons say 20, and a mean rounds
@given(st.lists(st.floats(-float(SCALED_MAX), float(SCALED_MAX), width=32), min_size=1, max_size=60), st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_it_stays_finite_and_within_bounds_whatever_comes(values: list[float], seed: int) -> None:
    stream, rng = Stream(), np.random.default_rng(seed)
    for value in values:
        expected = stream.see(np.array([value, -value], np.float32), rng.choice([-1, 0, 1], UNITS).astype(np.float32))
        assert np.abs(expected).max() <= SCALED_MAX


def test_a_memory_that_tells_nothing_new_for_long_keeps_its_forecast_sound() -> None:
    """The same over and over: G is of rank one, and only the ridge makes it solvable."""
    stream = Stream()
    for _ in range(5_000):
        expected = stream.see(np.ones(CHANNELS, np.float32), np.ones(UNITS, np.float32))
    assert expected == pytest.approx([1, 1], abs=1e-3)
