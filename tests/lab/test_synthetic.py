"""Synthetic series: seeded, of many kinds, and never broken."""

from __future__ import annotations

import numpy as np

from detector.lab.synthetic import READINGS_MAX, READINGS_MIN, synthetic


def test_a_seed_is_always_the_same_series() -> None:
    first, again, other = synthetic(3, 5), synthetic(3, 5), synthetic(4, 5)
    assert [a.tobytes() for a in first] == [a.tobytes() for a in again]
    assert all(not np.array_equal(a, b, equal_nan=True) for a, b in zip(first, other, strict=True))


def test_a_series_does_not_depend_on_how_many_there_are() -> None:
    assert synthetic(3, 2)[1].tobytes() == synthetic(3, 9)[1].tobytes()


def test_lengths() -> None:
    lengths = [len(series) for series in synthetic(1, 60)]
    assert READINGS_MIN <= min(lengths) < 2 * min(lengths) < max(lengths) <= READINGS_MAX
    assert {len(series) for series in synthetic(1, 3, readings=100)} == {100}


def test_they_are_of_many_kinds_and_usable() -> None:
    series = synthetic(5, 300)
    assert all(each.shape[1] == 1 and each.dtype == np.float32 for each in series)
    assert not any(np.isinf(each).any() for each in series)
    assert not any(np.isnan(each).all() for each in series)
    missing = [np.isnan(each).mean() for each in series]
    assert 0.1 < np.mean(np.array(missing) > 0) < 0.3
    repeats = [float((np.diff(each[:, 0]) == 0).mean()) for each in series]
    assert 0.05 < np.mean(np.array(repeats) > 0.5) < 0.5  # held, quantised, on/off
    smooth = [float(np.corrcoef(np.nan_to_num(each[1:, 0]), np.nan_to_num(each[:-1, 0]))[0, 1]) for each in series if np.nanstd(each) > 0]
    assert min(smooth) < 0.1
    assert max(smooth) > 0.99
    spread = [np.nanstd(each) for each in series if np.nanstd(each) > 0]
    assert max(spread) / min(spread) > 1e4
