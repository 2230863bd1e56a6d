"""Baselines that a trained network must beat: persistence and a linear forecast. Errors are absolute, per channel, on scaled readings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.core.forecast import Kind
from detector.lab.ridge import Moments
from detector.lab.sequences import filled

F4 = NDArray[np.float32]
LAGS = 16
RIDGE = 1e-3
ERROR_MIN = 1e-3
"""A baseline whose mean error is smaller, in standard deviations, stands for a channel that hardly varies."""


def as_the_last(x: F4) -> F4:
    """What persistence expects of readings f4[T, D] without NaN: the one before; of the first one the mean, 0."""
    return np.concatenate((np.zeros_like(x[:1]), x[:-1]))


def persistence(xs: Sequence[F4]) -> list[F4]:
    """Residuals of persistence, per sequence f4[T, D]; NaN where the reading is missing."""
    return [x - as_the_last(filled(x)) for x in xs]


class LinearForecast:
    """Ridge regression of the next reading on the last LAGS readings of all channels, in closed form."""

    def __init__(self, xs: Sequence[F4]) -> None:
        d = xs[0].shape[1]
        moments = Moments(LAGS * d, d)
        for x in xs:
            moments.add(_past(x), filled(x))
        self._weight = moments.readout(RIDGE)

    def residuals(self, xs: Sequence[F4]) -> list[F4]:
        """Per sequence f4[T, D], NaN where the reading is missing."""
        return [(x - (_past(x) @ self._weight[:-1] + self._weight[-1])).astype(np.float32) for x in xs]


def _past(x: F4) -> NDArray[np.float64]:
    """f8[T, LAGS D]: the LAGS readings before each, the last one first; zeros before the first."""
    padded = np.concatenate((np.zeros((LAGS, x.shape[1])), filled(x)))
    return np.concatenate([padded[LAGS - lag : len(padded) - lag] for lag in range(1, LAGS + 1)], axis=1)


def mean_error(es: Sequence[F4], skip: int) -> NDArray[np.float64]:
    """Mean absolute residual of each channel, f8[D], without the first `skip` readings of a sequence (if it is longer)."""
    kept = np.concatenate([e[skip:] if len(e) > 2 * skip else e for e in es])
    return np.asarray(np.nanmean(np.abs(kept), axis=0), np.float64)


def verdict(errors: dict[str, NDArray[np.float64]], kind: Kind, readings: int) -> str:
    """How much better than the baselines, in plain words, or that it is not."""
    ratio_to = {name: mean_ratio(errors["network"], errors[name]) for name in ("persistence", "linear")}

    def against(name: str) -> str:
        ratio = ratio_to[name]
        if ratio < 0.98:
            return f"{100 * (1 - ratio):.0f} % smaller than {name}'s"
        return f"no smaller than {name}'s" if ratio < 1.02 else f"{100 * (ratio - 1):.0f} % larger than {name}'s"

    compared = f"On {readings:,} readings that no weight saw, its mean error is {against('persistence')} and {against('linear')}."
    if kind == "reconstruction":
        return compared + " A reconstruction sees the reading itself, the baselines do not: compare it with other reconstructions."
    worse = [name for name, ratio in ratio_to.items() if ratio >= 0.98]
    if not worse:
        return compared + " The memory earns its place."
    return compared + f" It does not beat {' or '.join(worse)}: more data, more time or another interval may help; the score still works."


def mean_ratio(error: NDArray[np.float64], baseline: NDArray[np.float64]) -> float:
    """Of errors per channel, f8[D] each: mean ratio over the channels that vary: where the baseline makes no error there is nothing to compare."""
    varies = baseline > ERROR_MIN
    return float(np.mean(error[varies] / baseline[varies])) if varies.any() else 1.0
