"""Bundles among the detectors that are compared."""

from __future__ import annotations

import numpy as np
import pytest

from detector.adapters.bundle import read_bundle
from detector.lab.evaluate.bundled import bundled
from tests.core.builders import normal_values


@pytest.mark.parametrize("channels", [1, 3])
def test_a_universal_bundle_scores_series_of_any_width_without_a_look_ahead(channels: int) -> None:
    detector = bundled("universal", read_bundle("universal").model)
    assert detector.channels is None
    values = normal_values(300, channels)
    scorer = detector.fit(values[:100], 1)
    whole, part = scorer(values), scorer(values[:200])
    assert np.isfinite(whole.score).all()
    assert whole.score[:200].tobytes() == part.score.tobytes()
    assert whole.expected is not None
    assert whole.expected.shape == values.shape


def test_the_training_part_is_normal_whatever_happens_in_it() -> None:
    """A level that begins in it is learned, and later is nothing strange; where it is not known to be normal it opens an alert, which
    nothing is learned from."""
    detector = bundled("universal", read_bundle("universal").model)
    values = normal_values(800, 1)
    values[200:] += 6 * values.std()
    known, unknown = (detector.fit(values[:n], 1)(values).deciding[600:].mean() for n in (600, 150))
    assert known < 0.5 * unknown


def test_a_bundle_of_channels_scores_series_of_its_width() -> None:
    assert bundled("plant", read_bundle("plant").model).channels == 4
