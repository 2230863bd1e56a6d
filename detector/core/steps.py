"""From a batch to steps: what one LSTMCell call may advance."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def plan_steps(rows: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """Split a batch into steps in which no stream occurs twice.

    An LSTM must see a stream's readings in order, but streams are independent.
    Step k therefore holds the k-th reading of every stream: few steps, wide steps.

    rows     i4[N] state row of each reading, in log order
    returns  K arrays of positions into the batch, each ascending; together a permutation of range(N)

    >>> [s.tolist() for s in plan_steps(np.array([7, 9, 7, 7]))]
    [[0, 1], [2], [3]]
    """
    if len(rows) == 0:
        return []
    by_row = np.argsort(rows, kind="stable")
    sorted_rows = rows[by_row]
    index = np.arange(len(rows))
    starts = np.concatenate(([True], sorted_rows[1:] != sorted_rows[:-1]))
    occurrence = np.empty(len(rows), np.int64)
    occurrence[by_row] = index - np.maximum.accumulate(np.where(starts, index, 0))
    by_step = np.argsort(occurrence, kind="stable")
    return np.split(by_step, np.cumsum(np.bincount(occurrence))[:-1])
