"""Recorded streams -> what a network can be trained on: unbroken sequences, split three ways, in lanes of windows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GAP_INTERVALS = 60
"""A pause longer than so many usual intervals ends a sequence: what comes after it does not follow from what was before."""

SEQUENCE_MIN = 32
BURN_IN = 50
"""Readings at the start of a sequence that no figure is taken from: the memory is still empty there."""
STREAMS_MIN_TO_HOLD_OUT = 6
LANES = 16


def burn_in(sequence: NDArray[np.float32]) -> int:
    """How much of a sequence no figure is taken from: nothing of a short one."""
    return BURN_IN if len(sequence) > 2 * BURN_IN else 0


def count(*parts: Sequence[NDArray[np.float32]]) -> int:
    """Readings of all sequences of these parts."""
    return sum(len(sequence) for part in parts for sequence in part)


@dataclass(frozen=True, slots=True)
class Recorded:
    """Readings of one stream without a gap. value f4[T, D] engineering units, NaN where missing."""

    stream: str
    value: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.value)


@dataclass(frozen=True, slots=True)
class Split:
    """What trains the weights, what stops the training, what calibrates. No reading is in two of them."""

    train: tuple[Recorded, ...]
    held_out: tuple[Recorded, ...]
    calibrate: tuple[Recorded, ...]
    by: str


def sequences_of(
    stream: NDArray[np.int32], names: Sequence[str], event_time_us: NDArray[np.int64], value: NDArray[np.float32]
) -> list[Recorded]:
    """Sort a recording into sequences: by stream, then time; cut at gaps, too short ones left out.

    stream  i4[N] index into names;  event_time_us i8[N];  value f4[N, D]
    """
    found = []
    for index, name in enumerate(names):
        at = np.flatnonzero(stream == index)
        at = at[np.argsort(event_time_us[at], kind="stable")]
        if len(at) < SEQUENCE_MIN:
            continue
        elapsed = np.diff(event_time_us[at])
        at = at[np.concatenate(([True], elapsed > 0))]  # one reading per time
        elapsed = elapsed[elapsed > 0]
        usual = np.median(elapsed) if len(elapsed) else 0
        for run in np.split(at, np.flatnonzero(elapsed > GAP_INTERVALS * usual) + 1):
            if len(run) >= SEQUENCE_MIN:
                found.append(Recorded(name, value[run]))
    return found


def split(sequences: Sequence[Recorded], seed: int) -> Split:
    """70 % train, 15 % held out, 15 % calibrate: whole streams where there are enough, else the end of every sequence."""
    streams = sorted({sequence.stream for sequence in sequences})
    if len(streams) >= STREAMS_MIN_TO_HOLD_OUT:
        order = np.random.default_rng(seed).permutation(len(streams)).tolist()
        few = max(1, round(0.15 * len(streams)))
        part_of = {streams[s]: 1 if k < few else 2 if k < 2 * few else 0 for k, s in enumerate(order)}
        train, held_out, calibrate = (tuple(s for s in sequences if part_of[s.stream] == part) for part in range(3))
        return Split(train, held_out, calibrate, f"{len(streams) - 2 * few} streams train, {few} held out, {few} calibrate")
    parts: tuple[list[Recorded], ...] = ([], [], [])
    for sequence in sequences:
        a, b = int(0.7 * len(sequence)), int(0.85 * len(sequence))
        for part, piece in zip(parts, (sequence.value[:a], sequence.value[a:b], sequence.value[b:]), strict=True):
            if len(piece):
                part.append(Recorded(sequence.stream, piece))
    return Split(
        tuple(parts[0]), tuple(parts[1]), tuple(parts[2]), "each stream's first 70 % train, next 15 % held out, last 15 % calibrate"
    )


def filled(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Missing values become the last one seen (0, the mean, before any); the loss leaves them out. x f4[T, D]."""
    seen = np.where(np.isnan(x), 0, np.arange(1, len(x) + 1)[:, None])
    last = np.maximum.accumulate(seen, axis=0)
    padded = np.concatenate((np.zeros((1, x.shape[1]), np.float32), x))
    result: NDArray[np.float32] = np.take_along_axis(padded, last, axis=0)
    return result


@dataclass(frozen=True, slots=True)
class Window:
    """One step of truncated back-propagation over all lanes.

    x        f4[B, T, D] without NaN       counts  f4[B, T, D] 1 where the loss counts, else 0
    is_new   b1[B] lanes that begin another sequence here: their carried state is forgotten
    readings how many there are in all lanes
    """

    x: NDArray[np.float32]
    counts: NDArray[np.float32]
    is_new: NDArray[np.bool_]
    readings: int


def windows(xs: Sequence[NDArray[np.float32]], length: int, rng: np.random.Generator | None) -> Iterator[Window]:
    """Play sequences of different lengths side by side in lanes, cut into windows.

    xs      scaled f4[T, D] each, NaN where missing
    length  T of a window
    rng     shuffles and shifts the sequences (training); None: as they are (validation)
    """
    total = sum(len(x) for x in xs)
    longest = max(length, -(-total // LANES))
    pieces = []
    for x in xs:
        start = int(rng.integers(0, min(length, len(x) // 2))) if rng is not None else 0
        pieces += [x[at : at + longest] for at in range(start, len(x), longest)]
    if rng is not None:
        pieces = [pieces[i] for i in rng.permutation(len(pieces))]
    lanes: list[list[NDArray[np.float32]]] = [[] for _ in range(min(max(LANES, len(pieces) // 4), 256, len(pieces)))]
    load = np.zeros(len(lanes), np.int64)
    for piece in pieces:
        lane = int(load.argmin())
        lanes[lane].append(piece)
        load[lane] += -(-len(piece) // length)
    d = xs[0].shape[1]
    queues = [[(piece[at : at + length], at == 0) for piece in lane for at in range(0, len(piece), length)] for lane in lanes]
    for k in range(int(load.max())):
        x = np.zeros((len(lanes), length, d), np.float32)
        counts = np.zeros_like(x)
        is_new = np.ones(len(lanes), np.bool_)
        readings = 0
        for lane, queue in enumerate(queues):
            if k < len(queue):
                piece, is_new[lane] = queue[k]
                x[lane, : len(piece)] = filled(piece)
                counts[lane, : len(piece)] = ~np.isnan(piece)
                readings += len(piece)
        yield Window(x, counts, is_new, readings)
