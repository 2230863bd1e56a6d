"""What is remembered of a stream: one record. Its bytes are what the state topic keeps.

A record has two parts, one after the other:

    head    a NumPy record, the same for all models: times, counters, the alarm, open alerts (`HEAD`)
    floats  32-bit floats, whose number follows from the model: LSTM memory, forecasts, what the score follows (`OFFSETS`)

Compiled code reaches the head by field name, `s.cusum`, and the floats from an offset on, `part(f, at.cell, hidden)`. So one compilation
serves all models. Counters stop at `limits.COUNT_MAX`, up to which a 32-bit float is exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.compiled import inlined, written_out

NEVER = np.iinfo(np.int64).min
"""An event time that no reading has."""
READINGS_MODULUS = 2520 * 2**20
"""The number of readings goes around here: a multiple of the length of every ring up to 10, and of powers of two."""

_ALERTS = [
    field
    for kind in ("score", "timeout", "stuck", "missing")
    for field in ((f"{kind}_offset", "<i8"), (f"{kind}_opened_at_us", "<i8"), (f"{kind}_item", "<i4"), (f"{kind}_open", "u1"))
]
HEAD = np.dtype(
    [
        ("event_time_us", "<i8"),  # of the newest reading
        ("heard_at_us", "<i8"),  # the partition's watermark when it came
        ("heard_clock_us", "<i8"),  # the partition's clock then
        ("interval_us", "<f8"),  # usual time between two event times; 0 until it is known
        ("per_time", "<f8"),  # usual number of readings that share an event time
        ("heard", "<i4"),  # event times in order, since the stream began
        ("at_newest", "<i4"),  # readings that have the newest event time, so far
        ("partial_time_us", "<i8"),  # of the reading that is not whole yet
        ("readings", "<u4"),  # judged, modulo READINGS_MODULUS; where the rings of forecasts, lags and ridge stand
        ("ridge_readings", "<i4"),  # learned from, or pending
        ("ridge_pending", "<u4"),  # the last readings, newest in the lowest bit: 1, to be learned from
        ("scale_readings", "<i4"),  # from which the terms' own quantiles were learned
        ("range_readings", "<i4"),  # that the range is of
        ("fast", "<f4"),  # EWMA of the largest residuals
        ("whitened", "<f4"),  # EWMA of the whitened residuals
        ("slow", "<f4"),  # EWMA of the mean residual
        ("peak", "<f4"),  # decaying peak of the instantaneous score
        ("seen", "<i4"),  # readings that the alarm has seen
        ("since", "<i4"),  # readings since the alert opened or escalated
        ("calm", "<i4"),  # calm readings in a row
        ("is_critical", "u1"),
        ("quantile", "<f8"),  # running 95 % quantile of the score
        ("excess", "<f8"),  # mean excess over it
        ("quantile_before", "<f8"),  # both as they were before the CUSUM rose
        ("excess_before", "<f8"),
        ("mean", "<f8"),  # of the scores of the warm-up
        ("variance", "<f8"),
        ("cusum", "<f8"),
        ("slow_penalty", "<f8"),
        ("fast_penalty", "<f8"),
        ("alert_level", "<f8"),  # 95 % quantile of an open alert's scores
        ("p_min", "<f8"),  # least tail probability while the CUSUM was above 0
        ("level_since_us", "<i8"),
        *_ALERTS,
    ],
    align=True,
)

OFFSETS = np.dtype(
    [
        (name, "<i8")
        for name in (
            "hidden",  # [L, H] h, of L layers of H units
            "cell",  # [L, H] c
            "fed",  # [D] what the network was fed last, scaled
            "next",  # [D] forecast of the next reading, one ahead
            "pending",  # [K, D] a ring: weighted forecasts of the next K readings, summed
            "lags",  # [P, D] a ring: what the network was fed before
            "ewma",  # [3, D] of the scaled readings
            "level",  # [D]
            "residual_ewma",  # [D]
            "value_last",  # [D] engineering units
            "low",  # [D] range of the values
            "high",
            "between",  # [2, D] range of the values that moved (`stopped.py`)
            "stuck",  # [5, D] runs of one value (`stopped.py`)
            "missing",  # [5, D] runs without a value
            "partial",  # [D] the reading that is not whole yet
            "has_partial",  # [D]
            "scale",  # [11, D] a scaler of the stream's own (`scaler.py`)
            "term_middle",  # [4] of its own
            "term_high",
            "gram",  # a ridge of its own (`online_ridge.py`): sums
            "total",
            "cross",
            "own",
            "weight",  # what was solved for
            "constant",
            "value_weight",  # [K D]
            "error",  # [K D]
            "past_hidden",  # [K, H] a ring
            "past_fed",  # [K, D] a ring
            "end",  # how many floats a record has, head included
        )
    ]
)
"""Where each part of the floats begins, in floats from the record's first byte on. A model lacks some: they begin at the end."""

