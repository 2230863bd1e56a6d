"""A score fitted to residuals of persistence, and one stream that it follows reading by reading."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core import scaler
from detector.core import score as scores
from detector.core.arithmetic import copy
from detector.core.compiled import entry
from detector.core.compiled_model import Described, compile_model, of_rows
from detector.core.scaler import Scaling
from detector.core.score import Score
from detector.core.stream_state import part
from detector.lab.calibration import calibrate
from detector.lab.scoring import scored
from tests.core.builders import Records

F4 = NDArray[np.float32]


def fitted(values: list[F4]) -> tuple[Scaling, Score]:
    """Scaling and score of normal values, each f4[T, D]."""
    scaling = Scaling.fit(np.concatenate(values))
    xs = [scaling.scaled(value) for value in values]
    return scaling, calibrate(values, xs, [persistence(x) for x in xs], [0] * len(xs))


def persistence(x: F4) -> F4:
    """Residuals against the last value that was there."""
    last, e = np.zeros(x.shape[1], np.float32), np.empty_like(x)
    for t in range(len(x)):
        e[t] = x[t] - last
        last = np.where(np.isnan(x[t]), last, x[t])
    return e


def scores_of(scaling: Scaling, score: Score, value: F4) -> F4:
    """Instantaneous ones of one stream, from its first reading on."""
    x = scaling.scaled(value)
    return scored(score, value, x, persistence(x))[0]


class Followed:
    """One stream: its record, and what each of its readings is worth."""

    def __init__(self, score: Score) -> None:
        d = score.channels
        self.record = Records(score.parts)
        sizes = Described({"channels": d}, {}, {name: of_rows(d) for name in ("value", "x", "residual")}, {})
        self._model, self._room = compile_model(self.record.layout, [sizes, score.describe(), scaler.describe(None, score.weight)])

    def see(self, value: F4, x: F4, e: F4) -> tuple[F4, F4]:
        """Instantaneous scores of further readings, f4[T], and the shares of their channels, f4[T, D]."""
        values = np.ascontiguousarray(np.concatenate((value, x, e), axis=1, dtype=np.float32))
        out: Any = np.empty(len(value), np.float32), np.empty(value.shape, np.float32)
        _see(self.record.heads, self.record.floats[0], values, self._model, self._room, *out)
        found: tuple[F4, F4] = out
        return found


@entry
def _see(heads, floats, values, model, room, instantaneous, shares):  # type: ignore[no-untyped-def]
    s, at, m, b = heads[0], model.at[0], model.model[0], room.floats
    d = m.channels
    for t in range(values.shape[0]):
        copy(values[t, :d], part(b, m.value, d))
        copy(values[t, d : 2 * d], part(b, m.x, d))
        copy(values[t, 2 * d :], part(b, m.residual, d))
        scores.follow(s, floats, at, m, 0, model.weights, b, room.doubles)
        scores.whiten(1, m, model.weights, b)
        scores.measure(s, m, 0, b)
        instantaneous[t] = scores.instantaneous(m, 0, model.weights, b)
        scores.share_out(s, m, 0, model.weights, b, room.doubles, shares[t])
