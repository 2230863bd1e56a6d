"""Synthetic series: what one channel of a healthy machine, host or process may look like, in many kinds. Seeded.

    signal       a mixture of one to three of: periodic shapes, duty cycles, autoregressions, slow walks, on/off states, spikes
    unrest       now and then: level shifts, a trend, regimes of unlike noise
    observation  noise, light or heavy tails; then what sensors do: round, saturate, hold within a dead band, fail to report

Everything here is normal: there are no faults. Units and offsets are arbitrary, as they are in life.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.lab.recursion import first_order, lagged

F8 = NDArray[np.float64]
Random = np.random.Generator

READINGS_MIN, READINGS_MAX = 500, 4_000
PERIOD_MIN, PERIOD_MAX = 4.0, 600.0
SHAPES = ("sine", "harmonics", "saw", "square", "pulse", "triangle")


def synthetic(seed: int, series: int, readings: int | None = None) -> list[NDArray[np.float32]]:
    """So many series, each f4[T, 1] in units of its own, NaN where missing. The k-th depends on the seed and k only.

    readings  T of each; without it from READINGS_MIN to READINGS_MAX
    """
    return [_series(np.random.default_rng((seed, k)), readings) for k in range(series)]


def _series(rng: Random, readings: int | None) -> NDArray[np.float32]:
    n = readings or int(_log_uniform(rng, READINGS_MIN, READINGS_MAX))
    parts = rng.choice(len(SIGNALS), size=rng.integers(1, 4), p=WEIGHTS)
    signal = np.zeros(n)
    for part in parts:
        signal += _log_uniform(rng, 0.15, 1.0) * _standard(SIGNALS[part](rng, n))
    signal = _restless(rng, _standard(signal))
    observed = _observed(rng, signal + _noise(rng, n))
    unit, offset = _log_uniform(rng, 1e-3, 1e4), rng.choice([0.0, 1.0, 30.0, 1_000.0]) * rng.normal()
    value: NDArray[np.float32] = (unit * (observed + offset)).astype(np.float32)[:, None]
    return value


def _log_uniform(rng: Random, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _standard(signal: F8) -> F8:
    """Mean 0 and deviation 1; a constant stays constant."""
    deviation = float(signal.std())
    standard: F8 = (signal - signal.mean()) / (deviation if deviation > 1e-9 else 1.0)
    return standard


# -- signals ------------------------------------------------------------------------------------------------------------


def _periodic(rng: Random, n: int) -> F8:
    """One shape, its phase a little uneven, its amplitude a little modulated."""
    period = _log_uniform(rng, PERIOD_MIN, PERIOD_MAX)
    unevenness = rng.choice([0.0, 0.002, 0.02]) * np.sqrt(1 / period)
    phase = np.cumsum(1 / period + unevenness * rng.normal(size=n)) + rng.uniform()
    swell: F8 = 1 + rng.choice([0.0, 0.2, 0.5]) * np.sin(2 * np.pi * np.arange(n) / (period * rng.uniform(3, 20)))
    return swell * _shape(rng, phase % 1.0)


def _shape(rng: Random, phase: F8) -> F8:
    turn = 2 * np.pi * phase
    match SHAPES[rng.integers(len(SHAPES))]:
        case "sine":
            return np.sin(turn)
        case "harmonics":
            sizes = rng.normal(size=6) / np.arange(1, 7)
            return sum((size * np.sin((k + 1) * turn + rng.uniform(0, 6)) for k, size in enumerate(sizes)), np.zeros_like(phase))
        case "saw":
            return phase if rng.uniform() < 0.5 else -phase
        case "square":
            return (phase < rng.uniform(0.2, 0.8)).astype(float)
        case "pulse":
            return np.exp(-0.5 * ((phase - 0.5) / rng.uniform(0.02, 0.15)) ** 2)
        case _:
            return np.abs(phase - 0.5)


def _duty(rng: Random, n: int) -> F8:
    """A cycle of two to five phases with levels of their own, dwell times that vary, and a lag behind them."""
    phases = int(rng.integers(2, 6))
    level, usual = rng.normal(size=phases), np.exp(rng.uniform(np.log(5), np.log(150), phases))
    jitter = rng.choice([0.02, 0.1, 0.4])
    cycles = int(n / usual.sum() / (1 - jitter)) + 2
    dwell = np.maximum(1, usual * rng.uniform(1 - jitter, 1 + jitter, (cycles, phases))).astype(int).ravel()
    target = np.repeat(np.tile(level, cycles), dwell)
    start = int(rng.integers(0, max(len(target) - n, 1)))
    target = np.resize(target[start:], n)
    return lagged(target, 1 - rng.choice([1.0, 1 / _log_uniform(rng, 1, 60)]), target[0])


def _autoregression(rng: Random, n: int) -> F8:
    """Of second order: two real roots or a damped oscillation."""
    if rng.uniform() < 0.5:
        a, b = 1 - _log_uniform(rng, 0.003, 1.0), rng.uniform(-0.5, 0.9)
        return _recursion(rng.normal(size=n), a + b, -a * b)
    radius, angle = 1 - _log_uniform(rng, 0.003, 0.3), 2 * np.pi / _log_uniform(rng, PERIOD_MIN, 200)
    return _recursion(rng.normal(size=n), 2 * radius * np.cos(angle), -radius * radius)


def _walk(rng: Random, n: int) -> F8:
    """A random walk that is pulled back only slowly, or not at all."""
    return first_order(rng.normal(size=n), 1 - rng.choice([0.0, 0.0005, 0.002, 0.01]))


def _on_off(rng: Random, n: int) -> F8:
    """Two or three states, each kept for a random time."""
    stay = _log_uniform(rng, 5, 300)
    state = np.cumsum(rng.uniform(size=n) < 1 / stay) * int(rng.integers(1, 3)) % 3
    level = np.array([0.0, 1.0, rng.normal()])[state]
    return lagged(level, 1 - rng.choice([1.0, 0.3, 0.05]), level[0])


def _spikes(rng: Random, n: int) -> F8:
    """Zero but for sparse events of random size, some of which fade."""
    size = rng.exponential(size=n) * (rng.uniform(size=n) < 1 / _log_uniform(rng, 8, 200))
    return first_order(size, rng.choice([0.0, 0.0, 0.5, 0.9]))


def _sampled_and_held(rng: Random, n: int) -> F8:
    """A value that is new only every few readings."""
    hold = int(_log_uniform(rng, 2, 60))
    return np.repeat(_autoregression(rng, n // hold + 1), hold)[:n]


def _flat(rng: Random, n: int) -> F8:
    return np.zeros(n)


SIGNALS = (_periodic, _duty, _autoregression, _walk, _on_off, _spikes, _sampled_and_held, _flat)
WEIGHTS = (0.3, 0.18, 0.18, 0.1, 0.08, 0.06, 0.06, 0.04)


# -- unrest and observation ---------------------------------------------------------------------------------------------


def _restless(rng: Random, signal: F8) -> F8:
    n = len(signal)
    if rng.uniform() < 0.12:
        signal = signal + rng.normal() * np.arange(n) / 1_000
    if rng.uniform() < 0.1:
        shifts = rng.uniform(size=n) < 1.5 / n
        signal = signal + np.cumsum(shifts * rng.normal(scale=1.5, size=n))
    return signal


def _noise(rng: Random, n: int) -> F8:
    tail = rng.choice([0.0, 5.0, 2.5], p=[0.7, 0.2, 0.1])
    noise = rng.standard_t(tail, n) if tail else rng.normal(size=n)
    size: float | F8 = rng.choice([0.0, _log_uniform(rng, 0.002, 1.0)], p=[0.1, 0.9])
    if rng.uniform() < 0.1:  # regimes of unlike noise
        size = size * np.where(np.cumsum(rng.uniform(size=n) < 4 / n) % 2, rng.uniform(0.2, 3), 1.0)
    return size * noise


def _observed(rng: Random, value: F8) -> F8:
    """What the sensor makes of it."""
    if rng.uniform() < 0.1:
        value = np.clip(value, *np.quantile(value, [rng.uniform(0, 0.2), rng.uniform(0.8, 1)]))
    if rng.uniform() < 0.1:
        value = _dead_band(value, _log_uniform(rng, 0.02, 0.5))
    if rng.uniform() < 0.35:
        step = _log_uniform(rng, 0.003, 0.7)
        value = np.round(value / step) * step
    if rng.uniform() < 0.2:
        gone = rng.uniform(size=len(value)) < _log_uniform(rng, 0.001, 0.1)
        if rng.uniform() < 0.3:
            gone = np.convolve(gone, np.ones(int(rng.integers(2, 20))))[: len(value)] > 0
        value = np.where(gone, np.nan, value)
    return value


def _recursion(shocks: F8, first: float, second: float) -> F8:
    """y_t = first y_{t-1} + second y_{t-2} + shock_t."""
    out = np.zeros(len(shocks))
    _fill_recursion(shocks, first, second, out)
    return out


def _dead_band(value: F8, width: float) -> F8:
    """Reports a value only when it has moved by more than `width`."""
    out = np.empty(len(value))
    _fill_dead_band(value, width, out)
    return out


@njit(cache=True)
def _fill_recursion(shocks, first, second, out):  # type: ignore[no-untyped-def]
    before = last = 0.0
    for t in range(shocks.shape[0]):
        before, last = last, first * last + second * before + shocks[t]
        out[t] = last


@njit(cache=True)
def _fill_dead_band(value, width, out):  # type: ignore[no-untyped-def]
    y = value[0]
    for t in range(value.shape[0]):
        if abs(value[t] - y) > width:
            y = value[t]
        out[t] = y
