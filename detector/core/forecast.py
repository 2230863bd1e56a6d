"""From the memory to the forecast of the next reading.

Two kinds of network share all code but the order of two steps:

    prediction      the forecast of x_t is read from the memory before x_t; then the memory advances with x_t
    reconstruction  the memory advances with x_t, which is then read back from it; the memory is too narrow, or in training too noisy, to copy

A prediction looks several horizons ahead at once. The forecast of a reading is the mean of all that was forecast for it, one, five and ten
readings before it, weighted per channel by the horizons' weights (measured in training: one over the squared error of each horizon). What
is forecast for later readings waits in the record, weighted and summed (`pending`). One reading ahead alone, a memory is soon back on the
track of whatever happens, and a fault of time shows for a moment only. Measured in docs/research.md.

The head of a fleet's prediction reads these features:

    [h, x, h^2, x_{-1} - x, x_{-2} - x, x_{-4} - x, x_{-8} - x]

The squares tell what a sum of units cannot; the lagged values tell exactly what a memory of many time constants has blurred.

source of the squares: Lu, Pathak, Hunt, Girvan, Brockett and Ott, "Reservoir observers", 2017; of the lagged values: Gauthier, Bollt,
Griffith and Barbosa, "Next generation reservoir computing", 2021.

All values here are scaled. A missing value (NaN) never reaches the network: it is fed the forecast of it, one reading ahead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detector.core import lstm
from detector.core.arithmetic import copy, padded, panels_of, product, whole_lanes
from detector.core.compiled import compiled
from detector.core.compiled_model import HORIZONS_MAX, Described, of_rows
from detector.core.stream_state import Part, further, part, place_in_ring

F4 = NDArray[np.float32]
Kind = Literal["prediction", "reconstruction"]

HORIZONS = (1, 5, 10)
"""Readings ahead that a prediction looks. Measured in docs/research.md: farther ones, or more of them, add nothing."""
ONE_AHEAD = (1,)
LAGS = (1, 2, 4, 8)
"""Readings before the last one that the head sees. All from 1 to 8 are no better, and up to 16 or 32 it fits what does not last."""
SCALED_MAX = np.float32(20)
"""Scaled values and forecasts are clipped here, standard deviations: farther away a reading is strange enough, and the memory stays usable."""


@dataclass(frozen=True)
class Network:
    """A trained memory and what reads it.

    weights          of the LSTM under torch's names: weight_ih_l0 f4[4 H, D], weight_hh_l0 f4[4 H, H], bias_ih_l0, bias_hh_l0 f4[4 H], ...
    head, head_bias  f4[K D, F] and f4[K D]: features -> forecasts at K horizons
    horizon_weights  f4[K, D], sum 1 per channel
    horizons         readings ahead, increasing from 1; a reconstruction has ONE_AHEAD
    lags             readings before the last one that are features, increasing; with any, the squares of the memory are features too
    """

    kind: Kind
    channels: int
    hidden: int
    layers: int
    horizons: tuple[int, ...]
    lags: tuple[int, ...]
    weights: Mapping[str, F4]
    head: F4
    head_bias: F4
    horizon_weights: F4

    @staticmethod
    def persistent(
        channels: int,
        hidden: int,
        layers: int,
        weights: Mapping[str, F4],
        horizons: tuple[int, ...] = ONE_AHEAD,
        lags: tuple[int, ...] = (),
    ) -> Network:
        """A memory that nothing was fitted to yet: at all horizons the forecast is the value before."""
        count = len(horizons)
        head = np.zeros((count * channels, (2 if lags else 1) * hidden + (1 + len(lags)) * channels), np.float32)
        head[:, hidden : hidden + channels] = np.tile(np.eye(channels, dtype=np.float32), (count, 1))
        bias, shares = np.zeros(count * channels, np.float32), np.full((count, channels), 1 / count, np.float32)
        return Network("prediction", channels, hidden, layers, horizons, lags, weights, head, bias, shares)

    def of_channels(self, channels: int) -> Network:
        """The same memory for another number of channels: fed by as many of its inputs, each with its part of the whole, and those again
        from the first one on where there are more. Its forecast is the value before."""
        inputs = self.weights["weight_ih_l0"]
        fewer = inputs[:, np.arange(channels) % self.channels] * np.float32((self.channels / channels) ** 0.5)
        return Network.persistent(channels, self.hidden, self.layers, {**self.weights, "weight_ih_l0": fewer})

    @property
    def parts(self) -> list[Part]:
        """What is remembered of a stream. A new stream's forecasts are those of an empty memory, whose features are all 0."""
        memory, d = (self.layers, self.hidden), self.channels
        pending = np.zeros((self.horizons[-1], d), np.float32)
        for k, horizon in enumerate(self.horizons):
            pending[horizon - 1] = self.horizon_weights[k] * self.head_bias[k * d : (k + 1) * d]
        return [
            ("hidden", memory, 0),
            ("cell", memory, 0),
            ("fed", (d,), 0),
            ("next", (d,), self.head_bias[:d]),
            ("pending", pending.shape, pending),
            ("lags", (max(self.lags, default=0), d), np.nan),
        ]

    def describe(self) -> list[Described]:
        """What the compiled code reads."""
        d, count = self.channels, whole_lanes(len(self.head_bias))
        features = self.head.shape[1]
        numbers = {
            "channels": d, "horizon_count": len(self.horizons), "lag_count": len(self.lags), "features": features, "head_count": count,
            "horizons": np.resize(self.horizons, HORIZONS_MAX), "lags": np.resize(self.lags or (1,), HORIZONS_MAX),
            "is_reconstruction": self.kind == "reconstruction",
        }  # fmt: skip
        weights = {"head": panels_of(self.head.T), "head_bias": padded(self.head_bias), "horizon_weight": self.horizon_weights}
        room = {name: of_rows(d) for name in ("value", "x", "expected", "off", "residual")}
        room |= {"feature": of_rows(features), "at_horizons": of_rows(count)}
        return [lstm.describe(self.weights, self.layers), Described(numbers, weights, room, {})]


