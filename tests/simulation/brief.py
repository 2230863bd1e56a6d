"""Short logs in which everything happens, for thousands of runs: a hundred and some readings per partition.

A stream's life is over in seconds here: it settles after 5 readings, times out after 2.5 intervals and is evicted after 6 s.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from detector.core.readings import Partition
from detector.core.rules import Settings
from tests.core.builders import SECOND_US, START_US, Log, joined, model_of, normal_values, settings_of
from tests.core.plant import SHARED
from tests.simulation.messages import FORMATS, Sent, written
from tests.simulation.service import Plant, undisturbed

MODEL = model_of(channels=2, hidden=8)
SETTINGS = settings_of(
    budget_period_us=50 * SECOND_US,
    warmup_readings=5,
    timeout_intervals=2.5,
    idle_ttl_us=6 * SECOND_US,
    reset_baseline_after_us=4 * SECOND_US,
)
KEEPING = replace(SETTINGS, keeps_ties=True)
TIES = 0.15
PARTITIONS = 3
SECONDS = 20
LOGS = 9


@cache
def brief(number: int) -> tuple[str, Settings, list[Sent], Plant]:
    """Shape of one of `LOGS` logs, how it is judged, its messages, and what an undisturbed worker makes of them. Of the even ones, which
    come in every shape, some readings are followed by one of the same stream and time, and ties are kept."""
    shape = tuple(FORMATS)[number % len(FORMATS)]
    settings, ties = (SETTINGS, 0.0) if number % 2 else (KEEPING, TIES)
    log = joined([_partition(Partition("readings", k), k, np.random.default_rng((number, k)), ties) for k in range(PARTITIONS)])
    sent = written(log, shape, random.Random(number))
    return shape, settings, sent, undisturbed(MODEL, settings, FORMATS[shape], sent, PARTITIONS)


def _partition(partition: Partition, k: int, rng: np.random.Generator, ties: float) -> Log:
    """Four streams, a reading per second each: one that is always there, one that is missed and comes back, one that goes
    away with its alert open, is forgotten and comes back, and one that comes late or goes for good."""
    names = (SHARED, f"p{k}/s1", f"p{k}/s2", f"p{k}/s3")
    here = np.ones((len(names), SECONDS), np.bool_)
    missed_s, gone_s, born_s, dead_s = (int(rng.integers(*bounds)) for bounds in ((6, 13), (7, 10), (5, 9), (10, 14)))
    here[1, missed_s : missed_s + 4] = False
    here[2, gone_s : gone_s + 8] = False
    here[3] = np.arange(SECONDS) < dead_s if rng.random() < 0.5 else np.arange(SECONDS) > born_s
    values = [_spoiled(normal_values(SECONDS, 2, seed=100 * k + i), rng) for i in range(len(names))]
    values[2][gone_s - 2 : gone_s] += 60 * np.nanstd(values[2], axis=0)
    rows: list[tuple[str, int, NDArray[np.float32]]] = []
    for second in range(SECONDS):
        for i in rng.permutation(np.flatnonzero(here[:, second])).tolist():
            time_us = START_US + second * SECOND_US + i * 1_000 + int(rng.integers(300_000))
            rows.append((names[i], time_us, values[i][second]))
            while ties and rng.random() < ties:
                rows.append((names[i], time_us, values[i][int(rng.integers(second + 1))]))
            chance = rng.random()
            if chance < 0.03:
                rows.append(rows[-1])  # the same again
            elif chance < 0.06:
                rows.append((names[i], time_us - int(rng.integers(1, 6 * SECOND_US)), values[i][second]))  # late
        for i in np.flatnonzero(~here[:, second] & (rng.random(len(names)) < 0.5)).tolist():
            heard_us = max((row[1] for row in rows if row[0] == names[i]), default=0)
            if second - (heard_us - START_US) // SECOND_US <= 5:  # late, of a stream that is away, but not forgotten
                rows.append((names[i], heard_us - int(rng.integers(1, 4 * SECOND_US)), values[i][second]))
    shares_offset = rng.random(len(rows)) < 0.3  # with the reading before it: a gateway's message
    shares_offset[0] = False
    offset = np.cumsum(~shares_offset) - 1
    item = np.arange(len(rows)) - np.flatnonzero(~shares_offset)[offset]
    return Log(
        tuple(row[0] for row in rows),
        np.array([row[1] for row in rows], np.int64),
        np.stack([row[2] for row in rows]),
        np.zeros(len(rows), np.int32),
        offset.astype(np.int64),
        item.astype(np.int32),
        (partition,),
    )


def _spoiled(value: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """With values missing, and with faults that come and go."""
    value = value.copy()
    value[rng.random(value.shape) < 0.03] = np.nan
    at = int(rng.integers(6, SECONDS - 5))
    match rng.integers(3):
        case 0:
            value[at : at + 4] += 60 * np.nanstd(value, axis=0)
        case 1:
            value[at:] += 40 * np.nanstd(value, axis=0)  # a new level that stays
        case _:
            value[at, int(rng.integers(2))] += 300 * np.nanstd(value)
    return value
