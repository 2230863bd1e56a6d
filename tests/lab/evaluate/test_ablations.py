from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from detector.core.alarm import Prior
from detector.core.scaler import Scaling
from detector.core.score import TERM_NAMES
from detector.lab.calibration import calibrate
from detector.lab.evaluate.ablations import ABLATIONS, fused, linear, random_memory, the_mean, with_terms
from detector.lab.evaluate.alarms import settings_of
from detector.lab.evaluate.detectors import SeriesDetector
from detector.lab.scoring import scored

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


def test_what_is_open_holds_the_level() -> None:
    """While an alert is open, a fault does not become normal; until then the alarm changes nothing."""
    values = machine(4_000)
    values[2_000:2_300, 0] += 3
    scaling = Scaling.fit(values[:1_200])
    x = scaling.scaled(values)
    score = calibrate([values[:1_200]], [x[:1_200]], [x[:1_200]], [0])
    prior = Prior.fit(scored(score, values[:1_200], x[:1_200], x[:1_200])[0])
    unwatched = scored(score, values, x, x)[1]
    watched = scored(score, values, x, x, watched=(settings_of(10_000), prior))[1]
    assert_array_equal(unwatched[:2_000], watched[:2_000])
    assert np.median(watched[2_200:2_300, 0] - unwatched[2_200:2_300, 0]) > 0.01


@pytest.mark.parametrize("left_out", TERM_NAMES)
def test_a_term_that_is_left_out_is_0_and_the_others_stay(left_out: str) -> None:
    values = machine(1_500)
    values[1_000:1_100] += 2
    scaling = Scaling.fit(values[:900])
    x = scaling.scaled(values)
    score = calibrate([values[:900]], [x[:900]], [x[:900]], [0])
    others = [term for term in TERM_NAMES if term != left_out]
    whole, without = (scored(each, values, x, x)[1] for each in (score, with_terms(score, others)))
    kept = np.isin(TERM_NAMES, others)
    assert_array_equal(whole[:, kept], without[:, kept])
    assert (whole[:, ~kept].max(), without[:, ~kept].max()) > (0.1, 0)
    assert not without[:, ~kept].any()


def test_terms_add_up_to_the_score_that_ships() -> None:
    bands, slow, both = (
        fused("", "", the_mean, terms, has_peak=False).fit(machine(1_000), 1)(machine(1_200))
        for terms in (["bands"], ["slow"], ["bands", "slow"])
    )
    assert_allclose(both.deciding**2, bands.deciding**2 + slow.deciding**2, rtol=1e-4, atol=1e-6)
    assert_array_equal(both.score, both.deciding)
    with_peak = fused("", "", the_mean, ["bands", "slow"]).fit(machine(1_000), 1)(machine(1_200))
    assert (with_peak.score >= with_peak.deciding).all()
    assert with_peak.score.sum() > with_peak.deciding.sum()
