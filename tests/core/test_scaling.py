"""Per-channel location and scale."""

from __future__ import annotations

import numpy as np
import pytest
from detector.core.scaling import SCALED_MAX, Scaling


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
