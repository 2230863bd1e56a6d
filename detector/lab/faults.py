"""Faults of machines and sensors: what they do to the readings, and where they are put.

| kind                | what an engineer sees                                         | magnitude                         | lasts           |
|---------------------|---------------------------------------------------------------|-----------------------------------|-----------------|
| spike               | a channel leaps up and comes back                             | height, in swings of the channel  | 1-3 readings    |
| level_shift         | a channel stands too high or too low                          | height, in swings                 | 2-5 cycles      |
| slow_drift          | a channel creeps away until someone recalibrates it           | height at the end, in swings      | 3-6 hours       |
| frozen_value        | a channel repeats its last value, exactly                     | -                                 | 1.5-4 cycles    |
| noise_burst         | a channel rattles                                             | standard deviation, in swings     | 2-4 cycles      |
| broken_correlation  | a channel lives on, but of another time: the others disagree  | how long ago, in cycles           | 2-5 cycles      |
| wrong_phase         | process (or drive) follows the duty cycle too late            | delay, in cycles                  | 4-8 cycles      |
| wrong_period        | the machine short-cycles, or does not get to its end          | length, in cycles                 | 4-8 cycles      |
| silence             | no readings at all                                            | -                                 | 120-360 readings|
| dropped_channel     | a channel is missing                                          | -                                 | 2-5 cycles      |
| phase_skipped       | every cycle leaves out the same phase                         | -                                 | 4-8 cycles      |
| phase_stuck         | every cycle stays in the same phase for too long              | length, in times of the phase     | 4-8 cycles      |
| cycle_reversed      | the cycle runs backwards: a slow start, a quick stop          | -                                 | 4-8 cycles      |

A swing is what lies between idle and full load. `LOAD_KINDS` act on the load, so that all channels follow as the machine
would; all others act on what is measured. Every function is pure; the randomness of a fault comes from the fault itself.
The last three are not among the `USUAL_KINDS`: they have to be asked for. Two phases that change places are no kind here: with
two levels, one way up and one way down, a load that does not leap can run in one other order only, the reversed one.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from detector.errors import ConfigError
from detector.lab.plant import CHANNELS, CYCLE_S_MAX, DAY_US, F8, I8, PHASES, SWING, Plant, regular_load

HOUR_S = 3_600.0
LAG_CYCLES_MAX = 4.0
"""No fault looks further back than this."""
SIDES = (("temperature", "pressure"), ("vibration", "current"))
"""The process and the drive: what moves together when the duty cycle's timing is wrong."""


class FaultKind(StrEnum):
    """The kinds of faults; the table above says what each does."""

    SPIKE = "spike"
    LEVEL_SHIFT = "level_shift"
    SLOW_DRIFT = "slow_drift"
    FROZEN_VALUE = "frozen_value"
    NOISE_BURST = "noise_burst"
    BROKEN_CORRELATION = "broken_correlation"
    WRONG_PHASE = "wrong_phase"
    WRONG_PERIOD = "wrong_period"
    SILENCE = "silence"
    DROPPED_CHANNEL = "dropped_channel"
    PHASE_SKIPPED = "phase_skipped"
    PHASE_STUCK = "phase_stuck"
    CYCLE_REVERSED = "cycle_reversed"


USUAL_KINDS = tuple(FaultKind)[:10]
"""What is injected unless other kinds are asked for. The order counts: a seed's faults follow from it."""
LOAD_KINDS = (FaultKind.WRONG_PERIOD, FaultKind.PHASE_SKIPPED, FaultKind.PHASE_STUCK, FaultKind.CYCLE_REVERSED)
"""What changes the duty cycle itself."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of one stream: its readings with start_us <= event time < end_us are affected, and no others at once.

    channels   names of the channels it acts on; all of them for silence and `LOAD_KINDS`
    magnitude  its size, in the unit of its kind; 0 where the kind has none
    """

    kind: FaultKind
    stream: str
    start_us: int
    end_us: int
    channels: tuple[str, ...] = CHANNELS
    magnitude: float = 0.0

    @property
    def columns(self) -> list[int]:
        """The channels as columns of a reading."""
        return [CHANNELS.index(channel) for channel in self.channels]


def past_readings(plant: Plant) -> int:
    """Readings of the past that `altered` needs before a block."""
    return int(np.ceil(LAG_CYCLES_MAX * CYCLE_S_MAX / plant.interval_s)) + 1


