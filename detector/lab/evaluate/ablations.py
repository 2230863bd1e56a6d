"""The score that ships on the errors of other forecasters, and without one of its terms.

What a network is worth is the difference to another forecaster in its place: `linear` forecasts from the same bands without a memory of its
own, `random` is an LSTM whose weights were never trained, with a head in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from detector.core.alarm import Prior
from detector.core.forecast import HORIZONS, Network
from detector.core.scaler import TERMS, Scaling
from detector.core.score import TERM_NAMES, Score
from detector.lab.calibration import calibrate
from detector.lab.evaluate.alarms import WATCHED_BUDGET, settings_of
from detector.lab.evaluate.detectors import F4, Scored, Scorer, SeriesDetector
from detector.lab.evaluate.forecasts import FORECASTERS, FitForecast, Forecast
from detector.lab.evaluate.series import calibration_start
from detector.lab.offline_inference import residuals
from detector.lab.options import Options
from detector.lab.progress import Epoch
from detector.lab.ridge import Moments, horizon_weights, readout
from detector.lab.scoring import band_signals, scored
from detector.lab.sequences import LANES, filled
from detector.lab.train import fit_quickly, require_torch

NO_LEVEL = np.float32(0.0)
HIDDEN = 64
EPOCHS_MAX, NOISE, LANE_READINGS_MIN = 15, 0.1, 300


def fused(
    name: str,
    about: str,
    fit_forecast: FitForecast,
    terms: Sequence[str] = TERM_NAMES,
    *,
    is_seeded: bool = False,
    has_peak: bool = True,
) -> SeriesDetector:
    """A detector that scores the errors of a forecaster, and the readings themselves, as the shipped score does.

    The forecaster is fitted on the first 3/4 of the training part; its errors are measured on the rest. The shipped alarm watches, because
    the score's level stands still while an alert is open.

    terms     of the score, those that count
    has_peak  whether a reading's score tells of those before
    """

    def fit(train: F4, seed: int) -> Scorer:
        n = calibration_start(len(train))
        scaling = Scaling.fit(train[:n])
        x = scaling.scaled(train)
        forecast = fit_forecast(filled(x[:n]), filled(x[n:]), seed)
        e = x - forecast(filled(x))
        score = with_terms(calibrate([train], [x], [e], [n]), terms)
        score = score if has_peak else replace(score, peak_share=np.zeros(1, np.float32))
        watched = settings_of(WATCHED_BUDGET), Prior.fit(scored(score, train, x, e)[0][n:])

        def judge(values: F4) -> Scored:
            x = scaling.scaled(values)
            expected = forecast(filled(x))
            instantaneous, _, with_peak = scored(score, values, x, x - expected, watched=watched)
            return Scored(with_peak, scaling.unscaled(expected), instantaneous)

        return judge

    return SeriesDetector(name, about, fit, is_seeded)


def with_terms(score: Score, terms: Sequence[str]) -> Score:
    """The score with these terms only: of the others nothing is ever beyond what is normal."""
    middle = np.where(np.isin(TERM_NAMES[:TERMS], terms), score.middle, np.float32(np.inf))
    if TERM_NAMES[TERMS] in terms:
        return replace(score, middle=middle)
    return replace(score, middle=middle, low=np.full_like(score.low, -np.inf), high=np.full_like(score.high, np.inf))


# -- forecasters --------------------------------------------------------------------------------------------------------


def the_mean(fit: F4, choose: F4, seed: int) -> Forecast:
    """Every reading is expected at the mean of training."""
    return lambda x: np.zeros_like(x)


def linear(fit: F4, choose: F4, seed: int) -> Forecast:
    """Ridge regression on the four bands of all channels, at every horizon."""
    return _readout(fit, choose, lambda x: np.asarray(band_signals(x, NO_LEVEL), np.float32))


def random_memory(fit: F4, choose: F4, seed: int) -> Forecast:
    """An LSTM of random weights with time constants from 1 to 200 readings, its head in closed form: `detector train --quick`."""
    return _by_network(fit_quickly, [fit], [choose], seed)


def trained_memory(fit: F4, choose: F4, seed: int) -> Forecast:
    """The same LSTM, trained on this series as `detector train` does it."""
    require_torch()
    from detector.lab.gradient import fit_memory

    return _by_network(fit_memory, _lanes(fit), [choose], seed)


def _by_network(fit_network: Callable[..., tuple[Network, list[Epoch]]], fit: list[F4], choose: list[F4], seed: int) -> Forecast:
    """What a fleet's model forecasts, as the service does."""
    options = Options(hidden=HIDDEN, epochs_max=EPOCHS_MAX, minutes_max=float("inf"), noise=NOISE, seed=seed, device="cpu")
    network, _ = fit_network(fit[0].shape[1], fit, choose, options)
    return lambda x: x - residuals(network, [x])[0]


def _lanes(x: F4) -> list[F4]:
    """One series as several, which can be learned from side by side."""
    return np.array_split(x, max(1, min(LANES, len(x) // LANE_READINGS_MIN)))


def _readout(fit: F4, choose: F4, features: Callable[[F4], F4]) -> Forecast:
    """Closed-form ridge readouts of features f4[T, F] at every horizon, weighted in the forecast as a network's are.

    How strong a ridge is, is chosen per channel and horizon on the readings that were not fitted.
    """
    both, n = np.concatenate((fit, choose)), len(fit)
    inputs = features(both)
    heads, errors = [], []
    for horizon in HORIZONS:
        later = Moments(inputs.shape[1], both.shape[1]).add(inputs[n - horizon : -horizon], both[n:])
        heads.append(readout(Moments(inputs.shape[1], both.shape[1]).add(inputs[: n - horizon], both[horizon:n]), later))
        errors.append(later.error(heads[-1]))
    weights = horizon_weights(np.stack(errors)).astype(np.float32)

    def forecast(x: F4) -> F4:
        inputs = features(x)
        expected = np.zeros_like(x)
        for horizon, head, weight in zip(HORIZONS, heads, weights, strict=True):
            at_horizon = (inputs @ head[:-1] + head[-1]).astype(np.float32)
            expected[horizon:] += weight * at_horizon[:-horizon]
        return np.clip(expected, both.min(axis=0), both.max(axis=0))

    return forecast


ABLATIONS = (
    fused("bands", "whitened bands of the readings, no forecast", the_mean, ("bands",)),
    fused("bands+fast", "bands and the whitened fast band, no forecast", the_mean, ("bands", "whitened")),
    fused("linear", "the shipped score on the errors of a linear forecast", linear),
    fused("lags", "the shipped score on the errors of an autoregression on 64 lags, one step ahead", FORECASTERS["autoregression"]),
    fused("random", "the shipped score on the errors of an LSTM with random weights", random_memory, is_seeded=True),
    fused("trained", "the shipped score on the errors of an LSTM trained on the series", trained_memory, is_seeded=True),
    *(
        fused(
            f"random-{left_out}",
            f"as random, without the term {left_out}",
            random_memory,
            [term for term in TERM_NAMES if term != left_out],
            is_seeded=True,
        )
        for left_out in TERM_NAMES
    ),
    fused("random-peak", "as random, every reading scored alone", random_memory, is_seeded=True, has_peak=False),
    fused("slow", "the slow term alone, LSTM with random weights", random_memory, ("slow",), is_seeded=True),
)
