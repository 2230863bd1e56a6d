"""The score that ships, and its twins: the same whitened bands and error terms with another forecaster in the network's place.

What a network is worth is the difference to its twins: `linear` expects from the same bands without a memory of its own,
`random` is an LSTM whose weights were never trained, with a readout in closed form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detector.core.fitting import fit_scorer
from detector.core.predictor import HORIZONS, LAGS, Predictor
from detector.core.scaling import Scaling
from detector.core.scoring import TERMS, BandScorer
from detector.core.states import arrays_of
from detector.core.terms import WEIGHTS, band_signals, soft_maximum
from detector.core.threshold import Event, Prior
from detector.lab.evaluate.alarms import WATCHED_BUDGET, events_of
from detector.lab.evaluate.detectors import F4, Scored, Scorer, SeriesDetector
from detector.lab.evaluate.forecasts import FORECASTERS, FitForecast, Forecast
from detector.lab.evaluate.series import calibration_start
from detector.lab.offline_inference import residuals
from detector.lab.ridge import Moments, horizon_weights, readout
from detector.lab.sequences import LANES, filled
from detector.lab.train import Options, fit_memory, fit_quickly

NO_LEVEL = np.float32(0.0)
BLOCK_READINGS = 1_024
TURNS = (Event.OPENED, Event.QUIET, Event.ACCEPTED)
HIDDEN = 64
EPOCHS_MAX, NOISE, LANE_READINGS_MIN = 15, 0.1, 300


def fused(
    name: str, about: str, fit_expect: FitForecast, terms: Sequence[str] = TERMS, *, is_seeded: bool = False, lingers: bool = True
) -> SeriesDetector:
    """A detector that scores the errors of a forecaster, and the readings themselves, as the shipped score does.

    terms    of the score, those that count
    lingers  whether a reading's score tells of those before
    """
    weight = np.where(np.isin(TERMS, terms), WEIGHTS, 0.0)

    def fit(train: F4, seed: int) -> Scorer:
        twin = Twin.fit(train, fit_expect, seed)

        def score(values: F4) -> Scored:
            found, expected = twin.judged(values)
            alone = np.empty(len(found), np.float32)
            soft_maximum(found, weight, alone)
            return Scored(twin.scorer.lingering_of_one_stream(alone) if lingers else alone, expected, alone)

        return score

    return SeriesDetector(name, about, fit, is_seeded)


@dataclass(frozen=True, slots=True)
class Twin:
    """The shipped score's parts around another forecaster, fitted on one training part."""

    scaling: Scaling
    expect: Forecast
    scorer: BandScorer
    prior: Prior

    @staticmethod
    def fit(train: F4, fit_expect: FitForecast, seed: int) -> Twin:
        """The forecaster sees the first 3/4; its errors are measured on the rest."""
        n = calibration_start(len(train))
        scaling = Scaling.fit(train[:n])
        x = scaling.scaled(train)
        expect = fit_expect(filled(x[:n]), filled(x[n:]), seed)
        e = x - expect(filled(x))
        scorer = fit_scorer([train], [x], [e], [n])
        return Twin(scaling, expect, scorer, Prior.fit(scorer.of_one_stream(train, x, e)[0][n:]))

    def judged(self, values: F4) -> tuple[F4, F4]:
        """Terms of the score f4[T, 5], and expected values f4[T, D] (engineering units).

        As in the service the shipped alarm watches, because the score's level stands still while an alert is open. Which reading opens
        or closes one is known only once it is scored: readings are tried in blocks, and a block ends where that happened.
        """
        x = self.scaling.scaled(values)
        expected = self.expect(filled(x))
        e = x - expected
        states = arrays_of(self.scorer.columns() | self.prior.columns())
        terms, start = np.empty((len(x), len(TERMS)), np.float32), 0

        def play(part: slice, states: dict[str, NDArray[Any]]) -> NDArray[np.uint8]:
            score, terms[part] = self.scorer.judged(np.zeros(len(x[part]), np.int32), values[part], x[part], e[part], states)
            return events_of(score, part.start, WATCHED_BUDGET, self.prior, states)

        while start < len(x):
            part = slice(start, min(start + BLOCK_READINGS, len(x)))
            tried = {name: array.copy() for name, array in states.items()}
            turns = np.flatnonzero(np.isin(play(part, tried), TURNS))
            if len(turns) and start + turns[0] + 1 < part.stop:
                part = slice(start, start + int(turns[0]) + 1)
                tried = states
                play(part, tried)
            states, start = tried, part.stop
        return terms, self.scaling.unscaled(expected)


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
    return _by_network(fit_memory, _lanes(fit), [choose], seed)