Part = tuple[str, tuple[int, ...], "float | NDArray[np.float32]"]
"""A part of the floats: its name among OFFSETS, its shape, and what a new stream starts with."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The record of a model.

    offsets    OFFSETS[1] of the floats
    shapes     of their parts, by name
    new        f4[F] the record of a new stream, head included
    """

    offsets: NDArray[Any]
    shapes: dict[str, tuple[int, ...]]
    new: NDArray[np.float32]

    @property
    def row_bytes(self) -> int:
        """Bytes of one record."""
        return self.new.nbytes

    @property
    def fields(self) -> list[tuple[str, str, tuple[int, ...], int]]:
        """Name, type, shape and first byte of everything in a record, for those who read saved state."""
        assert HEAD.names is not None
        assert HEAD.fields is not None
        head = [(f"head.{name}", HEAD.fields[name][0].str, (), int(HEAD.fields[name][1])) for name in HEAD.names]
        floats = [(name, "<f4", shape, 4 * int(self.offsets[name][0])) for name, shape in self.shapes.items()]
        return [*head, *(part for part in floats if math.prod(part[2]))]


def layout_of(parts: Sequence[Part], starts: dict[str, float]) -> Layout:
    """The layout of a model's record.

    parts    of the floats that the model has
    starts   what fields of the head start with, where that is not the same for all models
    """
    shapes = {name: shape for name, shape, _ in parts}
    offsets, end = np.zeros(1, OFFSETS), HEAD.itemsize // 4
    for name, shape in shapes.items():
        offsets[name] = end
        end += math.prod(shape)
    end += end % 2  # records begin at a multiple of 8 bytes
    for name in OFFSETS.names or ():
        if name not in shapes:
            offsets[name] = end
    head = np.zeros(1, HEAD)
    of_all = {"event_time_us": NEVER, "heard_at_us": NEVER, "partial_time_us": NEVER, "at_newest": 1, "per_time": 1, "p_min": 1}
    for name, value in (of_all | starts).items():
        head[name] = value
    new = np.zeros(end, np.float32)
    new.view(np.uint8)[: HEAD.itemsize] = head.view(np.uint8)
    for name, shape, start in parts:
        at = int(offsets[name][0])
        new[at : at + math.prod(shape)] = np.broadcast_to(np.asarray(start, np.float32), shape).ravel()
    return Layout(offsets, shapes, new)


@written_out
def part(floats, start, count):  # type: ignore[no-untyped-def]
    """`count` floats from `start` on."""
    return floats[start : start + count]


@inlined
def place_in_ring(readings, length):  # type: ignore[no-untyped-def]
    """The place of a reading, by its number, in a ring of so many."""
    return np.int64(np.uint32(readings) % np.uint32(length))


@inlined
def further(place, by, length):  # type: ignore[no-untyped-def]
    """The place so many further in a ring of `length`, forwards or backwards; |by| <= length."""
    moved = place + by
    return moved - length if moved >= length else moved + length if moved < 0 else moved


@inlined
def wide(floats, at, apart):  # type: ignore[no-untyped-def]
    """A number of 48 bits that is kept as the sum of two 32-bit floats, `apart` floats from each other."""
    return np.float64(floats[at]) + np.float64(floats[at + apart])


@inlined
def keep_wide(floats, at, apart, value):  # type: ignore[no-untyped-def]
    """Keep it."""
    floats[at] = np.float32(value)
    floats[at + apart] = np.float32(value - np.float64(np.float32(value)))
