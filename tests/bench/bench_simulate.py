"""Readings per second of the simulated plant, as columns and as messages: `python tests/bench/bench_simulate.py`."""

from __future__ import annotations

import time

from detector.lab.faults import schedule_faults
from detector.lab.plant import Plant
from detector.lab.simulate import encode, simulate

HOUR_US = 3_600_000_000
SIZES = ((24, 96), (200, 24), (1_000, 8), (5_000, 2))
"""Machines, and hours that they run."""


def main() -> None:
    """Prints one line per size."""
    for machines, hours in SIZES:
        plant = Plant(seed=1, machines=machines)
        faults = schedule_faults(plant, 50, plant.start_us, plant.start_us + 60 * HOUR_US, seed=1)
        began = time.perf_counter()
        readings = sum(len(chunk) for chunk in simulate(plant, faults, end_us=plant.start_us + hours * HOUR_US))
        columns_s = time.perf_counter() - began
        chunks = list(simulate(plant, faults, end_us=plant.start_us + HOUR_US // 2))
        began = time.perf_counter()
        messages = sum(len(encode(chunk, plant.streams)[0]) for chunk in chunks)
        encode_s = time.perf_counter() - began
        print(
            f"{machines:5d} machines, {readings:9,d} readings: {readings / columns_s / 1e6:.2f} M readings/s as columns; "
            f"{messages / encode_s / 1e6:.2f} M messages/s encoded"
        )


if __name__ == "__main__":
    main()
