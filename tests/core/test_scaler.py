"""Location and scale: of all streams, measured in training, and those that streams measure for themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core import scaler
from detector.core.compiled import entry
from detector.core.compiled_model import Described, compile_model, of_rows
from detector.core.detector import Detector
from detector.core.forecast import SCALED_MAX
from detector.core.limits import CLIP
from detector.core.scaler import COUNT, DEVIATION, TERMS, WIDTH_MIN, YOUNG_READINGS, Scaling, weight_of
from tests.core.builders import SECOND_US, Records, log_of, normal_values, run, settings_of, state_of, universal_model_of

F4 = NDArray[np.float32]

# -- of all streams -----------------------------------------------------------------------------------------------------------------


def test_scaled_values_have_mean_0_and_deviation_1() -> None:
    value = (np.random.default_rng(0).standard_normal((5_000, 3)) * (0.01, 1, 500) + (7, -3, 1e5)).astype(np.float32)
    scaled = Scaling.fit(value).scaled(value)
    assert scaled.dtype == np.float32
    assert scaled.mean(axis=0) == pytest.approx(0, abs=1e-2)
    assert scaled.std(axis=0) == pytest.approx(1, abs=1e-2)


def test_unscaled_is_the_way_back() -> None:
    value = (np.random.default_rng(0).standard_normal((100, 2)) * (0.1, 50) + (1, 900)).astype(np.float32)
    scaling = Scaling.fit(value)
    assert scaling.unscaled(scaling.scaled(value)) == pytest.approx(value, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("constant", [0.0, 5.0, -273.15, 1e6, 1e-12])
def test_a_constant_channel_has_scale_1(constant: float) -> None:
    value = np.full((1_000, 1), constant, np.float32)
    scaling = Scaling.fit(value)
    assert scaling.scale.tolist() == [1.0]
    assert scaling.scaled(value) == pytest.approx(0)


def test_a_small_scale_of_its_own_is_no_constant() -> None:
    value = np.array([[1e-3], [-1e-3]] * 50, np.float32)
    assert Scaling.fit(value).scale == pytest.approx(1e-3)


def test_missing_values_are_skipped_and_stay_missing() -> None:
    value = np.array([[1, np.nan], [3, np.nan], [np.nan, np.nan], [np.inf, np.nan]], np.float32)
    scaling = Scaling.fit(value)
    assert scaling.location.tolist() == [2.0, 0.0]
    assert scaling.scale.tolist() == [1.0, 1.0]
    assert np.isnan(scaling.scaled(value[:3])).tolist() == np.isnan(value[:3]).tolist()


def test_without_any_reading_nothing_is_scaled() -> None:
    scaling = Scaling.fit(np.empty((0, 2), np.float32))
    assert (scaling.location.tolist(), scaling.scale.tolist()) == ([0, 0], [1, 1])


def test_absurd_values_are_clipped() -> None:
    scaling = Scaling(np.zeros(1, np.float32), np.full(1, 1e-3, np.float32))
    top = float(np.finfo(np.float32).max)
    with np.errstate(over="ignore"):
        assert scaling.scaled(np.array([[1e9], [-1e9], [top], [-top]], np.float32)).ravel().tolist() == [
            SCALED_MAX,
            -SCALED_MAX,
            SCALED_MAX,
            -SCALED_MAX,
        ]


def test_what_is_scaled_is_left_as_it_was() -> None:
    value = np.full((2, 1), 100, np.float32)
    Scaling.fit(np.array([[0.0], [1.0]], np.float32)).scaled(value)
    assert value.tolist() == [[100], [100]]


# -- of one stream, its own -----------------------------------------------------------------------------------------------------------


@entry
def measure(floats, model, at, room):  # type: ignore[no-untyped-def]
    scaler.measure_units(floats, at[0], model[0], 0, room.floats, room.doubles)


@entry
def scale(model, room):  # type: ignore[no-untyped-def]
    scaler.scale(model[0], 0, room.floats, room.doubles)


@entry
def learn(heads, floats, model, at, room):  # type: ignore[no-untyped-def]
    scaler.learn_units(heads[0], floats, at[0], model[0], 0, room.floats)


@entry
def reset(heads, floats, at):  # type: ignore[no-untyped-def]
    scaler.reset_units(heads[0], floats, at[0], 1)


class Stream:
    """One stream of one channel, whose bands and terms the test says."""

    def __init__(self) -> None:
        self.record = Records([*scaler.online_parts(1), ("ewma", (3, 1), 0)])
        room = {name: of_rows(1) for name in ("value", "x", "off", "moved")} | {"term": of_rows(TERMS + 1)}
        sizes = Described({"channels": 1, "terms": TERMS + 1}, {}, room, {})
        layout, own = self.record.layout, scaler.describe(None, np.ones(1, np.float32))
        (self._at, self._model, _, _), self._room = compile_model(layout, [sizes, own])
        self._last = np.nan

    def _of(self, name: str, count: int = 1) -> NDArray[np.floating]:
        """A view of the block's first row."""
        start, floats = int(self._model[name][0]), self._room.doubles if name in ("location", "scale") else self._room.floats
        return floats[start : start + count]

    def unit(self, name: str) -> float:
        """What the next reading will be measured by."""
        measure(self.record.floats[0], self._model, self._at, self._room)
        return float(self._of(name)[0])

    def terms(self) -> tuple[F4, F4]:
        """Middle and width of the next reading's terms, f4[4], in units of those of training."""
        measure(self.record.floats[0], self._model, self._at, self._room)
        return self._of("own_middle", TERMS).copy(), self._of("own_width", TERMS).copy()

    def see(self, value: float, e: float = 0.0, terms: F4 | None = None, *, may_learn: bool = True) -> float:
        """Scale a value, then learn from it; e: its residual."""
        measure(self.record.floats[0], self._model, self._at, self._room)
        self._of("value")[:], self._of("off")[:], self._of("moved")[:] = value, e, value != self._last
        self._of("term", TERMS)[:] = 0 if terms is None else terms
        scale(self._model, self._room)
        self._last = value
        if may_learn:
            learn(self.record.heads, self.record.floats[0], self._model, self._at, self._room)
        return float(self._of("x")[0])

    def reset(self) -> None:
        reset(self.record.heads, self.record.floats[0], self._at)

    def learned(self) -> bytes:
        return bytes(self.record.floats.tobytes())


