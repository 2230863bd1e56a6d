"""A simulated plant: pumps of one type, each with a duty cycle, whose channels follow from the load as they do in life.

    duty cycle   idle -> ramp -> run -> cool, dwell times with jitter          load 0..1
    current      follows the load at once                                      A
    vibration    grows faster than the load, and is the noisier the more it runs   mm/s
    pressure     follows the load within half a minute                         bar
    temperature  follows the load within minutes, on top of the day's ambient  degC

A disturbance of the load is common to all channels; each channel has noise of its own (AR(1), now and then a heavy tail)
and wanders slowly. Machines differ moderately in cycle length, set points and gains, as machines of one type do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from detector.errors import ConfigError
from detector.lab.recursion import first_order

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

CHANNELS = ("temperature", "pressure", "vibration", "current")
TEMPERATURE, PRESSURE, VIBRATION, CURRENT = range(4)
DECIMALS = (2, 3, 3, 2)
"""What the sensors resolve: 0.01 degC, 1 mbar, 0.001 mm/s, 0.01 A."""

IDLE_LEVEL = np.array([46.0, 3.0, 1.2, 11.0])
SWING = np.array([30.0, 3.6, 2.6, 22.0])
"""Per channel: the reading of an idle machine, and how much more a machine at full load shows, engineering units."""

CYCLE_S_MIN, CYCLE_S_MAX = 480.0, 960.0
PHASES = np.array([0.22, 0.10, 0.48, 0.20])
"""Shares of idle, ramp, run and cool in a cycle."""
DWELL_JITTER = 0.04
IDLE_LOAD, FULL_LOAD, LOAD_JITTER = 0.05, 0.95, 0.05
CYCLES_AT_ONCE = 16

LAG_S = {TEMPERATURE: 150.0, PRESSURE: 20.0}
NOISE = np.array([0.15, 0.05, 0.05, 0.25])
"""Standard deviation of each channel's own noise; for vibration as a share of its level."""
NOISE_LAG_S = np.array([30.0, 15.0, 8.0, 8.0])
LOAD_NOISE, LOAD_NOISE_LAG_S = 0.02, 45.0
TAIL_SHARE, TAIL_FACTOR = 0.003, 3.0
WANDER, WANDER_LAG_S = 0.015, 43_200.0
"""The slow drift that is normal: standard deviation as a share of the swing, and its correlation time."""
AMBIENT_DAILY, WARMEST_S = 3.0, 54_000.0
DAY_US = 86_400_000_000

INTERVAL_S_MIN, INTERVAL_S_MAX = 1.0, 60.0

BLOCK = 128
"""Readings per machine that are computed at once. Fixed, so that no other choice changes the values."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What makes the machines of a plant different, one entry per machine.

    cycle_s      f8[M]     mean length of the duty cycle
    idle, swing  f8[M, D]  reading when idle, and how much more at full load, engineering units
    offset_us    i8[M]     when the machine is read within the interval: increasing, whole milliseconds
    """

    cycle_s: F8
    idle: F8
    swing: F8
    offset_us: I8


@dataclass(frozen=True)
class Plant:
    """A plant of `machines` pumps, read every `interval_s` from `start_us` on (event time).

    A seed is a plant of its own: other machines, other noise. The order of `streams` is the order in which they are read.

    raises ConfigError  without machines, or with an interval that does not show a duty cycle or shows it too finely
    """

    seed: int
    machines: int = 24
    interval_s: float = 10.0
    start_us: int = 1_767_225_600_000_000
    name: str = "plant1"

    def __post_init__(self) -> None:
        if self.machines < 1:
            raise ConfigError(f"a plant has at least one machine, not {self.machines}")
        if not INTERVAL_S_MIN <= self.interval_s <= INTERVAL_S_MAX:
            raise ConfigError(f"the interval must lie within {INTERVAL_S_MIN:g} and {INTERVAL_S_MAX:g} seconds, not {self.interval_s:g}")

    @property
    def interval_us(self) -> int:
        """Time between two readings of one machine, microseconds."""
        return round(self.interval_s * 1_000) * 1_000

    @cached_property
    def streams(self) -> tuple[str, ...]:
        """Names of the machines' streams."""
        width = max(2, len(str(self.machines)))
        return tuple(f"{self.name}/pump{number + 1:0{width}d}" for number in range(self.machines))

    @cached_property
    def traits(self) -> Traits:
        """The machines, as drawn from the seed."""
        generator = np.random.default_rng([self.seed, 0])
        m, shape = self.machines, (self.machines, len(CHANNELS))
        return Traits(
            cycle_s=generator.uniform(CYCLE_S_MIN, CYCLE_S_MAX, m),
            idle=IDLE_LEVEL * generator.uniform(0.97, 1.03, shape),
            swing=SWING * generator.uniform(0.93, 1.07, shape),
            offset_us=np.arange(m) * self.interval_us // m // 1_000 * 1_000,
        )