def altered_load(fault: Fault, plant: Plant, time_us: I8, load: F8) -> F8:
    """f8[T] the load of the fault's machine at `time_us` i8[T], all of them within the fault."""
    cycle_s = _cycle_s(fault, plant)
    match fault.kind:
        case FaultKind.WRONG_PERIOD:
            return regular_load(time_us, fault.start_us, fault.magnitude * cycle_s)
        case FaultKind.CYCLE_REVERSED:
            return regular_load(2 * fault.start_us - time_us, fault.start_us, cycle_s)
        case FaultKind.PHASE_SKIPPED | FaultKind.PHASE_STUCK:
            return _stretched_load(fault, time_us, cycle_s)
    return load


def _stretched_load(fault: Fault, time_us: I8, cycle_s: float) -> F8:
    """f8[T] a regular load of which one phase, drawn for the fault, is left out or lasts `magnitude` times as long."""
    phase = np.random.default_rng([zlib.crc32(fault.stream.encode()), fault.start_us]).integers(len(PHASES))
    times = fault.magnitude if fault.kind is FaultKind.PHASE_STUCK else 0.0
    dwell = np.where(np.arange(len(PHASES)) == phase, times, 1.0) * PHASES
    # Where the stretched cycle is, in a regular one: each phase covers the same part of the programme in a time of its own.
    corners, regular = np.concatenate(([0.0], np.cumsum(dwell))), np.concatenate(([0.0], np.cumsum(PHASES)))
    place = np.interp((time_us - fault.start_us) / (cycle_s * 1e6) % corners[-1], corners, regular)
    return regular_load(np.rint(place * cycle_s * 1e6).astype(np.int64), 0, cycle_s)


def altered(fault: Fault, plant: Plant, time_us: I8, values: F8, held: F8) -> F8:
    """What is measured under a fault.

    time_us  i8[T] event times of the readings to alter, all of them within the fault
    values   f8[past + T, D] what is so, with `past_readings(plant)` rows at least before the T
    held     f8[D] the last reading before the fault
    returns  f8[T, D]; NaN where a channel is missing. Silence is not seen here: its readings are not sent.
    """
    t, columns = len(time_us), fault.columns
    value = values[-t:].copy()
    step = fault.magnitude * SWING[columns]
    match fault.kind:
        case FaultKind.SPIKE | FaultKind.LEVEL_SHIFT:
            value[:, columns] += step
        case FaultKind.SLOW_DRIFT:
            grown = (time_us - fault.start_us) / (fault.end_us - fault.start_us)
            value[:, columns] += grown[:, None] * step
        case FaultKind.FROZEN_VALUE:
            value[:, columns] = held[columns]
        case FaultKind.NOISE_BURST:
            generator = np.random.default_rng([zlib.crc32(fault.stream.encode()), int(time_us[0])])
            value[:, columns] += generator.standard_normal((t, len(columns))) * step
        case FaultKind.BROKEN_CORRELATION | FaultKind.WRONG_PHASE:
            lag = round(min(fault.magnitude, LAG_CYCLES_MAX) * _cycle_s(fault, plant) / plant.interval_s)
            value[:, columns] = values[len(values) - t - lag : len(values) - lag, columns]
        case FaultKind.DROPPED_CHANNEL:
            value[:, columns] = np.nan
    return value


def _cycle_s(fault: Fault, plant: Plant) -> float:
    return float(plant.traits.cycle_s[plant.streams.index(fault.stream)])