def test_of_few_moves_in_many_readings_a_channel_tells_little() -> None:
    assert weight_of(np.array([0, 10, 500, 999]), 1_000) == pytest.approx([0.01, 0.02, 1, 1])
    assert weight_of(np.array([0]), 0) == pytest.approx([0.01])


def test_it_finds_mean_and_deviation() -> None:
    stream, values = Stream(), 50 + 3 * np.random.default_rng(0).standard_normal(4_000)
    x = np.array([stream.see(value, e=0.2) for value in values])
    assert stream.unit("location") == pytest.approx(values.mean(), abs=1e-3)
    assert stream.unit("scale") == pytest.approx(values.std(), rel=1e-3)
    assert stream.unit("residual_size") == pytest.approx(0.2, rel=5e-3)
    assert x[500:].std() == pytest.approx(1, abs=0.05)


def test_a_value_is_scaled_by_those_before_it_only() -> None:
    one, other = Stream(), Stream()
    for value in (1.0, 2.0, 4.0):
        assert one.see(value) == other.see(value)
    assert one.learned() == other.learned()
    assert one.see(1e6) == other.see(1e6, may_learn=False) == pytest.approx(3**0.5)  # within the root of three readings
    assert one.learned() != other.learned()


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_it_stays_finite_and_within_the_limit_whatever_comes(values: list[float]) -> None:
    stream = Stream()
    for n, value in enumerate(values):
        assert abs(stream.see(value)) <= min(np.sqrt(n) * (1 + 1e-6), SCALED_MAX)
    assert np.isfinite(stream.unit("location"))
    assert stream.unit("scale") > 0


