"""Long recordings for alarms."""

from __future__ import annotations

import numpy as np
import pytest

from detector.lab.evaluate.long import CHANNELS, FAULT_MAX, FAULT_MIN, FAULTS, KINDS, TEST, TRAIN, long_series
from detector.lab.evaluate.series import Series, runs


@pytest.fixture(scope="module")
def recordings() -> list[Series]:
    return long_series(1, per_kind=1)


def test_there_is_one_of_every_kind_and_the_seed_decides(recordings: list[Series]) -> None:
    assert [series.name for series in recordings] == [f"{kind}-1" for kind in KINDS]
    again, other = long_series(1, per_kind=1)[0], long_series(2, per_kind=1)[0]
    assert np.array_equal(again.test, recordings[0].test)
    assert not np.array_equal(other.test, recordings[0].test)


def test_faults_are_labelled_apart_and_change_what_is_measured(recordings: list[Series]) -> None:
    for series in recordings:
        assert (series.train.shape, series.test.shape) == ((TRAIN, CHANNELS), (TEST, CHANNELS))
        assert np.isfinite(series.test).all()
        spans = runs(series.label)
        assert len(spans) == FAULTS
        assert all(FAULT_MIN <= end - start < FAULT_MAX for start, end in spans)
        scale = series.train.std(axis=0)
        for start, end in spans[::3]:  # levels
            before, within = series.test[start - 60 : start], series.test[start:end]
            assert (np.abs(np.median(within, axis=0) - np.median(before, axis=0)) / scale).max() > 1


def test_what_is_normal_drifts_where_it_should(recordings: list[Series]) -> None:
    by_name = {series.name: series for series in recordings}

    def moved(name: str) -> float:
        series = by_name[name]
        parts = series.test.reshape(20, -1, CHANNELS).mean(axis=1)
        return float((parts.std(axis=0) / series.train.std(axis=0)).max())

    assert moved("stationary-1") < 0.3 < moved("drift-1")
    assert moved("regimes-1") > 0.3
