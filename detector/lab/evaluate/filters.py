"""What the classical detectors are made of: recursions over readings, windows of the past, divisors that do not vanish.

Recursions are compiled scalar code, and everything else works on one reading at a time or on blocks of one shape: what comes out for
a reading does not depend on how many follow it, not even in the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.errors import ConfigError
from detector.lab.calibration import floored
from detector.lab.recursion import first_order

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
BLOCK = 1024
"""Readings per block. A matrix product may add up in another order where there are more rows: all blocks have equally many."""


@contextmanager
def needing(package: str) -> Iterator[None]:
    """Around the import of what is an extra.

    raises ConfigError  it is not installed (extra `bench`)
    """
    try:
        yield
    except ImportError:
        raise ConfigError(f"this detector needs {package}", fix="pip install 'detector[bench]'") from None


def ewma(signal: NDArray[Any], rate: float) -> F8:
    """Exponentially weighted mean of each column, signal f[T] or f[T, D]: from 0 on; it stands still where a value is NaN."""
    value = np.asarray(signal, np.float64)
    missing = np.isnan(value)
    return first_order(np.where(missing, 0.0, rate * value), np.where(missing, 1.0, 1 - rate))


def from_lags(x: F4, weight: F8, offset: F8) -> F8:
    """One weighted sum of the past per channel, which is an expectation of the reading that follows.

    x        f4[T, D] without NaN
    weight   f8[L, D] of the last reading, the one before, ...
    offset   f8[D]
    returns  f8[T, D]; what lies before the first reading counts as equal to it; row 0, which has no past, is 0
    """
    expected: F8 = _from_lags(np.asarray(x, np.float64), np.asarray(weight, np.float64), np.asarray(offset, np.float64))
    return expected


def past(x: F4, rows: NDArray[np.int64], lags: int) -> F4:
    """The `lags` readings before each of `rows` > 0: f4[N, lags, D], the last one first. Before the first is as the first."""
    before: F4 = x[np.maximum(rows[:, None] - np.arange(1, lags + 1), 0)]
    return before


def in_blocks(readings: int, of_rows: Callable[[NDArray[np.int64]], NDArray[Any]]) -> NDArray[Any]:
    """For `readings` > 0: call `of_rows` with blocks of BLOCK row numbers, and join what it returns, [BLOCK, ...] each; the last is filled up with row 0."""
    parts = []
    for start in range(0, readings, BLOCK):
        rows = np.arange(start, start + BLOCK)
        parts.append(of_rows(np.where(rows < readings, rows, 0)))
    return np.concatenate(parts)[:readings]


def error_scale(error: NDArray[Any]) -> F4:
    """99 % quantile of each channel's absolute errors f[T, D], NaN left out, floored as the service's score does it: f4[D] > 0."""
    size = np.abs(error)
    found = (column[np.isfinite(column)] for column in size.T)
    q99 = np.array([np.quantile(column, 0.99) if len(column) else 0.0 for column in found])
    return floored(q99)


@njit(cache=True)
def _from_lags(x, weight, offset):  # type: ignore[no-untyped-def]
    out = np.zeros_like(x)
    for t in range(1, x.shape[0]):
        out[t] = offset
        for lag in range(weight.shape[0]):
            at = max(t - 1 - lag, 0)
            for k in range(x.shape[1]):
                out[t, k] += weight[lag, k] * x[at, k]
    return out


@njit(cache=True)
def arma_of_changes(x, weight):  # type: ignore[no-untyped-def]
    """What an ARIMA(2, 1, 1) without a constant expects of each channel.

    x        f8[T, D] without NaN
    weight   f8[3, D]: of the last change, of the one before, of the last error; zeros are persistence
    returns  f8[T, D]; row 0, which has no past, is 0
    """
    out = np.zeros_like(x)
    for k in range(x.shape[1]):
        last = before = error = 0.0
        for t in range(1, x.shape[0]):
            change = weight[0, k] * last + weight[1, k] * before + weight[2, k] * error
            out[t, k] = x[t - 1, k] + change
            last, before = x[t, k] - x[t - 1, k], last
            error = last - change
    return out