@pytest.mark.parametrize("level", [0.0, 5.0, -273.15, 1e9, 1e-12])
def test_the_first_value_that_differs_from_a_constant_is_as_far_as_a_first_move_may_be(level: float) -> None:
    stream = Stream()
    assert [stream.see(level) for _ in range(900)] == [0.0] * 900
    assert stream.see(level + max(abs(level), 1.0) * 0.01) == 1
    assert abs(stream.see(level)) < 1


def test_the_more_often_a_channel_has_moved_the_quieter_it_can_be_known_to_be() -> None:
    """A switch that is thrown for a reading every hundred: first as if by one scale of a lively channel, in the end as it is."""
    stream, limits, sizes = Stream(), [], []
    for _ in range(40):
        for _ in range(99):
            stream.see(0.0)
        limits.append(stream.unit("limit"))
        sizes.append(stream.unit("residual_size"))
        stream.see(1.0)
    assert limits[0] == 1
    assert sizes[0] == 1
    assert limits == sorted(limits)
    assert sizes == sorted(sizes, reverse=True)
    assert limits[-1] > 9
    assert sizes[-1] < 0.12


def test_a_huge_offset_with_small_noise() -> None:
    """At 1e9 neighbouring 32-bit floats are 64 apart."""
    stream, values = Stream(), (1e9 + 1_000 * np.random.default_rng(1).standard_normal(3_000)).astype(np.float32)
    x = np.array([stream.see(float(value)) for value in values])
    assert x[500:].std() == pytest.approx(1, abs=0.06)
    assert stream.unit("location") == pytest.approx(values.astype(np.float64).mean(), abs=1)


def test_a_quantised_channel_is_scaled_as_any() -> None:
    stream = Stream()
    x = np.array([stream.see(value) for value in np.round(np.random.default_rng(2).standard_normal(3_000))])
    assert x[500:].std() == pytest.approx(1, abs=0.06)


def test_missing_values_teach_nothing_and_stay_missing() -> None:
    stream = Stream()
    stream.see(1.0)
    stream.see(2.0)
    before = stream.record.part("scale").tobytes()
    assert np.isnan(stream.see(float("nan")))
    assert stream.record.part("scale").tobytes() == before


def test_one_absurd_value_teaches_little() -> None:
    stream = Stream()
    for value in np.random.default_rng(3).standard_normal(1_000):
        stream.see(value)
    before = stream.unit("scale")
    stream.see(1e20)
    assert stream.unit("scale") < before * (1 + CLIP**2 / 1_000)
    assert abs(stream.unit("location")) < 0.1


def test_nothing_is_learned_from_what_does_not_teach() -> None:
    stream = Stream()
    for value in np.random.default_rng(4).standard_normal(200):
        stream.see(value)
    before = stream.learned()
    stream.see(3.0, may_learn=False)
    assert stream.learned() == before


def test_after_a_reset_of_the_baseline_the_new_normal_is_learned_soon() -> None:
    stream = Stream()
    for value in np.random.default_rng(5).standard_normal(5_000):
        stream.see(value)
    stream.reset()
    assert stream.record.part("scale")[COUNT].item() == YOUNG_READINGS
    x = [stream.see(value) for value in 20 + np.random.default_rng(6).standard_normal(1_000)]
    assert abs(np.mean(x[-100:])) < 1


