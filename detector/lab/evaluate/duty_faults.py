"""Faults of time: what goes wrong with the order of things, when the things themselves stay as they are.

| kind      | what an engineer sees                                            | factor                     |
|-----------|------------------------------------------------------------------|----------------------------|
| swapped   | two phases of the programme have changed places                  | -                          |
| skipped   | a phase is left out                                              | -                          |
| stuck     | a phase lasts too long, then the programme goes on               | 2-4 times the phase        |
| reversed  | the phases come in reverse order                                 | -                          |
| period    | the programme is too fast or too slow                            | 1.25-1.6 cycles, or 1 / it |
| lag       | one channel follows too slowly, too fast, or after another delay | 3-5 times, or 1 / it       |
| sluggish  | all channels follow too slowly                                   | 2-3 times their lags       |
| replayed  | one channel is out of step by 1, 3 or 5 half cycles              | -                          |

All of them alter 2-5 cycles, one after the other; `skipped` 3-6, as it lasts from the first gap to the last. The first five act on the programme, `lag` and `sluggish` on how the channels follow it, `replayed`
on what is measured. Times are in readings.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

CYCLES_MIN, CYCLES_MAX = 2, 5
GAP_CYCLES = 9
"""Regular cycles between two episodes: eight, and room for jitter and for what the last one leaves behind."""
STUCK, PERIOD, LAG, SLUGGISH = (2.0, 4.0), (1.25, 1.6), (3.0, 5.0), (2.0, 3.0)
HALF_CYCLES = (1, 3, 5)
"""Whole cycles are left out: a channel would be in step again."""


class DutyKind(StrEnum):
    """The kinds of faults; the table above says what each does. Their order is part of the seed of a series."""

    SWAPPED = "swapped"
    SKIPPED = "skipped"
    STUCK = "stuck"
    REVERSED = "reversed"
    PERIOD = "period"
    LAG = "lag"
    SLUGGISH = "sluggish"
    REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class Episode:
    """A fault that lasts some cycles.

    phase     the phase that it is about (swapped: with `other`)
    channel   the channel that it is about (lag, replayed)
    factor    its size, as the table says
    of_delay  whether `factor` is about the delay with which the channel follows another (lag)
    ago       how many readings ago the channel did what it repeats (replayed)
    """

    kind: DutyKind
    cycles: int
    phase: int
    other: int = 0
    channel: int = 0
    factor: float = 1.0
    of_delay: bool = False
    ago: int = 0


@dataclass(frozen=True, slots=True)
class Phases:
    """A cycle as it comes.

    phase, dwell  i8[p], f8[p]  the phases in their order, and how long each lasts
    begin, end    when in the cycle it begins to differ from a regular one, and when it has ceased to
    """

    phase: I8
    dwell: F8
    begin: float
    end: float


def draw_episode(kind: DutyKind, phase: int, dwell: F8, lag: F8, delay: I8, generator: np.random.Generator) -> Episode:
    """An episode of a plant with phases of `dwell` f8[P], time constants `lag` f8[D] and delays i8[D] (0: none)."""
    cycles, channel = int(generator.integers(CYCLES_MIN, CYCLES_MAX + 1)), int(generator.integers(len(lag)))
    either = generator.choice([-1.0, 1.0])
    match kind:
        case DutyKind.SKIPPED:
            return Episode(kind, cycles + 1, phase)
        case DutyKind.SWAPPED:
            return Episode(kind, cycles, phase, other=int(phase + generator.integers(1, len(dwell))) % len(dwell))
        case DutyKind.STUCK:
            return Episode(kind, cycles, phase, factor=generator.uniform(*STUCK))
        case DutyKind.PERIOD:
            return Episode(kind, cycles, phase, factor=generator.uniform(*PERIOD) ** either)
        case DutyKind.LAG:
            return _draw_lag(cycles, phase, dwell, lag, delay, generator)
        case DutyKind.SLUGGISH:
            return Episode(kind, cycles, phase, factor=generator.uniform(*SLUGGISH))
        case DutyKind.REPLAYED:
            return Episode(kind, cycles, phase, channel=channel, ago=round(generator.choice(HALF_CYCLES) * dwell.sum() / 2))
    return Episode(kind, cycles, phase)


def _draw_lag(cycles: int, phase: int, dwell: F8, lag: F8, delay: I8, generator: np.random.Generator) -> Episode:
    """A short delay or lag becomes long and a long one short: so that it shows, and the set points are still reached."""
    factor, led = generator.uniform(*LAG), np.flatnonzero(delay)
    if len(led) and generator.random() < 0.5:
        channel = int(generator.choice(led))
        is_long = delay[channel] > dwell.sum() / 10
        return Episode(DutyKind.LAG, cycles, phase, channel=channel, factor=1 / factor if is_long else factor, of_delay=True)
    channel = int(generator.integers(len(lag)))
    is_long = lag[channel] > max(dwell.mean() / 6, 2.0)
    return Episode(DutyKind.LAG, cycles, phase, channel=channel, factor=1 / factor if is_long else factor)


def altered_phases(episode: Episode, dwell: F8) -> Phases:
    """A cycle of an episode; `dwell` f8[P] is how long its phases would have lasted."""
    phase, ends = np.arange(len(dwell)), np.cumsum(dwell)
    k = episode.phase
    match episode.kind:
        case DutyKind.SWAPPED:
            first, last = sorted((k, episode.other))
            phase[[first, last]] = last, first
            return Phases(phase, dwell[phase], ends[first] - dwell[first], ends[last])
        case DutyKind.SKIPPED:
            return Phases(np.delete(phase, k), np.delete(dwell, k), ends[k] - dwell[k], ends[k] - dwell[k])
        case DutyKind.STUCK:
            stretched = np.where(phase == k, episode.factor, 1.0) * dwell
            return Phases(phase, stretched, ends[k], ends[k] + stretched[k] - dwell[k])
        case DutyKind.REVERSED:
            phase = np.concatenate((phase[:1], phase[:0:-1]))  # from the same phase on, backwards
            return Phases(phase, dwell[phase], ends[0], ends[-1])
        case DutyKind.PERIOD:
            return Phases(phase, episode.factor * dwell, min(episode.factor, 1.0) * dwell[0], episode.factor * ends[-1])
    return Phases(phase, dwell, 0.0, ends[-1])


def altered_path(episode: Episode, lag: F8, delay: I8) -> None:
    """Change, in place, how the channels follow while an episode lasts: time constants f8[T, D], delays i8[T, D]."""
    if episode.kind is DutyKind.SLUGGISH:
        lag *= episode.factor
    elif episode.kind is DutyKind.LAG and episode.of_delay:
        delay[:, episode.channel] = np.rint(episode.factor * delay[:, episode.channel])
    elif episode.kind is DutyKind.LAG:
        lag[:, episode.channel] *= episode.factor
