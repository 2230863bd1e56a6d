"""Detectors without a forecast, and what every classical detector has to hold."""

from __future__ import annotations

import builtins
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.errors import ConfigError
from detector.lab.evaluate.baselines import BASELINES, VARIANCE_KEPT
from detector.lab.evaluate.detectors import Scorer, SeriesDetector
from detector.lab.evaluate.filters import BLOCK, ewma
from detector.lab.evaluate.forecasts import FORECASTS
from tests.core.builders import normal_values

F4 = NDArray[np.float32]
DETECTORS = {detector.name: detector for detector in (*BASELINES, *FORECASTS)}
every_detector = pytest.mark.parametrize("detector", DETECTORS.values(), ids=DETECTORS)

TRAIN = normal_values(600, 3)
TEST = normal_values(BLOCK + 200, 3, seed=1)
TEST[100:110, 1] = np.nan
SHIFT = 900


@cache
def fitted(name: str) -> Scorer:
    return DETECTORS[name].fit(TRAIN, 3)


def awkward(readings: int, channels: int) -> F4:
    """A channel that never varies, one with a single blip, one that is never there; of others, some values are missing."""
    value = normal_values(readings, channels)
    rng = np.random.default_rng(0)
    value[rng.random(value.shape) < 0.1] = np.nan
    for k, column in enumerate((np.full(readings, 7.25), np.where(np.arange(readings) == 20, 1.0, 0.0), np.full(readings, np.nan))):
        if k < channels - 1:
            value[:, k] = column
    return value


@every_detector
def test_the_scores_of_a_prefix_are_the_prefix_of_the_scores(detector: SeriesDetector) -> None:
    whole = fitted(detector.name)(TEST)
    for readings in (1, 105, BLOCK - 1, BLOCK + 1):
        part = fitted(detector.name)(TEST[:readings])
        np.testing.assert_array_equal(part.score, whole.score[:readings])
        if whole.expected is not None:
            assert part.expected is not None
            np.testing.assert_array_equal(part.expected, whole.expected[:readings])


@every_detector
def test_it_is_deterministic_and_leaves_its_input_alone(detector: SeriesDetector) -> None:
    train, test = TRAIN.copy(), TEST.copy()
    again = detector.fit(train, 3)
    for judged in (again(test), again(test)):  # of a scorer, too, the second pass is the first
        np.testing.assert_array_equal(judged.score, fitted(detector.name)(TEST).score)
    np.testing.assert_array_equal(train, TRAIN)
    np.testing.assert_array_equal(test, TEST)


@every_detector
@pytest.mark.parametrize("channels", [1, 5])
def test_it_stays_finite_where_channels_are_constant_or_missing(detector: SeriesDetector, channels: int) -> None:
    test = awkward(90, channels)
    test[50:, 0] += 3  # what was constant moves
    test[60] = np.nan
    test[70, -1] = 1e9
    judged = detector.fit(awkward(100, channels), 0)(test)
    assert judged.score.dtype == np.float32
    assert judged.score.shape == (90,)
    assert np.isfinite(judged.score).all()
    if judged.expected is not None:
        assert judged.expected.dtype == np.float32
        assert judged.expected.shape == test.shape
        assert np.isfinite(judged.expected).all()


@every_detector
def test_nothing_to_learn_from_is_not_an_error(detector: SeriesDetector) -> None:
    judged = detector.fit(np.full((100, 2), 4.0, np.float32), 0)(np.full((40, 2), 4.0, np.float32))
    np.testing.assert_array_equal(judged.score, 0)


@every_detector
def test_what_hardly_varied_does_not_explode(detector: SeriesDetector) -> None:
    train, test = TRAIN.copy(), normal_values(600, 3, seed=2)
    train[:, 0] = test[:, 0] = 5.0
    test[300:, 0] = 10.0
    score = detector.fit(train, 0)(test).score
    assert score[300:305].mean() > 1.2 * score[50:300].mean()
    assert score.max() < 30


