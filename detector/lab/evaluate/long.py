"""Long recordings: what an alarm promises is rare, and shows only in hundreds of thousands of readings.

Seven kinds of normal behaviour, most of which drift away from what was calibrated, with a few faults of level, of noise and of
correlation in each. Kinds follow what breaks thresholds in practice; the sizes of the faults are stated, not tuned.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from detector.lab.evaluate.series import Series
from detector.lab.recursion import first_order, lagged

F8 = NDArray[np.float64]

COLLECTION = "LONG"
TRAIN, TEST, CHANNELS = 4_000, 100_000, 3
FAULTS, FAULT_MIN, FAULT_MAX = 12, 60, 300
APART = TEST // FAULTS
SHIFT, LOUDER = (4.0, 8.0), (3.0, 5.0)
"""A fault of level, in standard deviations of the channel's training part, and one of noise, as a factor of its changes."""
MEMORY = (3.0, 30.0)
COMMON = 0.8
"""Share of a channel's movement that all channels have in common."""


def long_series(seed: int, per_kind: int = 4) -> list[Series]:
    """`per_kind` recordings of each kind. A series depends on the seed, its kind and its number only."""
    return [_series(seed, kind, number) for kind in KINDS for number in range(1, per_kind + 1)]


def _series(seed: int, kind: str, number: int) -> Series:
    generator = np.random.default_rng([seed, list(KINDS).index(kind), number])
    normal = KINDS[kind](generator)
    test, label = _with_faults(normal[:TRAIN], normal[TRAIN:], generator)
    units, zero = 10.0 ** generator.uniform(-1, 2, CHANNELS), generator.uniform(-2, 2, CHANNELS)
    train, played = (((part + zero) * units).astype(np.float32) for part in (normal[:TRAIN], test))
    return Series(COLLECTION, f"{kind}-{number}", train, played, label)


def _with_faults(train: F8, test: F8, generator: np.random.Generator) -> tuple[F8, NDArray[np.bool_]]:
    """One fault in each part of the test, of each sort in turn: a level, noise, a channel that follows another time."""
    values, label = test.copy(), np.zeros(len(test), bool)
    deviation = train.std(axis=0)
    for number in range(FAULTS):
        length = int(generator.integers(FAULT_MIN, FAULT_MAX))
        start = number * APART + int(generator.integers(APART // 4, APART - FAULT_MAX))
        at, channel = slice(start, start + length), int(generator.integers(CHANNELS))
        match number % 3:
            case 0:
                values[at, channel] += generator.choice([-1, 1]) * generator.uniform(*SHIFT) * deviation[channel]
            case 1:
                changes = np.diff(train[:, channel]).std()
                values[at, channel] += generator.uniform(*LOUDER) * changes * generator.standard_normal(length)
            case _:
                other = int(generator.integers(APART // 4, len(train) - FAULT_MAX))
                values[at, channel] = train[other : other + length, channel] + 3 * deviation[channel] * generator.choice([-1, 1])
        label[at] = True
    return values, label


# -- what normal is -----------------------------------------------------------------------------------------------------


def _driven(shock: F8, memory: F8) -> F8:
    """f8[T, D] AR(1) of unit variance with these time constants [D], driven by shocks of unit variance f8[T, D + 1]: own and common."""
    rate = np.exp(-1 / memory)
    together = np.sqrt(1 - COMMON) * shock[:, :-1] + np.sqrt(COMMON) * shock[:, -1:]
    return first_order(together * np.sqrt(1 - rate**2), rate)


def _memory(generator: np.random.Generator) -> F8:
    memory: F8 = np.exp(generator.uniform(np.log(MEMORY[0]), np.log(MEMORY[1]), CHANNELS))
    return memory


def _shocks(generator: np.random.Generator) -> F8:
    return generator.standard_normal((TRAIN + TEST, CHANNELS + 1))


def _stationary(generator: np.random.Generator) -> F8:
    return _driven(_shocks(generator), _memory(generator))


def _cycles(generator: np.random.Generator) -> F8:
    """A duty cycle of 100 to 600 readings with harmonics, its period never quite the same."""
    period, harmonics = generator.uniform(100, 600), np.arange(1, 4)
    turn = np.cumsum((1 + 0.1 * generator.standard_normal(TRAIN + TEST)) / period)
    phase = generator.uniform(0, 1, (CHANNELS, 3))
    waves = [np.sin(2 * np.pi * (turn[:, None] * harmonics + phase[k])) @ (1 / harmonics) for k in range(CHANNELS)]
    return 2 * np.stack(waves, axis=1) + 0.3 * _stationary(generator)


def _heavy(generator: np.random.Generator) -> F8:
    """Shocks with Student's t of 3 degrees of freedom."""
    return _driven(generator.standard_t(3, (TRAIN + TEST, CHANNELS + 1)) / np.sqrt(3), _memory(generator))


def _drift(generator: np.random.Generator) -> F8:
    """A walk that has gone some five standard deviations by the end."""
    walk = np.cumsum(generator.standard_normal((TRAIN + TEST, CHANNELS)), axis=0) * 5 / np.sqrt(TRAIN + TEST)
    drifting: F8 = _stationary(generator) + walk
    return drifting


def _regimes(generator: np.random.Generator) -> F8:
    """Five set points, each kept for some 3,000 readings and approached slowly."""
    stays = generator.exponential(3_000, 4 * (TRAIN + TEST) // 3_000).astype(int) + 300
    which = np.repeat(generator.integers(5, size=len(stays)), stays)[: TRAIN + TEST]
    target = generator.uniform(-3, 3, (5, CHANNELS))[which]
    return lagged(target, np.exp(-1 / 40)) + 0.5 * _stationary(generator)


def _variance(generator: np.random.Generator) -> F8:
    """Noise whose size wanders by a factor of some two and a half either way, over thousands of readings."""
    slow = first_order(generator.standard_normal((TRAIN + TEST, 1)) * np.sqrt(2 / 5_000), np.exp(-1 / 5_000))
    louder: F8 = _shocks(generator) * np.exp(0.45 * slow)
    return _driven(louder, _memory(generator))


def _mixed(generator: np.random.Generator) -> F8:
    mixed: F8 = 0.5 * (_cycles(generator) + _drift(generator) + _variance(generator) + 0.5 * _heavy(generator))
    return mixed


KINDS: dict[str, Callable[[np.random.Generator], F8]] = {
    "stationary": _stationary,
    "cycles": _cycles,
    "heavy": _heavy,
    "drift": _drift,
    "regimes": _regimes,
    "variance": _variance,
    "mixed": _mixed,
}
