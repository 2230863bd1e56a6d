"""First-order recursions over time: lags behind a target, noise with a memory, moving averages."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

F8 = NDArray[np.float64]


def first_order(shock: F8, keep: ArrayLike, before: ArrayLike = 0.0) -> F8:
    """y(t) = keep(t) y(t - 1) + shock(t), as many rows and columns as shock f8[T] or f8[T, K].

    keep    0..1, the share of the last y that stays: one number, one per column, or as many as shocks
    before  y before the first row: one number, or f8[K]

    A row of the result depends on no later row, not even in the last bit.
    """
    kept = np.broadcast_to(np.asarray(keep, np.float64), shock.shape)
    last: Any = before
    y: F8 = np.empty(shock.shape)
    for t, row in enumerate(shock):
        y[t] = last = kept[t] * last + row
    return y


def lagged(target: F8, keep: ArrayLike, before: ArrayLike = 0.0) -> F8:
    """y(t) = y(t - 1) + (1 - keep(t)) (target(t) - y(t - 1)); parameters as in `first_order`. keep = exp(-1 / L) has a time constant of L rows."""
    kept = np.asarray(keep, np.float64)
    return first_order((1 - kept) * target, kept, before)
