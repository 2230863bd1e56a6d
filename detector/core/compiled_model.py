"""A model and the room for a block of readings, as compiled code reads them: two blocks of floats, and one record that says what lies where.

numba passes an array as seven values and a tuple of arrays as all of theirs, at every call. A record is one pointer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.stream_state import Layout

ROWS = 4
"""Rows of a block: readings of distinct streams that are advanced together."""
HORIZONS_MAX = 8
ALIGNED_FLOATS = 16
"""Arrays begin at a multiple of 64 bytes."""

MODEL = np.dtype(
    [
        *(
            (name, "<i8")
            for name in (
                # sizes
                "channels", "hidden", "layers", "horizon_count", "lag_count", "features", "terms",
                # where arrays begin among the weights
                "lstm", "lstm_bias", "head", "head_bias", "horizon_weight",  # panels [L, P, K, LANES]; [P, F, LANES]; [K, D]
                "band_scale", "band_white", "error_scale", "error_fast", "error_white", "no_bias", "middle", "width",
                # where arrays begin in a block's room, f4[ROWS, ...]
                "value", "moved", "x", "expected", "off", "residual", "fed", "inputs", "gates", "feature", "at_horizons",
                "bands", "fast", "white_bands", "white_fast", "measured", "term", "ridge_at_horizons", "ridge_of_all", "one", "ridge_h", "target",
                "limit", "residual_size", "band_size", "weight", "own_middle", "own_width",
                # the same, f8
                "location", "scale", "outside", "lower", "solved",
                # how many floats a row of these has
                "input_count", "gate_count", "head_count", "white_band_count", "white_fast_count",
            )
        ),
        ("horizons", "<i8", (HORIZONS_MAX,)),
        ("lags", "<i8", (HORIZONS_MAX,)),
        ("level_rate", "<f4"),
        ("band_q99", "<f4"),
        ("error_q99", "<f4"),
        ("range_count", "<f4"),
        ("peak_share", "<f4"),
        ("peak_kept", "<f4"),
        ("is_reconstruction", "u1"),
        ("is_online", "u1"),  # whether streams measure themselves, and learn their forecasts
    ],
    align=True,
)  # fmt: skip
"""Sizes, places and numbers of a model; each part of the core says what its own are."""


class CompiledModel(NamedTuple):
    """A model as the compiled code reads it.

    at        OFFSETS[1] where the parts of a record begin
    model     MODEL[1]
    weights   f4[W] constants, one after the other
    new       f4[F] the record of a new stream
    """

    at: NDArray[Any]
    model: NDArray[Any]
    weights: NDArray[np.float32]
    new: NDArray[np.float32]


class Room(NamedTuple):
    """A block's room: rows i8[ROWS] of the store, f4[B] and f8[C]."""

    rows: NDArray[np.int64]
    floats: NDArray[np.float32]
    doubles: NDArray[np.float64]


class Described(NamedTuple):
    """What a part of the core adds to a model: sizes and numbers; constants; room f4 and f8, whose arrays start as given."""

    numbers: Mapping[str, Any]
    weights: Mapping[str, NDArray[Any]]
    room: Mapping[str, NDArray[Any]]
    room_doubles: Mapping[str, NDArray[Any]]


def compile_model(layout: Layout, parts: list[Described]) -> tuple[CompiledModel, Room]:
    """Put the parts together."""
    model = np.zeros(1, MODEL)
    for described in parts:
        for name, value in described.numbers.items():
            model[name] = value
    weights = _packed(model, [described.weights for described in parts], np.float32)
    floats = _packed(model, [described.room for described in parts], np.float32)
    doubles = _packed(model, [described.room_doubles for described in parts], np.float64)
    return CompiledModel(layout.offsets, model, weights, layout.new), Room(np.zeros(ROWS, np.int64), floats, doubles)


def of_rows(count: int, value: Any = 0, dtype: Any = np.float32) -> NDArray[Any]:
    """Room for so many numbers of each row of a block."""
    return np.ascontiguousarray(np.broadcast_to(np.asarray(value, dtype), (ROWS, count)))


def _packed(model: NDArray[Any], groups: list[Mapping[str, NDArray[Any]]], dtype: Any) -> NDArray[Any]:
    """All arrays one after the other, from a multiple of 64 bytes on; the model says where each begins."""
    arrays = [(name, array) for group in groups for name, array in group.items()]
    end = sum(-(-array.size // ALIGNED_FLOATS) * ALIGNED_FLOATS for _, array in arrays)
    memory = np.zeros(end + ALIGNED_FLOATS, dtype)
    start = (-memory.ctypes.data % 64) // memory.itemsize
    packed, at = memory[start : start + max(end, 1)], 0
    for name, array in arrays:
        packed[at : at + array.size] = array.ravel()
        model[name] = at
        at += -(-array.size // ALIGNED_FLOATS) * ALIGNED_FLOATS
    return packed
