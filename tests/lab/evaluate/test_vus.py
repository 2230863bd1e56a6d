from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.lab.evaluate.vus import WINDOW_DEFAULT, vus_pr, window_of

# `RangeAUC_volume_opt(label, score, window, 250)` of the authors' package `vus` 0.0.6 on the cases below.
PUBLISHED = [0.242696, 0.614123, 0.125857, 0.031039, 0.733743, 0.320096, 0.501857, 0.379788, 0.261293, 0.575934]


def case(seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_], int]:
    """A score, labels and a window: labels at both ends, close together, single; scores with ties."""
    generator = np.random.default_rng(seed)
    readings = int(generator.integers(300, 1_500))
    label = np.zeros(readings, bool)
    for _ in range(int(generator.integers(1, 6))):
        start = int(generator.integers(0, readings - 20))
        label[start : start + int(generator.integers(1, 60))] = True
    label[:5] |= seed % 3 == 0
    label[-7:] |= seed % 4 == 0
    score = generator.standard_normal(readings) + generator.uniform(0, 2) * label
    return np.round(score, 1) if seed % 2 else score, label, int(generator.integers(0, 130))


@pytest.mark.parametrize("seed", range(len(PUBLISHED)))
def test_it_is_what_the_authors_compute(seed: int) -> None:
    assert vus_pr(*case(seed)) == pytest.approx(PUBLISHED[seed], abs=1e-6)


def test_a_perfect_score_of_hard_labels_is_one_and_nothing_labelled_is_undefined() -> None:
    label = np.zeros(400, bool)
    label[100:200] = True
    assert vus_pr(label.astype(float), label, 0) == pytest.approx(1.0)
    assert np.isnan(vus_pr(np.arange(400.0), np.zeros(400, bool), 10))
    assert np.isnan(vus_pr(np.arange(400.0), np.ones(400, bool), 10))


def test_a_monotone_change_of_the_score_changes_nothing() -> None:
    score, label, window = case(2)
    assert vus_pr(np.exp(score), label, window) == vus_pr(score, label, window)


@pytest.mark.parametrize("period", [12, 50, 200])
def test_the_window_is_the_period(period: int) -> None:
    signal = np.sin(2 * np.pi * np.arange(5_000) / period) + 0.1 * np.random.default_rng(0).standard_normal(5_000)
    assert abs(window_of(signal) - period) <= 1


def test_a_signal_without_a_period_has_the_usual_window() -> None:
    assert window_of(np.zeros(500)) == window_of(np.cumsum(np.ones(500))) == WINDOW_DEFAULT