class DutyCycles:
    """The load that each machine's duty cycle asks for, as straight lines between breakpoints; only recent ones are kept."""

    def __init__(self, plant: Plant, start_us: int) -> None:
        self._generators = [np.random.default_rng([plant.seed, 1, machine]) for machine in range(plant.machines)]
        self._cycle_us = plant.traits.cycle_s * 1e6
        self._time_us = [np.array([start_us - generator.uniform(0, cycle)])
                         for generator, cycle in zip(self._generators, self._cycle_us, strict=True)]  # fmt: skip
        self._load = [np.array([IDLE_LOAD])] * plant.machines

    def load(self, machine: int, time_us: I8) -> F8:
        """f8[T] of one machine; `time_us` i8[T] increases from call to call."""
        if self._time_us[machine][-1] < time_us[-1]:
            self._extend(machine, int(time_us[0]), int(time_us[-1]))
        load: F8 = np.interp(time_us, self._time_us[machine], self._load[machine])
        return load

    def _extend(self, machine: int, first_us: int, last_us: int) -> None:
        """Add cycles until `last_us` is covered; drop what lies before `first_us`."""
        generator, time_us, load = self._generators[machine], self._time_us[machine], self._load[machine]
        keep = max(int(np.searchsorted(time_us, first_us)) - 1, 0)
        times, loads = [time_us[keep:]], [load[keep:]]
        while times[-1][-1] < last_us:
            dwell = self._cycle_us[machine] * PHASES * np.exp(DWELL_JITTER * generator.standard_normal((CYCLES_AT_ONCE, len(PHASES))))
            cycles = np.full((CYCLES_AT_ONCE, len(PHASES)), IDLE_LOAD)
            cycles[:, 1:3] = FULL_LOAD + LOAD_JITTER * generator.uniform(-1, 1, (CYCLES_AT_ONCE, 2))
            times.append(times[-1][-1] + np.cumsum(dwell))
            loads.append(cycles.ravel())
        self._time_us[machine], self._load[machine] = np.concatenate(times), np.concatenate(loads)


def regular_load(time_us: I8, start_us: int, cycle_s: float) -> F8:
    """f8[T] the load of a duty cycle without jitter that begins to idle at `start_us`: a pure function of time."""
    corners = np.concatenate(([0.0], np.cumsum(PHASES)))
    return np.interp((time_us - start_us) / (cycle_s * 1e6) % 1.0, corners, [IDLE_LOAD, IDLE_LOAD, FULL_LOAD, FULL_LOAD, IDLE_LOAD])


class Filter:
    """A first-order filter of a plant's machines, block after block: gain 1 at rest, or with `unit_variance` unit variance out of unit noise."""

    def __init__(self, plant: Plant, lag_s: float, *, unit_variance: bool = False) -> None:
        self._keep = float(np.exp(-plant.interval_s / lag_s))
        self._gain = np.sqrt(1 - self._keep**2) if unit_variance else 1 - self._keep
        self._y = np.zeros(plant.machines)

    def advance(self, x: F8) -> F8:
        """f8[BLOCK, M] -> f8[BLOCK, M]; the last row is carried to the next block."""
        y = first_order(self._gain * x, self._keep, self._y)
        self._y = y[-1]
        return y


