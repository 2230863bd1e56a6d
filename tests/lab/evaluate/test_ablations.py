from __future__ import annotations

import numpy as np
import pytest
from detector.core.fitting import fit_scorer
from detector.core.scaling import Scaling
from detector.core.scoring import TERMS
from detector.core.terms import WEIGHTS
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from detector.lab.evaluate.ablations import ABLATIONS, Twin, fused, linear, random_memory, the_mean
from detector.lab.evaluate.detectors import SeriesDetector

F4 = NDArray[np.float32]
by_name = pytest.mark.parametrize("detector", ABLATIONS, ids=lambda detector: detector.name)


@pytest.fixture(autouse=True)
def _soon_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    """What must hold of a trained memory holds of one that was trained briefly."""
    monkeypatch.setattr("detector.lab.evaluate.ablations.EPOCHS_MAX", 2)


def machine(readings: int, seed: int = 0, channels: int = 3) -> F4:
    """Channels that follow one cycle with lags, and noise; the last one is constant."""
    generator = np.random.default_rng(seed)
    phase = 2 * np.pi * np.arange(readings) / 40
    columns = [np.sin(phase - 0.7 * k) for k in range(channels - 1)] + [np.full(readings, 5.0)]
    noisy = np.stack(columns, axis=1) + 0.05 * generator.standard_normal((readings, channels)) * ([1.0] * (channels - 1) + [0.0])
    return noisy.astype(np.float32)


@by_name
def test_a_prefix_gets_the_prefix_of_the_scores(detector: SeriesDetector) -> None:
    values = machine(1_500)
    values[700:720, 0] = np.nan
    scorer = detector.fit(values[:600], 1)
    whole, part = scorer(values), scorer(values[:1_000])
    assert_allclose(whole.score[:1_000], part.score, rtol=2e-4, atol=1e-5)  # a longer matrix product may round otherwise
    assert np.isfinite(whole.score).all()


@by_name
def test_the_same_seed_gives_the_same_detector(detector: SeriesDetector) -> None:
    values = machine(900)
    one, same, other = (detector.fit(values[:600], seed)(values).score for seed in (1, 1, 2))
    assert_array_equal(one, same)
    assert np.array_equal(one, other) != detector.is_seeded


@by_name
def test_a_reversed_cycle_ranks_above_what_is_normal(detector: SeriesDetector) -> None:
    values = machine(3_000)
    values[2_000:2_200] = values[2_000:2_200][::-1]
    score = detector.fit(values[:1_200], 1)(values).score
    assert np.median(score[2_020:2_200]) > np.quantile(score[1_200:2_000], 0.9)


@pytest.mark.parametrize("forecaster", [linear, random_memory])
def test_forecasters_beat_the_mean_at_all_their_horizons(forecaster: object) -> None:
    x = machine(2_000)[:, :2]
    expect = forecaster(x[:900], x[900:1_200], 1)  # type: ignore[operator]
    error = np.abs(x - expect(x))[1_200:].mean()
    assert error < 0.3 * np.abs(x[1_200:]).mean()
    assert_allclose(expect(x)[0], expect(x + 1)[0], atol=1e-6)  # nothing was seen yet


def test_what_is_open_holds_the_level_as_it_would_reading_by_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks give what single readings give, with alerts that open and close among them."""
    values = machine(4_000)
    values[2_000:2_300, 0] += 3
    values[2_800:2_900, 1] += 5
    twin = Twin.fit(values[:1_200], the_mean, 1)
    in_blocks = twin.judged(values)[0]
    monkeypatch.setattr("detector.lab.evaluate.ablations.BLOCK_READINGS", 1)
    assert_array_equal(twin.judged(values)[0], in_blocks)
    x = twin.scaling.scaled(values)
    unwatched = twin.scorer.of_one_stream(values, x, x)[1]
    assert_array_equal(unwatched[:2_000], in_blocks[:2_000])
    assert np.median(in_blocks[2_200:2_300, 0] - unwatched[2_200:2_300, 0]) > 0.01


def test_terms_add_up_to_the_score_that_ships() -> None:
    values = machine(1_000)
    scaling = Scaling.fit(values)
    x = scaling.scaled(values)
    scorer = fit_scorer([values], [x], [x], [0])
    score, terms = scorer.of_one_stream(values, x, x)
    squares = WEIGHTS * terms.astype(np.float64) ** 2
    assert_allclose(np.sqrt(squares.sum(axis=1)), score, rtol=1e-5)
    assert terms.shape == (1_000, len(TERMS))
    judged = fused("bands", "", the_mean, ("bands",)).fit(values, 1)(values)
    alone = fused("slow", "", the_mean, ("slow",)).fit(values, 1)(values)
    both = fused("both", "", the_mean, ("bands", "slow")).fit(values, 1)(values)
    assert_allclose(both.deciding**2, judged.deciding**2 + alone.deciding**2, rtol=1e-3, atol=1e-5)
