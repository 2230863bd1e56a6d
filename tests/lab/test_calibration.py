"""Normal readings -> the divisors of the score."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.core.scaler import BANDS
from detector.core.score import Score
from detector.lab.calibration import SHRINK, OwnUnits, calibrate, floored, range_of, scale_of, whitening_of
from detector.lab.scoring import measured
from tests.core.builders import normal_values
from tests.core.scoring import fitted, persistence, scores_of

F4 = NDArray[np.float32]


def test_each_term_is_near_its_quantile_on_normal_readings() -> None:
    """A value beyond its 99 % quantile, one reading in a hundred: a term of log1p(1) and more."""
    values = [normal_values(4_000, 3, seed) for seed in range(2)]
    scaling, score = fitted(values)
    normal = scores_of(scaling, score, normal_values(4_000, 3, 9))[100:]
    assert 0 < np.median(normal) < 1.5
    assert np.quantile(normal, 0.99) < 3


def test_it_can_be_fitted_on_constant_missing_and_copied_channels() -> None:
    value = normal_values(500, 5)
    value[:, 1], value[:, 2], value[:, 3] = 3.0, np.nan, value[:, 0]
    value[100:150, 4] = np.nan
    scaling, score = fitted([value])
    assert all(np.isfinite(array).all() for name, array in score.arrays().items() if name not in ("low", "high"))
    assert (score.low[[1, 2]].tolist(), score.high[[1, 2]].tolist()) == ([3.0, np.inf], [3.0, -np.inf])
    assert np.isfinite(scores_of(scaling, score, value)).all()


def test_the_fifty_and_the_ninety_nine_percent_of_each_term_are_its_middle_and_width() -> None:
    """Of the same readings, from the fiftieth on."""
    values = [normal_values(2_000, 3, seed) for seed in range(2)]
    scaling, score = fitted(values)
    xs = [scaling.scaled(value) for value in values]
    terms = np.concatenate([measured(score, value, x, persistence(x))[:, :4] for value, x in zip(values, xs, strict=True)])
    assert score.middle == pytest.approx(np.quantile(terms, 0.5, axis=0), rel=1e-5)
    assert score.middle + score.width == pytest.approx(np.quantile(terms, 0.99, axis=0), rel=1e-5)


def test_only_readings_that_no_weight_saw_calibrate_the_residuals_and_many_the_terms() -> None:
    """What comes before `start` changes no divisor of the residuals."""
    values = [normal_values(1_000, 2, seed) for seed in range(2)]
    xs = [fitted(values)[0].scaled(value) for value in values]
    es = [persistence(x) for x in xs]
    late = [np.concatenate((9 * e[:700], e[700:])) for e in es]
    usual, spoiled, cut = (calibrate(values, xs, each, start) for each, start in ((es, [700, 700]), (late, [700, 700]), (late, [0, 0])))
    assert spoiled.error_scale.tobytes() == usual.error_scale.tobytes()
    assert spoiled.error_fast == pytest.approx(usual.error_fast, rel=0.1)
    assert (cut.error_scale > 3 * usual.error_scale).all()
    assert spoiled.middle[3] > 1.5 * usual.middle[3]  # slow residuals: all of both count, in units of the divisor


def test_of_streams_that_measure_themselves_nothing_is_in_units_of_training() -> None:
    """Bands are in units of what is usual for each; no range is known, the level stands at 0, and all channels count in full."""
    values = [normal_values(1_000, 1, seed) for seed in range(3)]
    scaling, _ = fitted(values)
    xs = [scaling.scaled(value) for value in values]
    es = [persistence(x) for x in xs]

    def own(times: float) -> Score:
        sizes = [OwnUnits(np.full((1_000, BANDS), times, np.float32), np.ones((1_000, 1), np.float32)) for _ in values]
        return calibrate(values, xs, es, [0] * 3, sizes)

    one, two = own(1), own(2)
    assert one.band_scale == pytest.approx(2 * two.band_scale, rel=1e-5)
    assert one.middle == pytest.approx(two.middle, rel=1e-3)
    assert (one.low.item(), one.high.item(), one.count.item()) == (np.inf, -np.inf, 0)
    assert (one.level_rate.item(), one.weight.item()) == (0, 1)


def test_no_divisor_is_so_small_that_a_trifle_explodes() -> None:
    """None below a tenth of the median, nor below .01."""
    assert floored(np.array([1.0, 2.0, 3.0, 0.001])) == pytest.approx([1, 2, 3, 0.15])
    assert floored(np.array([1e-9, 0.0])) == pytest.approx([0.01, 0.01])
    signal = np.random.default_rng(0).standard_normal((20_000, 2)) * (1, 5)
    assert scale_of(signal) == pytest.approx([2.576, 5 * 2.576], rel=0.05)


def test_whitened_signals_are_alike_and_know_nothing_of_each_other() -> None:
    signal = np.random.default_rng(0).standard_normal((20_000, 3)) @ np.array([[1, 0.9, 0], [0, 0.4, 0], [0, 0, 7]])
    white = whitening_of(signal)
    assert np.array_equal(white, np.tril(white))
    moment = signal.T @ signal / len(signal)
    shrunk = (1 - SHRINK) * moment + SHRINK * np.trace(moment) / 3 * np.eye(3)
    assert white @ shrunk @ white.T == pytest.approx(np.eye(3), abs=1e-5)
    copied = np.repeat(signal[:, :1], 2, axis=1)
    assert np.isfinite(whitening_of(copied)).all()  # two channels that are one: what is shrunk can be inverted


def test_the_range_is_that_of_all_values_and_of_none_where_there_is_none() -> None:
    low, high, count = range_of([np.array([[1, np.nan], [5, np.nan]], np.float32), np.array([[-2, np.nan]], np.float32)])
    assert (low.tolist(), high.tolist(), count.tolist()) == ([-2, np.inf], [5, -np.inf], [3])
