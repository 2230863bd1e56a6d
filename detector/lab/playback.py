"""Whole recorded sequences through a model, from an empty state and without alerts: for training, calibration and explaining."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core import block, score
from detector.core.arithmetic import copy
from detector.core.compiled import compiled, entry
from detector.core.compiled_model import ROWS
from detector.core.model import Model
from detector.core.scaler import BANDS
from detector.core.stream_state import HEAD, part

F4 = NDArray[np.float32]


class Playback(NamedTuple):
    """What a model makes of S sequences of T readings of D channels.

    x, expected   f4[S, T, D] scaled readings, and their forecasts
    forecast      f4[S, T, D] the forecasts in engineering units
    residual      f4[S, T, D] x - expected, in units of its usual size
    fed           f4[S, T, D] what the network was fed: x, and a forecast where a value is missing
    features      f4[S, T, F] what the head reads after each reading; [S, T, 0] where that was not asked for
    band_size     f4[S, T, 4 D] usual size of the bands
    weight        f4[S, T, D] of the channels
    """

    x: F4
    expected: F4
    forecast: F4
    residual: F4
    fed: F4
    features: F4
    band_size: F4
    weight: F4


class Player:
    """Plays S sequences of a model side by side, part by part; what measures itself goes on learning."""

    def __init__(self, model: Model, sequences: int) -> None:
        layout = model.layout()
        self._compiled, self._room = model.compiled(layout)
        self._floats = np.tile(layout.new, (sequences, 1))
        self._heads = self._floats.view(np.uint8)[:, : HEAD.itemsize].view(HEAD)[:, 0]

    def play(self, values: F4, *, with_features: bool = False) -> Playback:
        """The next readings of each.

        values   f4[S, T, D] engineering units, NaN where missing
        """
        d, features = values.shape[2], int(self._compiled.model["features"][0]) if with_features else 0
        widths = (d, d, d, d, d, features, BANDS * d, d)
        out = Playback(*(np.empty((*values.shape[:2], width), np.float32) for width in widths))
        _play(self._heads, self._floats, np.ascontiguousarray(values, np.float32), self._compiled, self._room, out)
        return out


def play(model: Model, values: F4, *, with_features: bool = False) -> Playback:
    """Play sequences whole, as `Player.play`."""
    return Player(model, len(values)).play(values, with_features=with_features)


@entry
def _play(heads, floats, values, model, room, out):  # type: ignore[no-untyped-def]
    at, m, b = model.at[0], model.model[0], room.floats
    d = m.channels
    for first in range(0, values.shape[0], ROWS):
        rows = min(ROWS, values.shape[0] - first)
        for t in range(values.shape[1]):
            for r in range(rows):
                room.rows[r] = first + r
                copy(values[first + r, t], part(b, m.value + r * d, d))
            block.advance(heads, floats, room.rows, rows, at, m, model.weights, b, room.doubles)
            for r in range(rows):
                _keep(out, first + r, t, m, r, b, room.doubles)
                score.instantaneous(m, r, model.weights, b)
                block.learn(heads[first + r], floats[first + r], at, m, r, True, b, room.doubles)


@compiled
def _keep(out, i, t, m, r, room, doubles):  # type: ignore[no-untyped-def]
    """Copy what row r of the block shows."""
    d = m.channels
    for k in range(d):
        expected = np.float64(room[m.expected + r * d + k])
        out.forecast[i, t, k] = expected * doubles[m.scale + r * d + k] + doubles[m.location + r * d + k]
    copy(part(room, m.x + r * d, d), out.x[i, t])
    copy(part(room, m.expected + r * d, d), out.expected[i, t])
    copy(part(room, m.residual + r * d, d), out.residual[i, t])
    copy(part(room, m.fed + r * d, d), out.fed[i, t])
    copy(part(room, m.feature + r * m.features, m.features), out.features[i, t])
    copy(part(room, m.band_size + r * BANDS * d, BANDS * d), out.band_size[i, t])
    copy(part(room, m.weight + r * d, d), out.weight[i, t])
