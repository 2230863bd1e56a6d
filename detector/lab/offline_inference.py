"""Offline inference: residuals and scores of recorded sequences, as the service would compute them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detector.core.alarm import Prior
from detector.core.compiled_model import ROWS
from detector.core.forecast import ONE_AHEAD, Network
from detector.core.model import Model
from detector.core.scaler import BANDS, TERMS, Scaling
from detector.core.score import Score
from detector.lab.playback import Playback, Player
from detector.lab.scoring import scored
from detector.lab.sequences import burn_in

F4 = NDArray[np.float32]
CHUNK_READINGS = 4_096
"""Readings of a sequence that are played at once: bounds the memory that its features take."""

_ONE, _OF_EACH = np.ones(1, np.float32), np.ones((BANDS, 1), np.float32)
UNMEASURED = Score(
    weight=_ONE, level_rate=0 * _ONE, band_scale=_OF_EACH, band_white=np.eye(BANDS, dtype=np.float32), band_q99=_ONE, error_scale=_ONE,
    error_fast=_ONE, error_white=_ONE[None], error_q99=_ONE, low=np.inf * _ONE, high=-np.inf * _ONE, count=0 * _ONE,
    middle=np.zeros(TERMS, np.float32), width=np.ones(TERMS, np.float32), peak_share=0 * _ONE, peak_kept=_ONE,
)  # fmt: skip
"""The score of one channel before there is one: a model has to have a score to be played."""


def bare_model(network: Network) -> Model:
    """A model of scaled readings, good for nothing but forecasts."""
    d = network.channels
    scaling = Scaling(np.zeros(d, np.float32), np.ones(d, np.float32))
    return Model("", "", ("",) * d, network, scaling, UNMEASURED.tiled(d), Prior(0.0, 0.0))


def played_parts(network: Network, xs: Sequence[F4], *, with_features: bool = False) -> Iterator[tuple[int, int, Playback]]:
    """Play sequences from empty memories, ROWS of about one length side by side, CHUNK_READINGS at a time.

    xs      per sequence f4[T, D] scaled, NaN where missing
    yields  which sequence, from which reading on, and what came of that part of it: arrays [n, ...]
    """
    model, by_length = bare_model(network), sorted(range(len(xs)), key=lambda k: -len(xs[k]))
    for first in range(0, len(xs), ROWS):
        together = by_length[first : first + ROWS]
        player = Player(model, len(together))
        for start in range(0, len(xs[together[0]]), CHUNK_READINGS):
            parts = [xs[k][start : start + CHUNK_READINGS] for k in together]
            values = np.full((len(parts), len(parts[0]), network.channels), np.nan, np.float32)
            for row, part in enumerate(parts):
                values[row, : len(part)] = part
            found = player.play(values, with_features=with_features)
            for row, (k, part) in enumerate(zip(together, parts, strict=True)):
                if len(part):
                    yield k, start, Playback(*(array[row, : len(part)] for array in found))


def residuals(network: Network, xs: Sequence[F4]) -> list[F4]:
    """Residuals per sequence f4[T, D], scaled, NaN where missing; what is missing is fed its own forecast."""
    es = [np.empty_like(x) for x in xs]
    for k, start, part in played_parts(network, xs):
        es[k][start : start + len(part.x)] = xs[k][start : start + len(part.x)] - part.expected
    return es


def one_ahead(network: Network) -> Network:
    """The same network, forecasting no further than the next reading, as the baselines do: to be compared with them."""
    d = network.channels
    ones = np.ones((1, d), np.float32)
    return replace(network, horizons=ONE_AHEAD, head=network.head[:d], head_bias=network.head_bias[:d], horizon_weights=ones)


def score_all(score: Score, values: Sequence[F4], xs: Sequence[F4], es: Sequence[F4]) -> F4:
    """Instantaneous scores of whole sequences, without each sequence's start."""
    each = [scored(score, value, x, e)[0] for value, x, e in zip(values, xs, es, strict=True)]
    return np.concatenate([scores[burn_in(scores) :] for scores in each])
