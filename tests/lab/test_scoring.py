"""The score over whole sequences."""

from __future__ import annotations

import numpy as np
import pytest

from detector.lab.scoring import band_signals, fast_band, measured, moves_of, scored
from tests.core.builders import normal_values
from tests.core.scoring import Followed, fitted, persistence


def test_a_sequence_at_once_is_its_readings_one_after_the_other() -> None:
    """Bit for bit, missing values included; and the score without its terms' calibration is what calibrates."""
    scaling, score = fitted([normal_values(500, 3)])
    value = normal_values(120, 3, 4)
    value[np.random.default_rng(0).random(value.shape) < 0.1] = np.nan
    x = scaling.scaled(value)
    e, stream = persistence(x), Followed(score)
    one_by_one = [stream.see(value[t : t + 1], x[t : t + 1], e[t : t + 1])[0][0] for t in range(120)]
    instantaneous, terms, _ = scored(score, value, x, e)
    assert instantaneous.tobytes() == np.array(one_by_one).tobytes()
    raw = measured(score, value, x, e)
    over = np.log1p(np.maximum((raw[:, :4] - score.middle) / score.width, 0))
    assert terms[:, :4] == pytest.approx(over, rel=1e-4, abs=1e-6)
    assert terms[:, 4].tobytes() == raw[:, 4].tobytes()


def test_the_bands_of_a_sequence_add_up_to_it() -> None:
    """x = its four bands and its level, where it is there; where it is missing the first band is 0; nothing before it was ever seen."""
    x = normal_values(300, 2) / np.float32(10)
    x[:20, 1] = x[100:110, 0] = np.nan
    bands = band_signals(x, np.float32(0)).reshape(300, 4, 2)
    assert (bands[:20, :, 1] == 0).all()
    assert (bands[100:110, 0, 0] == 0).all()
    there = ~np.isnan(x)
    assert bands.sum(axis=1)[there] == pytest.approx(x[there], rel=1e-5, abs=1e-5)
    followed = band_signals(x, np.float32(0.01)).reshape(300, 4, 2)
    assert followed[:, :3].tobytes() == bands[:, :3].tobytes()
    assert np.abs(followed[-1, 3]).max() < np.abs(bands[-1, 3]).max()


def test_the_fast_band_is_what_an_average_has_not_followed_yet() -> None:
    e = np.ones((60, 1), np.float32)
    e[30:40] = np.nan
    fast = fast_band(e)[:, 0]
    assert fast[:30] == pytest.approx(0.7 ** np.arange(1, 31), abs=1e-6)
    assert (fast[30:40] == 0).all()
    assert fast[40] == pytest.approx(0.7**31, abs=1e-6)


def test_a_move_is_a_value_that_differs_from_the_one_before() -> None:
    value = np.array([[1, np.nan, 3], [1, np.nan, np.nan], [2, np.nan, 3], [2, np.nan, 4], [1, np.nan, 4]], np.float32)
    assert moves_of(value).tolist() == [2, 0, 1]
