"""Location and scale that streams measure for themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from detector.core.detect import Detector
from detector.core.running import CLIP, COLD_READINGS, COUNT_ACCEPTED, LIMIT_MIN, STATE, WIDTH_MIN, RunningScaling
from detector.core.scaling import SCALED_MAX, Scaling
from detector.core.scoring import CALIBRATED, TERMS, Usual
from detector.core.states import Column, arrays_of
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.core.builders import log_of, normal_values, run, settings_of, state_of, universal_model_of

F4 = NDArray[np.float32]
ROW = np.zeros(1, np.int32)
COUNTED = len(CALIBRATED)
OTHERS = {"bands": Column("f4", (3, 1))}


class Stream:
    """One stream of one channel."""

    def __init__(self) -> None:
        self.scaling = RunningScaling(1)
        self.states: dict[str, Any] = arrays_of(self.scaling.columns() | OTHERS)
        self._last = np.nan

    @property
    def units(self) -> Scaling:
        return self.scaling.of(ROW, self.states)

    def see(self, value: float, e: float = 0.0, *, teaches: bool = True) -> float:
        """Scale a value, then learn from it."""
        now = np.full((1, 1), value, np.float32)
        moved, self._last = np.array([[value != self._last]]), value
        x, terms = self.units.scaled(now), np.zeros((1, len(TERMS)), np.float32)
        self.scaling.learn(ROW, now, moved, x, np.full((1, 1), e, np.float32), terms, np.array([teaches]), self.states)
        return float(x[0, 0])

    def learned(self) -> list[bytes]:
        return [self.states[name].tobytes() for name in STATE]


def test_it_finds_mean_and_deviation() -> None:
    stream, values = Stream(), 50 + 3 * np.random.default_rng(0).standard_normal(4_000)
    x = np.array([stream.see(value, e=0.2) for value in values])
    assert stream.units.location.item() == pytest.approx(values.mean(), abs=1e-3)
    assert stream.units.scale.item() == pytest.approx(values.std(), rel=1e-3)
    assert np.asarray(stream.units.residual).item() == pytest.approx(0.2, rel=1e-3)
    assert x[500:].std() == pytest.approx(1, abs=0.05)


def test_a_value_is_scaled_by_those_before_it_only() -> None:
    one, other = Stream(), Stream()
    for value in (1.0, 2.0, 4.0):
        assert one.see(value) == other.see(value)
    assert one.learned() == other.learned()
    now = np.array([[1e6]], np.float32)
    before = one.units.scaled(now)
    one.see(1e6)
    assert before == other.units.scaled(now)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False), min_size=1, max_size=40))
def test_it_stays_finite_and_within_the_limit_whatever_comes(values: list[float]) -> None:
    stream = Stream()
    for n, value in enumerate(values):
        assert abs(stream.see(value)) <= min(np.sqrt(n) * (1 + 1e-6), SCALED_MAX)
    assert np.isfinite(stream.units.location).all()
    assert (stream.units.scale > 0).all()


@pytest.mark.parametrize("level", [0.0, 5.0, -273.15, 1e9, 1e-12])
def test_the_first_value_that_differs_from_a_constant_is_as_far_as_a_first_move_may_be(level: float) -> None:
    stream = Stream()
    assert [stream.see(level) for _ in range(900)] == [0.0] * 900
    assert stream.see(level + max(abs(level), 1.0) * 0.01) == LIMIT_MIN
    assert abs(stream.see(level)) < 1


def test_the_more_often_a_channel_has_moved_the_quieter_it_can_be_known_to_be() -> None:
    """A switch that is thrown for a reading every hundred: first as if by three scales of a lively channel, in the end as it is."""
    stream, limits, sizes = Stream(), [], []
    for _ in range(40):
        for _ in range(99):
            stream.see(0.0)
        limits.append(np.asarray(stream.units.limit).item())
        sizes.append(np.asarray(stream.units.residual).item())
        stream.see(1.0)
    assert limits[0] == LIMIT_MIN
    assert sizes[0] == 1
    assert limits == sorted(limits)
    assert sizes == sorted(sizes, reverse=True)
    assert limits[-1] > 10
    assert sizes[-1] < 0.05


def test_a_huge_offset_with_small_noise() -> None:
    """At 1e9 neighbouring 32-bit floats are 64 apart."""
    stream, values = Stream(), (1e9 + 1_000 * np.random.default_rng(1).standard_normal(3_000)).astype(np.float32)
    x = np.array([stream.see(float(value)) for value in values])
    assert x[500:].std() == pytest.approx(1, abs=0.06)
    assert stream.units.location.item() == pytest.approx(values.astype(np.float64).mean(), abs=1)


def test_a_quantised_channel_is_scaled_as_any() -> None:
    stream = Stream()
    x = np.array([stream.see(value) for value in np.round(np.random.default_rng(2).standard_normal(3_000))])
    assert x[500:].std() == pytest.approx(1, abs=0.06)


def test_missing_values_teach_nothing_and_stay_missing() -> None:
    stream = Stream()
    stream.see(1.0)
    stream.see(2.0)
    before = stream.learned()
    assert np.isnan(stream.see(float("nan")))
    assert stream.learned() == before


def test_one_absurd_value_teaches_little() -> None:
    stream = Stream()
    for value in np.random.default_rng(3).standard_normal(1_000):
        stream.see(value)
    before = stream.units.scale.item()
    stream.see(1e20)
    assert stream.units.scale.item() < before * (1 + CLIP**2 / 1_000)
    assert abs(stream.units.location.item()) < 0.1


def test_nothing_is_learned_from_what_does_not_teach() -> None:
    stream = Stream()
    for value in np.random.default_rng(4).standard_normal(200):
        stream.see(value)
    before = stream.learned()
    stream.see(3.0, teaches=False)
    assert stream.learned() == before


def test_an_accepted_level_is_learned_soon() -> None:
    stream = Stream()
    for value in np.random.default_rng(5).standard_normal(5_000):
        stream.see(value)
    stream.scaling.accept(0, stream.states)
    assert stream.states["scale_count"].item() == COUNT_ACCEPTED
    x = [stream.see(value) for value in 20 + np.random.default_rng(6).standard_normal(1_000)]
    assert abs(np.mean(x[-100:])) < 1


def test_a_channel_weighs_by_how_often_it_changes() -> None:
    """In full from every other reading on; an accepted level leaves that as it was."""
    sensor, command, switch = Stream(), Stream(), Stream()
    assert np.asarray(sensor.units.usual.weight).item() == pytest.approx(0.001)  # nothing is known
    for t in range(4_000):
        sensor.see(float(t // 2))
        command.see(float(t // 100))
        switch.see(0.0)

    def weights() -> list[float]:
        return [np.asarray(each.units.usual.weight).item() for each in (sensor, command, switch)]

    assert weights() == pytest.approx([1, 0.02, 0.001], rel=0.03)
    command.scaling.accept(0, command.states)
    assert weights() == pytest.approx([1, 0.02, 0.001], rel=0.03)


def test_neither_an_alert_nor_evidence_for_one_teaches() -> None:
    """Reading by reading: scale and readout learn where nothing happened, nothing is open, and nothing gathers; only there."""
    detector, values = Detector(universal_model_of(2), settings_of()), normal_values(400, 2)
    values[200:260] += 2 * values.std(axis=0)
    log = log_of([("a", t, value) for t, value in enumerate(values)], 2)
    seen = set()
    run(detector, log.take(range(1)))
    for t in range(1, len(values)):
        before = state_of(detector, "a")
        run(detector, log.take(range(t, t + 1)))
        after = state_of(detector, "a")
        has_learned = {name: bool((after[name] != before[name]).any()) for name in ("scale_variance", "readout_learned")}
        state = int(before["is_open"]), int(after["is_open"]), bool(after["evidence"] > 0)
        seen.add(state)
        if t > 100:
            assert has_learned == dict.fromkeys(has_learned, state == (0, 0, False)), (t, state)
    assert {(0, 0, False), (0, 0, True), (0, 1, True), (1, 1, False), (1, 0, False)} <= seen


def test_an_alert_that_is_accepted_lets_the_new_normal_be_learned_soon() -> None:
    detector, values = Detector(universal_model_of(2), settings_of(accept_after_us=10 * 1_000_000)), normal_values(500, 2)
    values[400:] += 20 * values.std(axis=0)
    log = log_of([("a", t, value) for t, value in enumerate(values)], 2)
    run(detector, log.take(range(400)))
    for t in range(400, len(values)):
        if any(alert.reason == "reset" for alert in run(detector, log.take(range(t, t + 1)))[0].alerts):
            break
    state = state_of(detector, "a")
    assert state["is_open"] == 0
    assert (state["scale_count"] == COUNT_ACCEPTED).all()  # the reading that accepts does not teach yet
    assert state["readout_learned"] == COUNT_ACCEPTED


def test_the_detector_judges_first_and_learns_after() -> None:
    """A fault that opens an alert leaves the scales as they were; the readings before it moved them."""
    detector = Detector(universal_model_of(2), settings_of())
    values = normal_values(300, 2)
    faulty = values.copy()
    faulty[200:220] += 100 * values.std(axis=0)
    log = log_of([("a", t, value) for t, value in enumerate(faulty)], 2)
    run(detector, log.take(range(200)))
    before = state_of(detector, "a")
    run(detector, log.take(range(200, 220)))
    after = state_of(detector, "a")
    assert after["is_open"] == 1
    assert after["scale_count"].max() <= before["scale_count"].max() + 2  # evidence needs a reading or two
    assert (after["scale_variance"] < 2 * before["scale_variance"]).all()


class Terms:
    """Terms of one stream, in units of what training measured, as the score shows them."""

    def __init__(self) -> None:
        self.scaling = RunningScaling(1)
        self.states: dict[str, Any] = arrays_of(self.scaling.columns() | OTHERS)

    def see(self, v: F4, *, teaches: bool = True) -> None:
        usual, terms, one = self.usual, np.zeros((1, len(TERMS)), np.float32), np.ones((1, 1), np.float32)
        terms[0, :COUNTED] = np.log1p(np.maximum((v - np.asarray(usual.middle)[0]) / np.asarray(usual.width)[0], 0))
        self.scaling.learn(ROW, one, one == 1, one, one, terms, np.array([teaches]), self.states)

    @property
    def usual(self) -> Usual:
        return self.scaling.of(ROW, self.states).usual


def test_each_term_is_counted_from_the_streams_own_quantiles() -> None:
    """Where a term scatters twice as wide as in training, and around another value, its quantiles end there."""
    stream, rng = Terms(), np.random.default_rng(0)
    for v in (1.5 + 2 * rng.standard_normal((40_000, COUNTED))).astype(np.float32):
        stream.see(v)
    assert stream.states["scale_middle"][0] == pytest.approx(np.full(COUNTED, 1.5), abs=0.15)
    assert stream.states["scale_high"][0] == pytest.approx(np.full(COUNTED, 1.5 + 2 * 2.326), rel=0.1)
    before = stream.states["scale_high"].tobytes()
    stream.see(np.full(COUNTED, 9, np.float32), teaches=False)
    assert stream.states["scale_high"].tobytes() == before


def test_at_first_they_are_those_of_training() -> None:
    stream, rng = Terms(), np.random.default_rng(0)
    for v in rng.standard_normal((COLD_READINGS, COUNTED)).astype(np.float32):
        stream.see(v)
    assert (np.asarray(stream.usual.middle) == 0).all()
    assert (np.asarray(stream.usual.width) == 1).all()


def test_a_calm_streams_terms_keep_a_width() -> None:
    stream = Terms()
    for _ in range(30_000):
        stream.see(np.full(COUNTED, 0.2, np.float32))
    assert stream.states["scale_middle"][0] == pytest.approx(np.full(COUNTED, 0.2), abs=0.01)
    assert (np.asarray(stream.usual.width) >= WIDTH_MIN).all()
    assert (np.asarray(stream.usual.width) < 0.7).all()  # from 1, and ever more slowly
