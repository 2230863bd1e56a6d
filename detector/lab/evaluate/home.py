"""HOME: machines without any fault, as they are at home, and how calm the alerts about them are.

Every alert here is false. A stream's day, week, shifts, seasons, and its being switched on and off are none of its faults.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.core.detector import Detector
from detector.core.model import Model
from detector.core.readings import Partition, ReadingBatch
from detector.core.rules import Settings
from detector.lab.calm import Calm, CalmTally

COLLECTION = "HOME"
F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
START_S = 1_772_409_600  # 2026-03-02, a Monday
DAY_S, HOUR_S = 86_400, 3_600
BATCH = 10_000
CHANNELS = ("a", "b")


@dataclass(frozen=True, slots=True)
class HomeRecording:
    """Readings of S streams in the order of their times.

    stream  i4[T] index into `streams`;  event_time_us  i8[T];  value  f4[T, D] engineering units, NaN where missing
    """

    name: str
    streams: tuple[str, ...]
    stream: NDArray[np.int32]
    event_time_us: I8
    value: NDArray[np.float32]
    channels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plant:
    """Machines of one kind. shape: seconds i8[n] and a generator -> values of both channels, f8[n] each"""

    name: str
    interval_s: int
    days: int
    machines: int
    shape: Callable[[I8, np.random.Generator], tuple[F8, F8]]


def _of_day(seconds: I8) -> F8:
    return 2 * np.pi * (seconds % DAY_S) / DAY_S


def _daily(t: I8, draw: np.random.Generator) -> tuple[F8, F8]:
    phase = _of_day(t) + draw.uniform(0, 2 * np.pi)
    return 20 + 5 * np.sin(phase) + draw.normal(0, 0.2, len(t)), 50 + 8 * np.cos(phase) + draw.normal(0, 0.5, len(t))


def _weekly(t: I8, draw: np.random.Generator) -> tuple[F8, F8]:
    hour, is_weekday = t % DAY_S / HOUR_S, (t // DAY_S + 3) % 7 < 5
    work = (is_weekday & (hour >= 7) & (hour < 18)).astype(float)
    return 20 + 10 * work + draw.normal(0, 0.3, len(t)), 5 + 2 * work + draw.normal(0, 0.2, len(t))


def _shifts(t: I8, draw: np.random.Generator) -> tuple[F8, F8]:
    hour = t % DAY_S / HOUR_S
    load = np.select([hour < 6, hour < 14, hour < 22], [0.0, 1.0, 0.6], 0.0)
    return 100 + 40 * load + draw.normal(0, 1.5, len(t)), 3 + load + draw.normal(0, 0.1, len(t))


def _seasonal(t: I8, draw: np.random.Generator) -> tuple[F8, F8]:
    year = 2 * np.pi * (t - START_S) / (365 * DAY_S)
    return (
        10 + 12 * np.sin(year) + 4 * np.sin(_of_day(t)) + draw.normal(0, 0.8, len(t)),
        60 - 10 * np.sin(year) + draw.normal(0, 2, len(t)),
    )


def _on_off(t: I8, draw: np.random.Generator) -> tuple[F8, F8]:
    switches = draw.random(len(t)) < 0.015
    is_on = (np.cumsum(switches) % 2).astype(float)
    return 5 + 30 * is_on + draw.normal(0, 0.5, len(t)), 1 + 0.8 * is_on + draw.normal(0, 0.05, len(t))


def _counting(t: I8, draw: np.random.Generator) -> tuple[F8, F8]:
    return 24 + draw.normal(0, 0.5, len(t)), np.cumsum(draw.integers(0, 3, len(t))).astype(float)


def _turning(t: I8, draw: np.random.Generator) -> tuple[F8, F8]:
    """Wind: its speed, and an angle that passes north now and then."""
    return 6 + draw.normal(0, 1, len(t)), (350 + np.cumsum(draw.normal(0, 4, len(t)))) % 360


PLANTS = (
    Plant("daily rhythm, 5 min", 300, 28, 10, _daily),
    Plant("daily rhythm, 1 h", HOUR_S, 120, 10, _daily),
    Plant("working week, 5 min", 300, 28, 6, _weekly),
    Plant("shifts, 1 min", 60, 10, 3, _shifts),
    Plant("two years, 1 h", HOUR_S, 730, 2, _seasonal),
    Plant("on and off, 1 min", 60, 10, 3, _on_off),
    Plant("counter, 5 min", 300, 14, 3, _counting),
    Plant("angle, 5 min", 300, 14, 3, _turning),
)


def simulated(plant: Plant, seed: int) -> HomeRecording:
    """All machines of a plant, reading by reading."""
    draw = np.random.default_rng(seed)
    t = START_S + plant.interval_s * np.arange(plant.days * DAY_S // plant.interval_s)
    value = np.stack([np.stack(plant.shape(t, draw), axis=1) for _ in range(plant.machines)], axis=1)  # [n, machines, 2]
    names = tuple(f"machine{number}" for number in range(plant.machines))
    stream = np.tile(np.arange(plant.machines, dtype=np.int32), len(t))
    times_us = np.repeat(t, plant.machines) * 1_000_000
    return HomeRecording(plant.name, names, stream, times_us, value.reshape(-1, 2).astype(np.float32), CHANNELS)


def calm_of(recording: HomeRecording, model: Model, settings: Settings) -> Calm:
    """How calm the service's alerts about a recording would be."""
    detector, tally = Detector(model, settings), CalmTally()
    zeros = np.zeros(BATCH, np.int32)
    for start in range(0, len(recording.stream), BATCH):
        part = slice(start, min(start + BATCH, len(recording.stream)))
        count = part.stop - part.start
        ids = np.array([detector.names[name.encode()] for name in recording.streams], np.int32)
        batch = ReadingBatch(
            ids[recording.stream[part]],
            recording.event_time_us[part],
            recording.value[part],
            zeros[:count],
            np.arange(part.start, part.stop),
            zeros[:count],
            (Partition(COLLECTION, 0),),
        )
        tally.add(batch, detector.detect(batch))
    return tally.calm
