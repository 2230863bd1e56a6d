"""A log in which everything happens: all that a cut of the batches, another worker or another neighbour could get wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detector.core.readings import Partition
from tests.core.builders import SECOND_US, START_US, Log, joined, normal_values

SHARED = "shared"
"""This name is used in every partition: the memories must stay apart."""


def eventful_log(seed: int = 0, partitions: int = 3, streams: int = 5, seconds: int = 260, channels: int = 2, ties: float = 0.0) -> Log:
    """One reading per stream and second, with missing values, late and repeated readings, faults, silences, absences longer than
    the memory lasts, stops of a whole partition, and messages that carry two readings.

    ties   how many readings are followed by another of the same stream and time, 0..1
    """
    rngs = [np.random.default_rng((seed, k)) for k in range(partitions)]
    return joined([_partition(Partition("readings", k), k, rng, streams, seconds, channels, ties) for k, rng in enumerate(rngs)])


def _partition(partition: Partition, k: int, rng: np.random.Generator, streams: int, seconds: int, channels: int, ties: float) -> Log:
    names = [SHARED, *(f"p{k}/s{i}" for i in range(1, streams))]
    values = [_spoiled(normal_values(seconds, channels, seed=100 * k + i), rng) for i in range(streams)]
    away = [_absences(i, seconds, rng) for i in range(streams)]
    values[2][np.argmax(away[2]) - 15 :] += 20 * np.nanstd(values[2], axis=0)  # goes away with its alert open
    stop_at = int(rng.integers(seconds // 2, seconds))
    rows: list[tuple[str, int, NDArray[np.float32]]] = []
    for second in range(seconds):
        for i in rng.permutation(streams):
            if away[i][second]:
                continue
            time_us = START_US + (second + (40 if second >= stop_at else 0)) * SECOND_US + int(i) * 1_000 + int(rng.integers(300_000))
            rows.append((names[i], time_us, values[i][second]))
            while ties and rng.random() < ties:
                rows.append((names[i], time_us, values[i][int(rng.integers(second + 1))]))
            chance = rng.random()
            if chance < 0.02:
                rows.append((names[i], time_us, values[i][second]))  # the same again
            elif chance < 0.04:
                rows.append((names[i], time_us - int(rng.integers(1, 30 * SECOND_US)), values[i][second]))  # late
    n = len(rows)
    shares_offset = rng.random(n) < 0.1  # with the reading before it: a gateway's message
    offset = np.cumsum(~shares_offset)
    item = np.zeros(n, np.int32)
    for position in range(1, n):
        item[position] = item[position - 1] + 1 if shares_offset[position] else 0
    return Log(
        tuple(row[0] for row in rows),
        np.array([row[1] for row in rows], np.int64),
        np.stack([row[2] for row in rows]),
        np.zeros(n, np.int32),
        offset.astype(np.int64),
        item,
        (partition,),
    )


def _spoiled(value: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """With values missing, one by one and for long, and with faults that come and go."""
    value = value.copy()
    seconds, channels = value.shape
    value[rng.random(value.shape) < 0.02] = np.nan
    value[rng.random(seconds) < 0.005] = np.nan
    at = int(rng.integers(60, seconds - 80))
    channel = int(rng.integers(channels))
    match rng.integers(5):
        case 0:
            value[at : at + 25, channel] += 60 * value[:, channel][~np.isnan(value[:, channel])].std()
        case 1:
            value[at : at + 60, channel] = value[at, channel]
        case 2:
            value[seconds - 110 : seconds - int(rng.integers(20, 85)), channel] = np.nan  # late: by then it is known to come
        case 3:
            value[at:] += 40 * np.nanstd(value, axis=0)  # a new level that stays
        case _:
            value[at, :] += 30 * np.nanstd(value, axis=0)
    return value


def _absences(i: int, seconds: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Seconds in which a stream sends nothing: silence in the middle, a late birth, or so long that it is forgotten."""
    away = np.zeros(seconds, np.bool_)
    if i == 1:
        at = int(rng.integers(60, seconds - 70))
        away[at : at + int(rng.integers(15, 40))] = True
        away[at + 50 : at + 65] = True
    elif i == 2:
        at = int(rng.integers(75, seconds - 150))
        away[at : at + 130] = True
    elif i == 3:
        away[: int(rng.integers(10, 100))] = True
    elif i == 4:
        away[int(rng.integers(seconds - 60, seconds - 20)) :] = True
    return away


def narrow(log: Log, seed: int = 0) -> Log:
    """The same log with one value per message: each reading's channels in any order, some lost, some twice, some swapped with
    those of the reading after it."""
    rng = np.random.default_rng(seed)
    channels = log.value.shape[1]
    position = np.repeat(np.arange(len(log)), channels)
    channel = np.concatenate([rng.permutation(channels) for _ in range(len(log))]).astype(np.int32)
    times = np.where(rng.random(len(position)) < 0.03, 0, np.where(rng.random(len(position)) < 0.03, 2, 1))
    position, channel = np.repeat(position, times), np.repeat(channel, times)
    swap = np.flatnonzero(rng.random(len(position) - 1) < 0.03)
    swap = swap[log.partition[position[swap]] == log.partition[position[swap + 1]]]
    for at in swap:
        position[[at, at + 1]], channel[[at, at + 1]] = position[[at + 1, at]], channel[[at + 1, at]]
    taken = log.take(position)
    value = np.full_like(taken.value, np.nan)
    value[np.arange(len(taken)), channel] = taken.value[np.arange(len(taken)), channel]
    number = np.concatenate([np.arange(np.count_nonzero(taken.partition == k)) for k in range(len(log.partitions))])
    return replace(taken, value=value, channel=channel, offset=number.astype(np.int64), item=np.zeros(len(taken), np.int32))


def interleaved(log: Log, rng: np.random.Generator) -> Log:
    """The same partitions, mixed in another way; the order inside each is kept."""
    turns = rng.permutation(log.partition)
    queues = [iter(np.flatnonzero(log.partition == k).tolist()) for k in range(len(log.partitions))]
    return log.take(next(queues[k]) for k in turns)