def _by_network(fit_network: Callable[..., object], fit: list[F4], choose: list[F4], seed: int) -> Forecast:
    """What a fleet's model expects, as the service does."""
    torch.manual_seed(seed)
    predictor = Predictor(fit[0].shape[1], HIDDEN, horizons=HORIZONS, lags=LAGS)
    options = Options(hidden=HIDDEN, epochs_max=EPOCHS_MAX, minutes_max=float("inf"), noise=NOISE, seed=seed)
    fit_network(predictor, fit, choose, options)
    return lambda x: x - residuals(predictor.eval(), [x])[0]


def _lanes(x: F4) -> list[F4]:
    """One series as several, which can be learned from side by side."""
    return np.array_split(x, max(1, min(LANES, len(x) // LANE_READINGS_MIN)))


def _readout(fit: F4, choose: F4, features: Callable[[F4], F4]) -> Forecast:
    """Closed-form ridge readouts of features f4[T, F] at every horizon, with shares in what is expected as a network's.

    How strong a ridge is, is chosen per channel and horizon on the readings that were not fitted.
    """
    both, n = np.concatenate((fit, choose)), len(fit)
    inputs = features(both)
    weights, errors = [], []
    for horizon in HORIZONS:
        later = Moments(inputs.shape[1], both.shape[1]).add(inputs[n - horizon : -horizon], both[n:])
        weights.append(readout(Moments(inputs.shape[1], both.shape[1]).add(inputs[: n - horizon], both[horizon:n]), later))
        errors.append(later.error(weights[-1]))
    share = horizon_weights(np.stack(errors)).astype(np.float32)

    def expect(x: F4) -> F4:
        inputs = features(x)
        expected = np.zeros_like(x)
        for horizon, weight, part in zip(HORIZONS, weights, share, strict=True):
            said = (inputs @ weight[:-1] + weight[-1]).astype(np.float32)
            expected[horizon:] += part * said[:-horizon]
        return np.clip(expected, both.min(axis=0), both.max(axis=0))

    return expect


ABLATIONS = (
    fused("bands", "whitened bands of the readings, no forecast", the_mean, ("bands",)),
    fused("bands+fast", "bands and the whitened fast band, no forecast (xj + x0)", the_mean, ("bands", "joint")),
    fused("linear", "the shipped score on the errors of a linear expectation (F-lin)", linear),
    fused("lags", "the shipped score on the errors of an autoregression on 64 lags, one step ahead", FORECASTERS["autoregression"]),
    fused("random", "the shipped score on the errors of an LSTM with random weights", random_memory, is_seeded=True),
    fused("trained", "the shipped score on the errors of an LSTM trained on the series", trained_memory, is_seeded=True),
    *(
        fused(
            f"random-{left_out}",
            f"as random, without the term {left_out}",
            random_memory,
            [t for t in TERMS if t != left_out],
            is_seeded=True,
        )
        for left_out in TERMS
    ),
    fused("random-lingering", "as random, every reading scored alone", random_memory, is_seeded=True, lingers=False),
    fused("slow", "the slow term alone, LSTM with random weights", random_memory, ("slow",), is_seeded=True),
)
