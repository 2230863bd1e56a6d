"""Faults of time: plants with duty cycles whose values stay what they were, and only come at the wrong time.

    draw_plant -> Programme (which phase, when; what is altered, where) -> played (values) -> Series

A detector that knows how large a reading may be, and nothing of what came before it, is near chance here by construction. The
faults are those of `duty_faults`, one kind per series. Units are readings for times, and each channel's own for values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.lab.evaluate.duty_faults import GAP_CYCLES, DutyKind, Episode, altered_path, altered_phases, draw_episode
from detector.lab.evaluate.series import Series
from detector.lab.recursion import lagged

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

COLLECTION = "DUTY"
WARM_UP, TRAIN, TEST = 500, 6_000, 6_000
QUIET = 500
"""Readings of the test before the first fault."""
READINGS = WARM_UP + TRAIN + TEST
EPISODES_MIN, EPISODES_MAX = 5, 8

CHANNELS_MIN, CHANNELS_MAX = 2, 3
PHASES_MIN, PHASES_MAX = 4, 6
CYCLE_MIN, CYCLE_MAX = 40.0, 90.0
"""Longer cycles would not let five episodes fit into the test, eight cycles apart."""
SHARE_SPREAD = 0.35
DWELL_JITTER = 0.03
LAG_MIN, LAG_SHARE = 1.0, 0.25
"""Time constants: the least, and the largest share of a mean phase, so that they end at 1.7 to 5.6 readings. A channel that does
not reach its set points in time would have other extremes as soon as they come in another order or for longer."""
CURVE, STEP_JITTER = (0.6, 1.6), 0.25
"""A channel is a power of the load, up or down: what one shows of a phase the others show as well, and only time tells more."""
DELAY_MIN, DELAY_SHARE = 3, 0.2
WHITE, RED, RED_LAG = (0.02, 0.06), (0.02, 0.06), (2.0, 10.0)
"""Noise without and with a memory (AR(1), time constant): standard deviations, shares of the swing."""
WANDER, WANDER_PERIOD = (0.01, 0.03), (700.0, 2_500.0)
"""A slow sine: amplitude as a share of the swing. It stays below the noise, or the levels of an episode would tell its hour."""
SCALE_LOG10, OFFSET = (-1.0, 2.0), (-2.0, 2.0)
"""Units of a channel: what its swing is, and where it begins, in swings."""


@dataclass(frozen=True, slots=True)
class DutyPlant:
    """A machine with a programme of P phases and D channels.

    set_point  f8[P, D]  where each phase wants each channel to be, shares of its swing
    dwell      f8[P]     mean duration of each phase
    lag        f8[D]     time constants
    leader     i8[D]     the channel that a channel follows instead of the programme; -1: it follows the programme
    delay      i8[D]     after how long it does so
    """

    set_point: F8
    dwell: F8
    lag: F8
    leader: I8
    delay: I8


@dataclass(frozen=True, slots=True)
class Programme:
    """What a plant is asked to do.

    phase     i8[T]  phase of each reading
    episodes  the faults, in order
    spans     [start, end) of each: the readings that it alters
    """

    phase: I8
    episodes: tuple[Episode, ...]
    spans: tuple[tuple[int, int], ...]


def duty_series(seed: int, per_kind: int = 3) -> list[Series]:
    """`per_kind` plants for each kind of fault. A series depends on the seed, its kind and its number only."""
    return [_series(seed, kind, number) for kind in DutyKind for number in range(1, per_kind + 1)]


def _series(seed: int, kind: DutyKind, number: int) -> Series:
    generator = np.random.default_rng([seed, list(DutyKind).index(kind), number])
    plant = draw_plant(generator)
    programme = _draw_programme(plant, kind, generator)
    value = _played(plant, programme, generator).astype(np.float32)
    train, test = np.split(value[WARM_UP:], [TRAIN])
    return Series(COLLECTION, f"{kind}-{number}", train, test, _label(plant, programme)[WARM_UP + TRAIN :])


def draw_plant(generator: np.random.Generator) -> DutyPlant:
    """A plant. Every phase has a load of its own, which all channels follow; the last of several may follow another one instead."""
    uniform, d = generator.uniform, int(generator.integers(CHANNELS_MIN, CHANNELS_MAX + 1))
    p, cycle = int(generator.integers(PHASES_MIN, PHASES_MAX + 1)), uniform(CYCLE_MIN, CYCLE_MAX)
    share = uniform(1 - SHARE_SPREAD, 1 + SHARE_SPREAD, p)
    load = np.clip((generator.permutation(p) + uniform(-STEP_JITTER, STEP_JITTER, p)) / (p - 1), 0, 1)
    rising = load[:, None] ** uniform(*CURVE, d)
    set_point = np.where(generator.random(d) < 0.5, rising, 1 - rising)
    lag = np.exp(uniform(np.log(LAG_MIN), np.log(LAG_SHARE * cycle / p), d))
    leader, delay = np.full(d, -1), np.zeros(d, np.int64)
    if generator.random() < 0.5:
        leader[-1] = generator.integers(d - 1)
        delay[-1] = generator.integers(DELAY_MIN, max(round(DELAY_SHARE * cycle), DELAY_MIN + 1) + 1)
    return DutyPlant(set_point, cycle * share / share.sum(), lag, leader, delay)


def _draw_programme(plant: DutyPlant, kind: DutyKind, generator: np.random.Generator) -> Programme:
    """Cycle after cycle with jitter; in the test episodes of one kind, at random distances."""
    cycle = plant.dwell.sum()
    dwell = plant.dwell * np.exp(DWELL_JITTER * generator.standard_normal((int(2 * READINGS / cycle), len(plant.dwell))))
    quiet_cycles = int(np.searchsorted(np.cumsum(dwell.sum(axis=1)), WARM_UP + TRAIN + QUIET)) + 2
    episodes, spare = _draw_episodes(plant, kind, generator, (READINGS - quiet_cycles * cycle) / cycle)
    gaps = GAP_CYCLES + generator.multinomial(spare, np.full(len(episodes) + 1, 1 / (len(episodes) + 1)))
    gaps[0] += quiet_cycles - GAP_CYCLES
    phases, durations, spans, at, now = [], [], [], 0, 0.0
    for gap, episode in zip(gaps, (*episodes, None), strict=True):
        regular = dwell[at : at + gap] if episode is not None else dwell[at:]
        phases.append(np.tile(np.arange(len(plant.dwell)), len(regular)))
        durations.append(regular.ravel())
        now, at = now + regular.sum(), at + len(regular)
        if episode is not None:
            altered = [altered_phases(episode, each) for each in dwell[at : at + episode.cycles]]
            starts = now + np.cumsum([0.0, *(each.dwell.sum() for each in altered)])
            spans.append((round(now + altered[0].begin), round(starts[-2] + altered[-1].end)))
            phases.extend(each.phase for each in altered)
            durations.extend(each.dwell for each in altered)
            now, at = starts[-1], at + episode.cycles
    ends = np.rint(np.cumsum(np.concatenate(durations))).astype(np.int64)
    phase = np.repeat(np.concatenate(phases), np.diff(ends, prepend=0))[:READINGS]
    return Programme(phase, episodes, tuple(spans))


def _draw_episodes(plant: DutyPlant, kind: DutyKind, generator: np.random.Generator, cycles: float) -> tuple[tuple[Episode, ...], int]:
    """Episodes that fit into so many cycles with their distances, and how many cycles are left over."""
    while True:
        count = int(generator.integers(EPISODES_MIN, EPISODES_MAX + 1))
        # Each phase in turn, shuffled: over the episodes no level becomes much more frequent than it is.
        turns = np.concatenate([generator.permutation(len(plant.dwell)) for _ in range(-(-count // len(plant.dwell)))])
        episodes = tuple(draw_episode(kind, int(turn), plant.dwell, plant.lag, plant.delay, generator) for turn in turns[:count])
        taken = sum(altered_phases(each, plant.dwell).dwell.sum() * each.cycles for each in episodes) / plant.dwell.sum()
        spare = int(cycles - taken - GAP_CYCLES * (count - 1) - 2)
        if spare >= 0:
            return episodes, spare


def _label(plant: DutyPlant, programme: Programme) -> NDArray[np.bool_]:
    """bool[T] where a fault acts, and until the slowest channel has nearly forgotten it."""
    own = plant.lag + plant.delay
    recovery = int(np.ceil(np.max(own + np.where(plant.leader >= 0, own[plant.leader], 0.0))))
    label = np.zeros(READINGS, bool)
    for episode, (start, end) in zip(programme.episodes, programme.spans, strict=True):
        label[start : end + (0 if episode.kind is DutyKind.REPLAYED else recovery)] = True
    return label


def _played(plant: DutyPlant, programme: Programme, generator: np.random.Generator) -> F8:
    """f8[T, D] what the channels do, in units of their own."""
    d = len(plant.lag)
    lag, delay = np.tile(plant.lag, (READINGS, 1)), np.tile(plant.delay, (READINGS, 1))
    for episode, (start, end) in zip(programme.episodes, programme.spans, strict=True):
        altered_path(episode, lag[start:end], delay[start:end])
    target = plant.set_point[programme.phase]
    keep = np.exp(-1 / lag)
    response = lagged(target, keep, target[0])
    followers = np.flatnonzero(plant.leader >= 0)
    led = np.maximum(np.arange(READINGS)[:, None] - delay[:, followers], 0)
    target[:, followers] = response[led, plant.leader[followers]]
    response = lagged(target, keep, target[0]) + _noise(d, generator)
    measured = response.copy()
    for episode, (start, end) in zip(programme.episodes, programme.spans, strict=True):
        if episode.kind is DutyKind.REPLAYED:
            measured[start:end, episode.channel] = response[start - episode.ago : end - episode.ago, episode.channel]
    scale = 10.0 ** generator.uniform(*SCALE_LOG10, d)
    values: F8 = scale * (measured + generator.uniform(*OFFSET, d))
    return values


def _noise(d: int, generator: np.random.Generator) -> F8:
    """f8[T, D] what a channel does of its own, in shares of its swing: noise without and with a memory, and a bounded wander."""
    uniform = generator.uniform
    white = uniform(*WHITE, d) * generator.standard_normal((READINGS, d))
    keep, shock = np.exp(-1 / uniform(*RED_LAG, d)), generator.standard_normal((READINGS, d))
    red = lagged(shock, keep, shock[0])
    red *= uniform(*RED, d) * np.sqrt((1 + keep) / (1 - keep))  # what follows unit noise has the variance (1 - keep) / (1 + keep)
    turns = np.arange(READINGS)[:, None] / uniform(*WANDER_PERIOD, d) + uniform(0, 1, d)
    noise: F8 = white + red + uniform(*WANDER, d) * np.sin(2 * np.pi * turns)
    return noise