def draw_fault(kind: FaultKind, plant: Plant, machine: int, start_us: int, generator: np.random.Generator) -> Fault:
    """A fault of a kind with random size, duration and channels, from the machine's first reading at `start_us` or later."""
    uniform, cycle_s = generator.uniform, float(plant.traits.cycle_s[machine])
    either = float(generator.choice([-1.0, 1.0]))
    channels: tuple[str, ...] = (CHANNELS[generator.integers(len(CHANNELS))],)
    magnitude = 0.0
    match kind:
        case FaultKind.SPIKE:
            duration_s, magnitude = int(generator.integers(1, 4)) * plant.interval_s, uniform(1.5, 4.0)
        case FaultKind.LEVEL_SHIFT:
            duration_s, magnitude = uniform(2, 5) * cycle_s, either * uniform(0.4, 0.8)
        case FaultKind.SLOW_DRIFT:
            duration_s, magnitude = uniform(3, 6) * HOUR_S, either * uniform(0.8, 1.5)
        case FaultKind.FROZEN_VALUE:
            duration_s = uniform(1.5, 4) * cycle_s
        case FaultKind.NOISE_BURST:
            duration_s, magnitude = uniform(2, 4) * cycle_s, uniform(0.15, 0.4)
        case FaultKind.BROKEN_CORRELATION:
            duration_s, magnitude = uniform(2, 5) * cycle_s, int(generator.integers(2, 4)) + uniform(0.3, 0.7)
        case FaultKind.WRONG_PHASE:
            duration_s, magnitude = uniform(4, 8) * cycle_s, uniform(0.25, 0.5)
            channels = SIDES[generator.integers(len(SIDES))]
        case FaultKind.WRONG_PERIOD:
            duration_s, channels = uniform(4, 8) * cycle_s, CHANNELS
            magnitude = uniform(0.2, 0.35) if either < 0 else uniform(3.0, 4.0)
        case FaultKind.SILENCE:
            duration_s, channels = uniform(120, 360) * plant.interval_s, CHANNELS
        case FaultKind.DROPPED_CHANNEL:
            duration_s = uniform(2, 5) * cycle_s
        case FaultKind.PHASE_SKIPPED | FaultKind.CYCLE_REVERSED:
            duration_s, channels = uniform(4, 8) * cycle_s, CHANNELS
        case FaultKind.PHASE_STUCK:
            duration_s, channels, magnitude = uniform(4, 8) * cycle_s, CHANNELS, uniform(2.0, 4.0)
    first_us, interval_us = plant.start_us + int(plant.traits.offset_us[machine]), plant.interval_us
    start_us = first_us + -(-(start_us - first_us) // interval_us) * interval_us
    readings = max(round(duration_s / plant.interval_s), 1)
    return Fault(kind, plant.streams[machine], start_us, start_us + readings * interval_us, channels, magnitude)


def schedule_faults(
    plant: Plant,
    count: int,
    start_us: int,
    end_us: int,
    *,
    seed: int,
    gap_us: int = 4 * DAY_US // 24,
    kinds: Sequence[FaultKind] = USUAL_KINDS,
) -> tuple[Fault, ...]:
    """`count` faults at random places from `start_us` on, in order of their starts.

    All of `kinds` are as frequent, give or take one; streams too. Within a stream `gap_us` at least lies between two faults, and
    between the last one and `end_us`: time to recover, and to be judged as normal again.

    raises ConfigError  when they do not fit
    """
    generator = np.random.default_rng([seed, 4])
    wanted = [kinds[i] for lap in range(-(-count // len(kinds))) for i in generator.permutation(len(kinds))][:count]
    placed: list[list[Fault]] = [[] for _ in range(plant.machines)]
    for kind in sorted(wanted, key=lambda kind: kind is not FaultKind.SLOW_DRIFT):  # the longest first: they are the hardest to place
        fault = _place(kind, plant, placed, start_us, end_us, gap_us, generator)
        if fault is None:
            raise ConfigError(
                f"{count} faults do not fit into {(end_us - start_us) / 3.6e9:.1f} hours of {plant.machines} machines",
                fix="simulate for longer, more machines, or fewer faults",
            )
        placed[plant.streams.index(fault.stream)].append(fault)
    return tuple(sorted((fault for faults in placed for fault in faults), key=lambda fault: (fault.start_us, fault.stream)))


def _place(
    kind: FaultKind, plant: Plant, placed: list[list[Fault]], start_us: int, end_us: int, gap_us: int, generator: np.random.Generator
) -> Fault | None:
    """A fault that keeps its distance, preferably of a stream that has few; None after many failures."""
    for attempt in range(100):
        fewest = min(len(faults) for faults in placed) + attempt // 25
        machine = generator.choice([m for m, faults in enumerate(placed) if len(faults) <= fewest])
        fault = draw_fault(kind, plant, int(machine), int(generator.integers(start_us, max(end_us, start_us + 1))), generator)
        if fault.end_us + gap_us <= end_us and all(
            fault.end_us + gap_us <= other.start_us or other.end_us + gap_us <= fault.start_us for other in placed[machine]
        ):
            return fault
    return None


def faults_without_end(plant: Plant, start_us: int, *, seed: int, per_machine_day: float = 1.0) -> Iterator[Fault]:
    """Faults for a plant that never stops, in order of their starts, scheduled day by day."""
    day = 0
    owed = 0.0
    while True:
        owed += per_machine_day * plant.machines
        first_us = start_us + day * DAY_US
        yield from schedule_faults(plant, int(owed), first_us, first_us + DAY_US, seed=seed + 1_000_003 * day)
        owed -= int(owed)
        day += 1
