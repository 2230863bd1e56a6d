"""First-order recursions against their formula, and against each other."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.signal import lfilter

from detector.lab.recursion import first_order, lagged

SHOCK = np.random.default_rng(0).standard_normal((300, 3))


def test_it_is_the_filter_of_the_textbook() -> None:
    for column, keep in zip(SHOCK.T, (0.0, 0.5, 0.99), strict=True):
        assert_allclose(first_order(column, keep), lfilter([1.0], [1.0, -keep], column), rtol=1e-12)


@pytest.mark.parametrize("cut", [1, 120, 299])
def test_what_is_carried_over_a_cut_changes_no_bit(cut: int) -> None:
    keep = np.array([0.2, 0.9, 1.0])
    first = first_order(SHOCK[:cut], keep)
    assert_array_equal(np.concatenate((first, first_order(SHOCK[cut:], keep, first[-1]))), first_order(SHOCK, keep))


def test_what_stays_may_change_from_row_to_row() -> None:
    keep = np.tile(np.array([0.0, 1.0, 0.5]), (300, 1))
    keep[100:] = 1.0
    y = first_order(SHOCK, keep)
    assert_array_equal(y[:100, 0], SHOCK[:100, 0])
    assert_allclose(y[-1, 0], SHOCK[99:, 0].sum())


def test_a_lag_has_gone_63_percent_of_a_step_after_its_time_constant() -> None:
    step = np.ones(200)
    assert lagged(step, np.exp(-1 / 40))[39] == pytest.approx(1 - np.exp(-1))
    assert_array_equal(lagged(step, np.exp(-1 / 40), 1.0), step)
