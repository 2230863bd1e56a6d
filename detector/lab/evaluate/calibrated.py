"""A fusion that keeps both: what sees faults of level and correlation, and what sees faults of time.

Added as they are, the terms of the shipped score drown each other: the bands' own scatter on normal readings hides a small but lasting
rise of the forecast's error, which is all that a fault of time may show. Here every term says how far it is beyond what is normal for it,

    t = log1p(max(0, (v - q50) / (q99 - q50)))     quantiles of v on the readings that calibrate

and the sum is taken of the bands, the largest errors, the whitened fast errors, and a slow plain one that the shipped score lacks:

    slow    EWMA.03 of the mean over channels of |e| / q99
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detector.lab.evaluate.filters import ewma
from detector.lab.evaluate.forecasts import FORECASTERS, FitForecast
from detector.lab.evaluate.method import F4, Judge, Method, Scored
from detector.lab.evaluate.series import calibration_start
from detector.lab.evaluate.whitened import Twin, linear, random_memory, trained_memory

SLOW_RATE = 0.03
MIDDLE, HIGH = 0.5, 0.99
NARROWEST = 1e-3
"""The least distance of the quantiles, as a share of the higher one: a term that never moves must not explode when it does."""
TERMS = ("bands", "errors", "joint", "slow")


def calibrated(name: str, about: str, fit_expect: FitForecast, terms: Sequence[str] = TERMS, *, is_seeded: bool = False) -> Method:
    """A detector that adds calibrated terms of the errors of a forecaster and of the readings themselves.

    terms  those that count
    """
    chosen = [TERMS.index(term) for term in terms]

    def fit(train: F4, seed: int) -> Judge:
        twin = Twin.fit(train, fit_expect, seed)

        def terms_of(values: F4) -> tuple[F4, F4]:
            fast, e, expected = twin.judged(values)
            present = ~np.isnan(e)
            plain = np.where(present, np.abs(e) / twin.scorer.error_scale, 0.0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
            slow = ewma(plain.astype(np.float32), SLOW_RATE)
            return np.column_stack((fast[:, : len(TERMS) - 1], slow))[:, chosen].astype(np.float32), expected

        normal = terms_of(train)[0][calibration_start(len(train)) :]
        middle, high = np.quantile(normal, [MIDDLE, HIGH], axis=0)
        width = np.maximum(high - middle, np.maximum(NARROWEST * np.abs(high), 1e-9))

        def judge(values: F4) -> Scored:
            found, expected = terms_of(values)
            beyond = np.log1p(np.maximum((found - middle) / width, 0.0))
            return Scored(beyond.sum(axis=1).astype(np.float32), expected)

        return judge

    return Method(name, about, fit, is_seeded)


CALIBRATED = (
    calibrated("c-linear", "calibrated terms, linear expectation", linear),
    calibrated("c-lags", "calibrated terms, autoregression on 64 lags", FORECASTERS["autoregression"]),
    calibrated("c-random", "calibrated terms, LSTM with random weights", random_memory, is_seeded=True),
    calibrated("c-trained", "calibrated terms, LSTM trained on the series", trained_memory, is_seeded=True),
    calibrated("slow-random", "the slow term alone, LSTM with random weights", random_memory, ("slow",), is_seeded=True),
)