def test_a_channel_weighs_by_how_often_it_changes() -> None:
    """In full from every other reading on; a reset of the baseline leaves that nearly as it was."""
    sensor, command, switch = Stream(), Stream(), Stream()
    assert sensor.unit("weight") == pytest.approx(0.01)  # nothing is known
    for t in range(4_000):
        sensor.see(float(t // 2))
        command.see(float(t // 100))
        switch.see(0.0)

    def weights() -> list[float]:
        return [each.unit("weight") for each in (sensor, command, switch)]

    assert weights() == pytest.approx([1, 0.02, 0.01], rel=0.03)
    command.reset()
    assert weights() == pytest.approx([1, 2 / YOUNG_READINGS, 0.01], rel=0.03)  # moves are whole: one of 80, as before or more often


def test_neither_an_alert_nor_a_cusum_above_0_teaches() -> None:
    """Reading by reading: scale and ridge learn where nothing happened, nothing is open, and nothing gathers; only there."""
    detector, values = Detector(universal_model_of(2), settings_of(budget_period_us=5_000 * SECOND_US)), normal_values(400, 2)
    values[200:260] += 2 * values.std(axis=0)
    log = log_of([("a", t, value) for t, value in enumerate(values)], 2)
    seen = set()
    run(detector, log.take(range(1)))
    for t in range(1, len(values)):
        before = state_of(detector, "a")
        run(detector, log.take(range(t, t + 1)))
        after = state_of(detector, "a")
        has_learned = [
            bool((after["scale"][DEVIATION] != before["scale"][DEVIATION]).any()),
            after["ridge_readings"] != before["ridge_readings"],
        ]
        state = before["score_open"], after["score_open"], after["cusum"] > 0
        seen.add(state)
        if t > 100:
            assert has_learned == [state == (0, 0, False)] * 2, (t, state)
    assert {(0, 0, False), (0, 0, True), (0, 1, True), (1, 1, False), (1, 0, False)} <= seen


def test_an_alert_that_ends_by_its_age_lets_the_new_normal_be_learned_soon() -> None:
    detector, values = Detector(universal_model_of(2), settings_of(reset_baseline_after_us=10 * 1_000_000)), normal_values(500, 2)
    values[400:] += 20 * values.std(axis=0)
    log = log_of([("a", t, value) for t, value in enumerate(values)], 2)
    run(detector, log.take(range(400)))
    for t in range(400, len(values)):
        if any(alert.reason == "reset" for alert in run(detector, log.take(range(t, t + 1)))[0].alerts):
            break
    state = state_of(detector, "a")
    assert state["score_open"] == 0
    assert (state["scale"][COUNT] == YOUNG_READINGS).all()  # the reading that resets does not teach yet
    assert state["ridge_readings"] == YOUNG_READINGS


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
    assert after["score_open"] == 1
    assert after["scale"][COUNT].max() <= before["scale"][COUNT].max() + 2  # the CUSUM needs a reading or two
    assert (after["scale"][DEVIATION] < 2 * before["scale"][DEVIATION]).all()


def see_terms(stream: Stream, values: F4, may_learn: bool = True) -> None:
    """Readings whose calibrated terms are so far from the middle of training, in units of its width, f4[T, 4]."""
    for v in values:
        middle, width = stream.terms()
        stream.see(1.0, terms=np.log1p(np.maximum((v - middle) / width, 0)), may_learn=may_learn)


def test_each_term_is_counted_from_the_streams_own_quantiles() -> None:
    """Where a term scatters twice as wide as in training, and around another value, its quantiles end there."""
    stream, rng = Stream(), np.random.default_rng(0)
    see_terms(stream, (1.5 + 2 * rng.standard_normal((40_000, TERMS))).astype(np.float32))
    assert stream.record.part("term_middle") == pytest.approx(np.full(TERMS, 1.5), abs=0.15)
    assert stream.record.part("term_high") == pytest.approx(np.full(TERMS, 1.5 + 2 * 2.326), rel=0.1)
    before = stream.learned()
    see_terms(stream, np.full((1, TERMS), 9, np.float32), may_learn=False)
    assert stream.learned() == before


def test_at_first_they_are_those_of_training() -> None:
    stream, rng = Stream(), np.random.default_rng(0)
    see_terms(stream, rng.standard_normal((YOUNG_READINGS, TERMS)).astype(np.float32))
    middle, width = stream.terms()
    assert (middle == 0).all()
    assert (width == 1).all()


def test_a_calm_streams_terms_keep_a_width() -> None:
    stream = Stream()
    see_terms(stream, np.full((30_000, TERMS), 0.2, np.float32))
    middle, width = stream.terms()
    assert middle == pytest.approx(np.full(TERMS, 0.2), abs=0.01)
    assert (width >= WIDTH_MIN).all()
    assert (width < 0.7).all()  # from 1, and ever more slowly
