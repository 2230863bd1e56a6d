"""What signals of normal readings say of their usual size: the divisors that make channels and terms comparable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

F4 = NDArray[np.float32]

MIDDLE, HIGH = 0.5, 0.99
NARROWEST = 1e-3
"""Least distance of the two quantiles, as a share of the higher one: a value that never moved must not explode when it does."""
SCALE_FLOOR = 0.01
"""Least divisor of a channel, scaled units."""
WEIGHT_MIN, MOVES_IN_FULL = np.float32(1e-3), np.float32(2)
"""Least weight of a channel; and what the share of readings in which it changes is multiplied by."""


def scale_of(signal: NDArray[Any]) -> F4:
    """99 % quantile of absolute values f[T, D], floored: f4[D]."""
    return floored(np.quantile(np.abs(signal), 0.99, axis=0))


def floored(scale: NDArray[Any]) -> F4:
    """Divisors f[D]: none below a tenth of the median, nor below SCALE_FLOOR, so that what hardly varied does not explode."""
    safe: F4 = np.maximum(scale, max(0.1 * float(np.median(scale)), SCALE_FLOOR)).astype(np.float32)
    return safe


def q99_of(square: NDArray[Any]) -> F4:
    """99 % quantile of a positive value f[T]: f4[1]."""
    return np.array([max(float(np.quantile(square, 0.99)), 1e-6)], np.float32)


def middle_and_width(terms: F4) -> tuple[F4, F4]:
    """Of terms f4[T, K] their 50 % quantile, and the distance of the 99 % quantile from it, f4[K] each."""
    middle, high = np.quantile(terms, [MIDDLE, HIGH], axis=0)
    width = np.maximum(high - middle, np.maximum(NARROWEST * np.abs(high), 1e-6))
    return middle.astype(np.float32), width.astype(np.float32)


def weight_of(moves: NDArray[Any], readings: float | NDArray[Any]) -> F4:
    """What a channel tells next to one that changes with every reading, 0..1, from how often its value changed: in full if every other time.
    Nobody can foresee a command or a switch, so an error of what was expected of it, however large, is no news."""
    share: F4 = np.divide(moves, np.maximum(readings, 1), dtype=np.float32)
    weight: F4 = np.clip(MOVES_IN_FULL * share, WEIGHT_MIN, np.float32(1))
    return weight


def moves_of(value: F4) -> NDArray[np.int64]:
    """How often each channel's value changes in f4[T, D], from one that is there to the next that is: i8[D]."""
    there = [channel[~np.isnan(channel)] for channel in value.T]
    return np.array([np.count_nonzero(channel[1:] != channel[:-1]) for channel in there])


def range_of(values: Sequence[F4]) -> tuple[F4, F4, F4]:
    """Least and largest of each channel f4[D], and of how many readings, f4[1]; inf and -inf where there was none."""
    low = np.min([np.fmin.reduce(value, axis=0, initial=np.inf) for value in values], axis=0)
    high = np.max([np.fmax.reduce(value, axis=0, initial=-np.inf) for value in values], axis=0)
    return low, high, np.array([sum(map(len, values))], np.float32)


def whitening_of(signal: NDArray[Any], shrink: float) -> F4:
    """Lower triangular W with |W f|^2 = f' C^-1 f, C the shrunk second moment; float64 inside."""
    wide = np.asarray(signal, np.float64)
    moment = wide.T @ wide / len(wide)
    dim = len(moment)
    shrunk = (1 - shrink) * moment + shrink * max(float(np.trace(moment)) / dim, 1e-9) * np.eye(dim)
    white: F4 = np.linalg.inv(np.linalg.cholesky(shrunk)).astype(np.float32)
    return white
