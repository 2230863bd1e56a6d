"""Whole sequences through a model."""

from __future__ import annotations

import numpy as np
import pytest

from detector.core.model import Model
from detector.lab.playback import Player, play
from tests.core.builders import model_of, normal_values, universal_model_of

MODELS = {"fleet": model_of(2), "reconstruction": model_of(2, 16, 2, "reconstruction"), "universal": universal_model_of(2)}
of_each_model = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


def sequences(count: int, readings: int = 80) -> np.ndarray:
    values = np.stack([normal_values(readings, 2, seed) for seed in range(count)])
    values[np.random.default_rng(0).random(values.shape) < 0.1] = np.nan
    return values


@of_each_model
@pytest.mark.parametrize("count", [1, 3, 4, 9])
def test_sequences_side_by_side_know_nothing_of_each_other(model: Model, count: int) -> None:
    values = sequences(9)
    many = play(model, values[:count], with_features=True)
    for k in range(count):
        alone = play(model, values[k : k + 1], with_features=True)
        for name, column in many._asdict().items():
            assert column[k].tobytes() == getattr(alone, name)[0].tobytes(), name


@of_each_model
def test_part_by_part_is_whole(model: Model) -> None:
    values = sequences(3)
    whole, player = play(model, values), Player(model, 3)
    parts = [player.play(values[:, start:end]) for start, end in ((0, 1), (1, 33), (33, 80))]
    for name, column in whole._asdict().items():
        assert np.concatenate([getattr(part, name) for part in parts], axis=1).tobytes() == column.tobytes(), name


@of_each_model
def test_what_was_played_fits_together(model: Model) -> None:
    """What is fed is the scaled reading where there is one; residuals are of readings that came; the future changes nothing."""
    values = sequences(2)
    found = play(model, values)
    there = ~np.isnan(values)
    assert np.array_equal(np.isnan(found.x), ~there)
    assert np.array_equal(np.isnan(found.residual), ~there)
    assert np.array_equal(found.fed[there], found.x[there])
    for name in ("fed", "expected", "forecast", "band_size", "weight"):
        assert np.isfinite(getattr(found, name)).all()
    assert found.features.shape == (2, 80, 0)
    assert found.band_size.shape == (2, 80, 8)
    if model.scaling is not None:
        np.testing.assert_allclose(found.forecast, model.scaling.unscaled(found.expected), rtol=1e-5)
        assert found.residual.tobytes() == (found.x - found.expected).tobytes()
        assert np.array_equal(found.x[there], np.stack([model.scaling.scaled(value) for value in values])[there])
        assert (found.band_size == 1).all()
        assert (found.weight == model.score.weight).all()
    other = values.copy()
    other[:, 50:] *= -2
    for name, column in play(model, other)._asdict().items():
        assert column[:, :50].tobytes() == getattr(found, name)[:, :50].tobytes(), name


def test_a_stream_that_measures_itself_goes_on_learning() -> None:
    """Its units at a reading are those of the readings before it: at first none."""
    values = np.stack([normal_values(400, 2)])
    found = play(MODELS["universal"], values)
    assert (found.x[0, 0] == 0).all()
    assert found.x[0, 200:].std() == pytest.approx(1, abs=0.2)
    assert np.abs(found.residual[0, 300:]).mean() < 3
    assert found.weight[0, 0].max() == pytest.approx(0.01)  # nothing is known
    assert found.weight[0, -1] == pytest.approx([1, 1])