@every_detector
def test_a_level_shift_is_stranger_than_what_is_normal(detector: SeriesDetector) -> None:
    test = normal_values(1_200, 3, seed=1)
    test[SHIFT:] += np.float32(6) * TRAIN.std(axis=0)
    score = fitted(detector.name)(test).score
    assert score[SHIFT : SHIFT + 15].max() > np.quantile(score[:SHIFT], 0.995)


def test_all_detectors_have_names_of_their_own() -> None:
    assert len(DETECTORS) == len(BASELINES) + len(FORECASTS)
    assert all(detector.about for detector in DETECTORS.values())


@pytest.mark.parametrize("name", ["pca", "arima", "support_vectors", "feed_forward"])
def test_without_its_library_it_says_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    really_import = builtins.__import__

    def without_extras(module: str, *args: Any, **kwargs: Any) -> Any:
        if module.startswith(("sklearn", "statsmodels")):
            raise ImportError(module)
        return really_import(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_extras)
    with pytest.raises(ConfigError, match="needs s") as told:
        DETECTORS[name].fit(TRAIN, 0)
    assert told.value.fix == "pip install 'detector[bench]'"


def test_ewma_starts_at_zero_and_waits_for_missing_values() -> None:
    np.testing.assert_allclose(ewma(np.array([1.0, np.nan, 1.0]), 0.5), [0.5, 0.5, 0.75])


def test_distance_is_in_standard_deviations() -> None:
    train = np.tile(np.array([[-1.0, 3.0], [1.0, 7.0]], np.float32), (100, 1))  # means 0 and 5, standard deviations 1 and 2
    scorer = DETECTORS["distance"].fit(train, 0)
    score = scorer(np.array([[0, 5], [3, 13], [np.nan, 11], [np.nan, np.nan]], np.float32)).score
    np.testing.assert_allclose(np.expm1(score), [0, np.sqrt((9 + 16) / 2), 3, 0], rtol=1e-5)


def test_the_control_chart_is_in_standard_deviations_of_its_average() -> None:
    rng = np.random.default_rng(0)
    score = DETECTORS["ewma_z"].fit(rng.standard_normal((20_000, 1)).astype(np.float32), 0)(np.full((200, 1), 1.0, np.float32)).score
    assert score[-1] == pytest.approx(1 / np.sqrt(0.1 / 1.9), rel=0.05)  # white noise: the average has variance rate / (2 - rate)


def test_an_extreme_counts_once_and_what_is_inside_never() -> None:
    train = np.linspace(0, 10, 200, dtype=np.float32)[:, None]
    scorer = DETECTORS["extremes"].fit(train, 0)
    value = np.array([5, 0, 10, 15, 15, 12, 18, -9, -9], np.float32)[:, None]
    np.testing.assert_allclose(np.expm1(scorer(value).score), [0, 0, 0, 0.5, 0, 0, 0.2, 0.5, 0], atol=1e-6)
    flat = DETECTORS["extremes"].fit(np.zeros((100, 1), np.float32), 0)
    np.testing.assert_allclose(np.expm1(flat(np.array([0, 400, 400, 0, 600], np.float32)[:, None]).score), [0, 1, 0, 0, 0.5], atol=1e-6)


def test_principal_components_see_a_broken_correlation_within_the_range() -> None:
    rng = np.random.default_rng(0)
    shared = rng.standard_normal(1_000)
    train = (np.stack((shared, 2 * shared, -shared), axis=1) + 0.05 * rng.standard_normal((1_000, 3))).astype(np.float32)
    score = DETECTORS["pca"].fit(train, 0)(np.array([[1, 2, -1], [1, -2, -1]], np.float32)).score
    assert VARIANCE_KEPT == 0.95
    assert score[0] < 1
    assert score[1] > 5
    slow = DETECTORS["pca_slow"].fit(train, 0)(np.array([[1, 2, -1], [1, -2, -1]], np.float32)).score
    np.testing.assert_allclose(slow, ewma(score, 0.03), rtol=1e-5)
