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

from detector.core.scaling import Scaling
from detector.core.scoring import BandScorer
from detector.lab.evaluate.filters import ewma
from detector.lab.evaluate.forecasts import FORECASTERS
from detector.lab.evaluate.method import F4, Judge, Method, Scored
from detector.lab.evaluate.series import calibration_start
from detector.lab.evaluate.whitened import FitExpect, linear, random_memory, trained_memory
from detector.lab.sequences import filled

SLOW_RATE = 0.03
MIDDLE, HIGH = 0.5, 0.99
NARROWEST = 1e-3
"""The least distance of the quantiles, as a share of the higher one: a term that never moves must not explode when it does."""
TERMS = ("bands", "errors", "joint", "slow")


def calibrated(name: str, about: str, fit_expect: FitExpect, terms: Sequence[str] = TERMS, *, is_seeded: bool = False) -> Method:
    """A detector that adds calibrated terms of the errors of a forecaster and of the readings themselves.

    terms  those that count
    """
    chosen = [TERMS.index(term) for term in terms]

    def fit(train: F4, seed: int) -> Judge:
        n = calibration_start(len(train))
        scaling = Scaling.fit(train[:n])
        x = scaling.scaled(train)
        expect = fit_expect(filled(x[:n]), filled(x[n:]), seed)
        scorer = BandScorer.fit([train], [x], [(x - expect(filled(x)))[n:]])

        def terms_of(values: F4) -> tuple[F4, F4]:
            x = scaling.scaled(values)
            expected = expect(filled(x))
            state = {name: column.array(1) for name, column in scorer.columns().items()}
            e = x - expected
            fast = scorer.terms(np.zeros(len(x), np.int32), values, x, e, state)[:, : len(TERMS) - 1]
            present = ~np.isnan(e)
            plain = np.where(present, np.abs(e) / scorer.error_scale, 0.0).sum(axis=1) / np.maximum(present.sum(axis=1), 1)
            slow = ewma(plain.astype(np.float32), SLOW_RATE)
            return np.column_stack((fast, slow))[:, chosen].astype(np.float32), expected

        normal = terms_of(train)[0][n:]
        middle, high = np.quantile(normal, [MIDDLE, HIGH], axis=0)
        width = np.maximum(high - middle, np.maximum(NARROWEST * np.abs(high), 1e-9))

        def judge(values: F4) -> Scored:
            found, expected = terms_of(values)
            beyond = np.log1p(np.maximum((found - middle) / width, 0.0))
            return Scored(beyond.sum(axis=1).astype(np.float32), scaling.unscaled(expected))

        return judge

    return Method(name, about, fit, is_seeded)


CALIBRATED = (
    calibrated("c-linear", "calibrated terms, linear expectation", linear),
    calibrated("c-lags", "calibrated terms, autoregression on 64 lags", FORECASTERS["autoregression"]),
    calibrated("c-random", "calibrated terms, LSTM with random weights", random_memory, is_seeded=True),
    calibrated("c-trained", "calibrated terms, LSTM trained on the series", trained_memory, is_seeded=True),
    calibrated("slow-random", "the slow term alone, LSTM with random weights", random_memory, ("slow",), is_seeded=True),
)