class Dynamics:
    """A plant in motion: block after block of what its machines do, with a bounded memory of the past.

    past_readings   rows of the past, at least, that each block carries before its own; a few time constants of the slowest
                    channel, so that the plant has forgotten how it was started when its first readings are taken
    """

    def __init__(self, plant: Plant, past_readings: int) -> None:
        self._plant = plant
        self._blocks = 0
        self._past_blocks = -(-past_readings // BLOCK)
        self._first_us = plant.start_us - self._past_blocks * BLOCK * plant.interval_us
        self._duty = DutyCycles(plant, self._first_us)
        self._lag = {channel: Filter(plant, lag_s) for channel, lag_s in LAG_S.items()}
        self._noise = [Filter(plant, lag_s, unit_variance=True) for lag_s in NOISE_LAG_S]
        self._load_noise = Filter(plant, LOAD_NOISE_LAG_S, unit_variance=True)
        self._keep = float(np.exp(-BLOCK * plant.interval_s / WANDER_LAG_S))
        self._wander = np.random.default_rng([plant.seed, 3]).standard_normal((plant.machines, len(CHANNELS)))
        self._past = np.empty((0, plant.machines, len(CHANNELS)))
        for _ in range(self._past_blocks):
            self.advance()

    def advance(self, alter_load: Callable[[I8, F8], None] | None = None) -> tuple[I8, F8]:
        """The next block.

        alter_load  (i8[BLOCK, M] event times, f8[BLOCK, M] load) changes the load in place before the channels follow it
        returns     event times i8[BLOCK, M]; values f8[past + BLOCK, M, D], exact, of which the last BLOCK rows are new
        """
        plant = self._plant
        sample = np.arange(self._blocks * BLOCK, (self._blocks + 1) * BLOCK)[:, None]
        time_us = self._first_us + sample * plant.interval_us + plant.traits.offset_us
        load = np.stack([self._duty.load(machine, time_us[:, machine]) for machine in range(plant.machines)], axis=1)
        if alter_load is not None:
            alter_load(time_us, load)
        values = np.concatenate((self._past, self._follow(time_us, load)))
        self._blocks += 1
        self._past = values[-self._past_blocks * BLOCK :]
        return time_us, values

    def _follow(self, time_us: I8, load: F8) -> F8:
        """The channels f8[BLOCK, M, D] under a load f8[BLOCK, M]."""
        traits, generator = self._plant.traits, np.random.default_rng([self._plant.seed, 2, self._blocks])
        m, d = self._plant.machines, len(CHANNELS)
        innovation = generator.standard_normal((d + 1, BLOCK, m), np.float32).astype(np.float64)
        innovation[:d] *= np.where(generator.random((d, BLOCK, m), np.float32) < TAIL_SHARE, TAIL_FACTOR, 1.0)
        load = load * (1 + LOAD_NOISE * self._load_noise.advance(innovation[d]))
        follows = [load] * d
        for channel, lag in self._lag.items():
            follows[channel] = lag.advance(load)
        follows[VIBRATION] = load * np.sqrt(np.maximum(load, 0))
        value = traits.idle + traits.swing * np.stack(follows, axis=2)
        value += self._wandered(generator.standard_normal((m, d)))
        for channel in range(d):
            scale = NOISE[channel] * (value[:, :, channel] if channel == VIBRATION else 1.0)
            value[:, :, channel] += scale * self._noise[channel].advance(innovation[channel])
        value[:, :, TEMPERATURE] += AMBIENT_DAILY * np.cos(2 * np.pi * (time_us % DAY_US - WARMEST_S * 1e6) / DAY_US)
        return value

    def _wandered(self, innovation: F8) -> F8:
        """f8[BLOCK, M, D] the slow drift that is normal: a straight line from the last block's end."""
        before = self._wander
        self._wander = self._keep * before + np.sqrt(1 - self._keep**2) * innovation
        share = (np.arange(1, BLOCK + 1) / BLOCK)[:, None, None]
        drifted: F8 = WANDER * SWING * (before + share * (self._wander - before))
        return drifted


def rounded(value: F8) -> F8:
    """f8[..., D] as the sensors report it: nothing below 0, and no more decimals than they resolve."""
    unit = 10.0 ** np.array(DECIMALS)
    reported: F8 = np.rint(np.maximum(value, 0.0) * unit) / unit
    return reported
