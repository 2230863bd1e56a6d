"""How soon a model finds faults in streams that it has just met: `python tests/bench/bench_first_minutes.py [BUNDLE]`.

A simulated plant that no weight has seen; a fault in one channel of every machine, so many readings after the first one; found is what
opens an alert within 200 readings, at a budget of one in 10,000.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from detector.adapters.bundle import load_bundle
from detector.core.detector import Detector
from detector.core.model import Model
from detector.core.readings import Partition, ReadingBatch
from detector.core.rules import Settings
from detector.lab.plant import CHANNELS, Plant
from detector.lab.simulate import by_machine

F4 = NDArray[np.float32]
MACHINES, BUDGET_READINGS, PATIENCE_READINGS = 60, 10_000, 200
STARTS = (110, 300, 1_000, 3_000)


def _spikes(size: float, count: int) -> Callable[[F4, F4, np.random.Generator], F4]:
    return lambda part, deviation, rng: size * deviation * ((np.arange(len(part)) % 5 == 0) & (np.arange(len(part)) < 5 * count))[:, None]


FAULTS: dict[str, Callable[[F4, F4, np.random.Generator], F4]] = {
    "stuck at its value": lambda part, deviation, rng: part[0] - part,
    "burst of six spikes, 8 standard deviations": _spikes(8, 6),
    "level, 6 standard deviations": lambda part, deviation, rng: 6 * deviation + 0 * part,
    "noise of one standard deviation added": lambda part, deviation, rng: deviation * rng.standard_normal(part.shape, np.float32),
    "one spike, 20 standard deviations": _spikes(20, 1),
    "level, 3 standard deviations": lambda part, deviation, rng: 3 * deviation + 0 * part,
}
"""What is added to the readings of one channel of all machines, [T, M], whose standard deviations are [M]."""


def found(model: Model, values: F4, start: int, fault: str) -> tuple[int, int]:
    """How many machines of values f4[T, M, D] have an alert within the patience after the fault, and how many before it."""
    played = values[: start + PATIENCE_READINGS].copy()
    rng, channel = np.random.default_rng(start), np.arange(MACHINES) % values.shape[2]
    machine = np.arange(MACHINES)
    part, deviation = played[start:, machine, channel], values[:, machine, channel].std(axis=0)
    played[start:, machine, channel] += FAULTS[fault](part, deviation, rng)
    detector = Detector(model, Settings(budget_period_us=BUDGET_READINGS * 10e6))
    ids = np.array([detector.names[b"pump%d" % k] for k in machine], np.int32)
    early: set[str] = set()
    late: set[str] = set()
    for t, value in enumerate(played):
        time_us = np.full(MACHINES, 1_790_000_000_000_000 + t * 10_000_000)
        offset, zero = t * MACHINES + machine, np.zeros(MACHINES, np.int32)
        result = detector.detect(ReadingBatch(ids, time_us, value, zero, offset, zero, (Partition("bench", 0),)))
        (late if t >= start else early).update(alert.stream for alert in result.alerts if alert.status == "opened")
    return len(late - early), len(early)


if __name__ == "__main__":
    model = load_bundle(sys.argv[1] if len(sys.argv) > 1 else "universal", CHANNELS)
    plant = Plant(77, MACHINES)
    values = np.stack(by_machine(plant, (STARTS[-1] + PATIENCE_READINGS) * plant.interval_us), axis=1)
    print(f"found of {MACHINES} (false before), after {', '.join(map(str, STARTS))} readings")
    for fault in FAULTS:
        print(f"{fault:<44}", *(f"{late:>3} ({early})" for late, early in (found(model, values, start, fault) for start in STARTS)))