@compiled
def take_forecast(s, f, at, m, expected):  # type: ignore[no-untyped-def]
    """The forecast [D] of the reading that comes next; its place in the ring is free for a later one.

    s, f   head and floats of the stream's record
    """
    slot = at.pending + place_in_ring(s.readings, m.horizons[m.horizon_count - 1]) * m.channels
    for k in range(m.channels):
        expected[k] = f[slot + k]
        f[slot + k] = 0


@compiled
def feed(f, at, x, fed):  # type: ignore[no-untyped-def]
    """What the network is fed [D]: x [D], and the forecast one reading ahead where a value is missing.

    Fed back for long, a forecast may run away: it is kept within the bounds of scaled readings.
    """
    for k in range(x.shape[0]):
        fed[k] = min(max(f[at.next + k], -SCALED_MAX), SCALED_MAX) if np.isnan(x[k]) else x[k]


@compiled
def write_features(s, f, at, m, fed, features):  # type: ignore[no-untyped-def]
    """The features [F] of a stream after it was fed `fed` [D], which becomes its last value; the one before becomes a lag."""
    d, hidden = m.channels, m.hidden
    memory = part(f, at.cell - hidden, hidden)  # h of the last layer
    copy(memory, features[:hidden])
    if not m.is_reconstruction:
        copy(fed, features[hidden : hidden + d])
    if m.lag_count > 0:
        squares = part(features, hidden + d, hidden)
        for j in range(hidden):
            squares[j] = memory[j] * memory[j]
        length = m.lags[m.lag_count - 1]
        newest = place_in_ring(s.readings, length)
        copy(part(f, at.fed, d), part(f, at.lags + newest * d, d))
        into = 2 * hidden + d
        for q in range(m.lag_count):
            slot = at.lags + further(newest, 1 - m.lags[q], length) * d
            for k in range(d):
                before = f[slot + k]
                features[into + k] = np.float32(0) if np.isnan(before) else before - fed[k]  # NaN: not begun, so nothing has moved
            into += d
    copy(fed, part(f, at.fed, d))


@compiled
def read(rows, m, weights, room):  # type: ignore[no-untyped-def]
    """The head: features of a block -> forecasts at all horizons."""
    of, into = (room, m.feature, m.features), (room, m.at_horizons, m.head_count)
    product(of, weights, m.head, m.head_count, m.features, m.head_bias, rows, into)


@compiled
def keep_forecasts(s, f, at, m, weights, at_horizons):  # type: ignore[no-untyped-def]
    """Keep what the head says [K D] of the readings to come: the next one as it is, and each horizon's part of its reading in the ring."""
    d, length = m.channels, m.horizons[m.horizon_count - 1]
    now = place_in_ring(s.readings, length)
    copy(at_horizons[:d], part(f, at.next, d))
    for q in range(m.horizon_count):
        slot = at.pending + further(now, m.horizons[q], length) * d
        for k in range(d):
            f[slot + k] += weights[m.horizon_weight + q * d + k] * at_horizons[q * d + k]
