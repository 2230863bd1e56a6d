"""Detectors that expect the next reading, and score how wrong they were: the classical forecasters.

A forecaster is fitted on the first 3/4 of a training part; the rest calibrates what it has to choose, and the size of its errors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from detector.core.forecast import SCALED_MAX
from detector.core.scaler import Scaling
from detector.lab.evaluate.detectors import Scored, Scorer, SeriesDetector
from detector.lab.evaluate.filters import F4, F8, arma_of_changes, error_scale, ewma, from_lags, in_blocks, needing, past
from detector.lab.evaluate.series import calibration_start
from detector.lab.forecast_baselines import as_the_last
from detector.lab.sequences import filled

Forecast = Callable[[F4], F4]
"""Scaled readings f4[T, D] without NaN -> what was expected of each, f4[T, D] within +-SCALED_MAX. Row t depends only on rows before
t; row 0 is 0, the training mean."""

FitForecast = Callable[[F4, F4, int], Forecast]
"""(fit f4[n, D], calibrate f4[m, D], seed) -> Forecast; both parts are scaled and without NaN, the second follows the first."""

SCORE_RATE, LARGEST = 0.1, 3
CHANGES_MIN = 1e-6
"""A channel whose standard deviation in the fitting part, on scaled readings, is smaller than this has not varied."""

AUTOREGRESSION_LAGS = 64
RIDGES = (1e-5, 1e-3, 1e-1)
"""Parts of the mean square of the lags; the calibrating part chooses one per channel."""

ARIMA_READINGS = 2_000
ARIMA_MA_MAX = 0.99
"""A moving average at 1 would never forget its first error; that is where the fit of plain noise ends up."""

SPECTRUM_WINDOW = 64
SPECTRUM_ENERGY = 0.9
SPECTRUM_LAST_MAX = 0.5
"""Largest share of the last reading of a window (nu^2) within the components kept. The recurrence multiplies the variance of noise in
the past by nu^2 / (1 - nu^2), and is not defined at 1: this keeps it from amplifying."""

VECTORS_LAGS, VECTORS_WINDOWS, VECTORS_COST = 16, 1_000, 10.0
VECTORS_GAMMA = 0.25 / VECTORS_LAGS
"""Of a kernel twice as wide as usual: with it a linear recursion is forecast to 1.1 times its noise, else to 1.3 times."""

VECTORS_TUBE = 0.05
"""Errors smaller than this part of a standard deviation cost nothing, and need no support vector."""

VECTORS_CURVED_CHANNELS = 8
"""With more channels the regression is linear: a pass through a kernel takes seconds per channel."""

NETWORK_LAGS, NETWORK_HIDDEN, NETWORK_WINDOWS, NETWORK_PASSES = 8, 64, 4_000, 100


def errors_of(name: str, about: str, fit_forecast: FitForecast, is_seeded: bool = False) -> SeriesDetector:
    """The detector that a forecaster makes: EWMA of the mean of the LARGEST largest log1p(|error| / its 99 % quantile).

    Missing values have no error.
    """

    def fit(train: F4, seed: int) -> Scorer:
        cut = calibration_start(len(train))
        scaling = Scaling.fit(train[:cut])
        x = scaling.scaled(train)
        whole = filled(x)
        forecast = fit_forecast(whole[:cut], whole[cut:], seed)
        scale = error_scale((x - forecast(whole))[cut:])

        def score(value: F4) -> Scored:
            x = scaling.scaled(value)
            expected = forecast(filled(x))
            size = np.log1p(np.abs(np.nan_to_num(x - expected)) / scale)
            largest = np.sort(size, axis=1)[:, -LARGEST:].mean(axis=1)
            return Scored(ewma(largest, SCORE_RATE).astype(np.float32), scaling.unscaled(expected))

        return score

    return SeriesDetector(name, about, fit, is_seeded)


def _where_it_varies(fit_forecast: FitForecast) -> FitForecast:
    """Leave channels that did not vary in the fitting part to persistence: nothing can be learnt from them, nor from their past."""

    def fit_varying(fit: F4, calibrate: F4, seed: int) -> Forecast:
        varying = np.flatnonzero(fit.std(axis=0, dtype=np.float64) > CHANGES_MIN)
        if not len(varying):
            return as_the_last
        learnt = fit_forecast(np.ascontiguousarray(fit[:, varying]), np.ascontiguousarray(calibrate[:, varying]), seed)

        def forecast(x: F4) -> F4:
            expected = as_the_last(x)
            expected[:, varying] = np.clip(learnt(np.ascontiguousarray(x[:, varying])), -SCALED_MAX, SCALED_MAX)
            expected[:1] = 0
            return expected

        return forecast

    return fit_varying


def _linear(weight: F8, offset: F8) -> Forecast:
    """The last readings of the same channel, weighted: weight f8[L, D], offset f8[D]."""
    return lambda x: from_lags(x, weight, offset).astype(np.float32)


def _autoregression(fit: F4, calibrate: F4, seed: int) -> Forecast:
    """Ridge regression on the last AUTOREGRESSION_LAGS readings of the same channel, in closed form; the mean is not shrunk."""
    channels, rows = fit.shape[1], np.arange(1, len(fit))
    found = np.zeros((len(RIDGES), AUTOREGRESSION_LAGS + 1, channels))
    for k in range(channels):
        lags = past(fit[:, k], rows, AUTOREGRESSION_LAGS).astype(np.float64)
        now = fit[1:, k].astype(np.float64)
        middle, level = lags.mean(axis=0), now.mean()
        lags -= middle
        gram, target = lags.T @ lags, lags.T @ (now - level)
        for i, ridge in enumerate(RIDGES):
            weight = np.linalg.solve(gram + ridge * max(np.trace(gram) / len(gram), CHANGES_MIN) * np.eye(len(gram)), target)
            found[i, :-1, k], found[i, -1, k] = weight, level - middle @ weight
    errors = [np.abs(from_lags(calibrate, w[:-1], w[-1]) - calibrate)[1:].mean(axis=0) for w in found]
    best = np.argmin(errors, axis=0)
    chosen = found[best, :, np.arange(channels)].T
    return _linear(chosen[:-1], chosen[-1])


def _arima(fit: F4, calibrate: F4, seed: int) -> Forecast:
    """ARIMA(2, 1, 1) of each channel, by maximum likelihood on the end of the fitting part; persistence where that fails or is worse.

    Source: Box and Jenkins, "Time Series Analysis: Forecasting and Control", 1970.
    """
    recent = fit[-ARIMA_READINGS:].astype(np.float64)
    weight = np.stack([_arima_weight(signal) for signal in recent.T], axis=1)
    after = calibrate.astype(np.float64)
    error, plain = (np.abs(arma_of_changes(after, w) - after)[1:].mean(axis=0) for w in (weight, np.zeros_like(weight)))
    weight[:, ~(error < plain)] = 0
    return lambda x: np.asarray(arma_of_changes(x.astype(np.float64), weight), np.float32)


def _arima_weight(signal: F8) -> F8:
    """Of the last change, the one before, and the last error: f8[3], zeros if the fit fails. signal f8[n]"""
    with needing("statsmodels"):
        from statsmodels.tsa.arima.model import ARIMA

    if signal.std() > CHANGES_MIN:
        for how in ("innovations_mle", "statespace"):  # the first is fast, and fails on signals that are too smooth
            with warnings.catch_warnings(), suppress(ValueError, ArithmeticError, np.linalg.LinAlgError):
                warnings.simplefilter("ignore")  # poor starting values, no convergence: the errors will show it
                found = np.asarray(ARIMA(signal, order=(2, 1, 1)).fit(method=how).params, np.float64)[:3]
                if np.isfinite(found).all():
                    return np.append(found[:2], np.clip(found[2], -ARIMA_MA_MAX, ARIMA_MA_MAX))
    return np.zeros(3)


def _spectrum(fit: F4, calibrate: F4, seed: int) -> Forecast:
    """Singular spectrum analysis of each channel: the linear recurrence of its leading components, on the last 63 readings.

    Source: Golyandina, Nekrutkin and Zhigljavsky, "Analysis of Time Series Structure: SSA and Related Techniques", 2001.
    """
    window = min(SPECTRUM_WINDOW, len(fit) // 2)
    weight = np.zeros((window - 1, fit.shape[1]))
    for k, signal in enumerate(fit.T.astype(np.float64)):
        trajectory = np.lib.stride_tricks.sliding_window_view(signal, window)
        energy, axes = (array[..., ::-1] for array in np.linalg.eigh(trajectory.T @ trajectory))
        share = np.cumsum(axes[-1] ** 2)  # nu^2 of the first, the first two, ... components
        kept = min(int(np.searchsorted(np.cumsum(energy), SPECTRUM_ENERGY * energy.sum())) + 1, int((share <= SPECTRUM_LAST_MAX).sum()))
        if kept:
            weight[:, k] = (axes[:-1, :kept] @ axes[-1, :kept] / (1 - share[kept - 1]))[::-1]
        else:
            weight[0, k] = 1.0
    recurrence = _linear(weight, np.zeros(fit.shape[1]))
    return lambda x: np.concatenate((as_the_last(x)[: window - 1], recurrence(x)[window - 1 :]))  # which needs a whole window


def _sample(fit: F4, windows: int, seed: int) -> NDArray[np.int64]:
    """At most so many rows of the fitting part that have a past, in order."""
    rows = np.random.default_rng(seed).choice(len(fit) - 1, size=min(windows, len(fit) - 1), replace=False)
    return np.sort(rows) + 1


def _support_vectors(fit: F4, calibrate: F4, seed: int) -> Forecast:
    """Support vector regression of each channel on its last readings: with a radial kernel, or linear where there are many channels."""
    with needing("scikit-learn"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import SVR, LinearSVR

    rows = _sample(fit, VECTORS_WINDOWS, seed)
    lags, now = past(fit, rows, VECTORS_LAGS).astype(np.float64), fit[rows].astype(np.float64)
    channels = range(fit.shape[1])
    if len(channels) <= VECTORS_CURVED_CHANNELS:
        curved = [SVR(C=VECTORS_COST, gamma=VECTORS_GAMMA, epsilon=VECTORS_TUBE).fit(lags[:, :, k], now[:, k]) for k in channels]
        return lambda x: np.stack([m.predict(past(x[:, k], np.arange(len(x)), VECTORS_LAGS)) for k, m in enumerate(curved)], axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        straight = [LinearSVR(epsilon=VECTORS_TUBE, random_state=seed).fit(lags[:, :, k], now[:, k]) for k in channels]
    return _linear(np.stack([m.coef_ for m in straight], axis=1), np.array([float(np.ravel(m.intercept_)[0]) for m in straight]))


def _feed_forward(fit: F4, calibrate: F4, seed: int) -> Forecast:
    """A network with one hidden layer on the last readings of all channels."""
    with needing("scikit-learn"):
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor
        from threadpoolctl import threadpool_limits

    rows = _sample(fit, NETWORK_WINDOWS, seed)
    lags, now = past(fit, rows, NETWORK_LAGS).reshape(len(rows), -1), fit[rows]
    network = MLPRegressor(hidden_layer_sizes=(NETWORK_HIDDEN,), max_iter=NETWORK_PASSES, random_state=seed)
    with warnings.catch_warnings(), threadpool_limits(1):  # several threads add up in another order
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(lags, now if now.shape[1] > 1 else now[:, 0])

    def forecast(x: F4) -> F4:
        def of_rows(rows: NDArray[np.int64]) -> F4:
            return np.asarray(network.predict(past(x, rows, NETWORK_LAGS).reshape(len(rows), -1)), np.float32).reshape(len(rows), -1)

        with threadpool_limits(1):
            return in_blocks(len(x), of_rows)

    return forecast


FORECASTERS: dict[str, FitForecast] = {
    "persistence": lambda fit, calibrate, seed: as_the_last,
    "autoregression": _where_it_varies(_autoregression),
    "arima": _where_it_varies(_arima),
    "spectrum": _where_it_varies(_spectrum),
    "support_vectors": _where_it_varies(_support_vectors),
    "feed_forward": _where_it_varies(_feed_forward),
}
"""The forecasters by themselves: a fusion of detectors whitens their errors in its own way."""

FORECASTS: tuple[SeriesDetector, ...] = (
    errors_of("persistence", "errors of: as the last one was", FORECASTERS["persistence"]),
    errors_of("autoregression", "errors of a ridge regression on a channel's last 64 readings", FORECASTERS["autoregression"]),
    errors_of("arima", "errors of an ARIMA(2, 1, 1) of each channel", FORECASTERS["arima"]),
    errors_of("spectrum", "errors of a singular spectrum forecast of each channel", FORECASTERS["spectrum"]),
    errors_of("support_vectors", "errors of a support vector regression of each channel", FORECASTERS["support_vectors"], True),
    errors_of("feed_forward", "errors of a small network on the last readings of all channels", FORECASTERS["feed_forward"], True),
)
