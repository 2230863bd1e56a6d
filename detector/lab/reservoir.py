"""A memory that needs no training: an LSTM of random weights, and a readout of it in closed form.

    u       what the head reads (`core.predictor`), and 1; of an LSTM whose weights are drawn and stay as they are
    y       what is to be expected of u
    W = (G + r tr(G)/F I)^-1 C      G = sum of u u', C = sum of u y', F their width; r chosen per channel on readings that were held out

Orthogonal recurrent blocks keep a disturbance from growing or dying out within a few readings, and forget gates whose time constants are
spread log-uniformly keep every time scale at hand. G and C are sums: readings are played chunk by chunk, however many there are.

source: Jaeger, "The echo state approach", 2001; Tallec and Ollivier, "Can recurrent neural networks warp time?", 2018 (forget gates)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.core.predictor import Predictor
from detector.lab.progress import Played, unheard
from detector.lab.sequences import burn_in, filled

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]

MEMORY_READINGS_MAX = 200
"""Longest time constant of the forget gates; they are log-uniform from 1."""
STRENGTHS = (1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
"""Ridges to choose from, parts of the mean square of what is read. A series without noise wants the smallest."""
CHUNK_READINGS = 4_096
ERROR_MIN = 1e-3
"""Standard deviations of a channel: smaller errors are all equally good."""


def randomise(lstm: nn.LSTM) -> None:
    """Draw all weights anew, from torch's generator: orthogonal recurrent blocks, spread time constants."""
    with torch.no_grad():
        for layer in range(lstm.num_layers):
            recurrent, read = getattr(lstm, f"weight_hh_l{layer}"), getattr(lstm, f"weight_ih_l{layer}")
            for gate in torch.split(recurrent, lstm.hidden_size):
                nn.init.orthogonal_(gate)
            nn.init.normal_(read, std=1 / math.sqrt(read.shape[1]))
    remember_long(lstm)


def remember_long(lstm: nn.LSTM) -> None:
    """Start the forget gates with time constants spread log-uniformly from 1 to MEMORY_READINGS_MAX readings."""
    hidden = lstm.hidden_size
    with torch.no_grad():
        for layer in range(lstm.num_layers):
            constants = torch.exp(torch.rand(hidden) * math.log(MEMORY_READINGS_MAX)) + 1e-3
            bias = getattr(lstm, f"bias_ih_l{layer}")
            getattr(lstm, f"bias_hh_l{layer}").zero_()
            bias.zero_()
            bias[hidden : 2 * hidden] = torch.log(constants)
            bias[:hidden] = -torch.log(constants)


def memories(predictor: Predictor, x: F4) -> Iterator[F4]:
    """Play one sequence from an empty memory: what the head of a prediction reads after each reading, f4[n, F], in chunks.

    x  f4[T, D] scaled, without NaN
    """
    device = next(predictor.parameters()).device
    h, c, _, _, past = predictor.state(1, device)
    for start in range(0, len(x), CHUNK_READINGS):
        chunk = torch.from_numpy(x[start : start + CHUNK_READINGS]).unsqueeze(0).to(device)
        with torch.inference_mode():
            above, (h, c) = predictor.lstm(chunk, (h, c))
            pasts, past = predictor.pasts(past, chunk)
            seen = predictor.seen(above, chunk, pasts)
        yield seen[0].cpu().numpy()


class Moments:
    """The sums that a ridge regression of D channels on F features and a constant needs.

    gram    f8[F + 1, F + 1]      cross  f8[F + 1, D]      square  f8[D] sum of what is expected, squared
    """

    def __init__(self, features: int, channels: int) -> None:
        self.gram, self.cross = np.zeros((features + 1, features + 1)), np.zeros((features + 1, channels))
        self.square, self.count = np.zeros(channels), 0

    def add(self, features: F4, target: F4) -> Moments:
        """Take rows along: features [N, F], target [N, D], without NaN."""
        u = np.concatenate((features, np.ones((len(features), 1))), axis=1, dtype=np.float64)
        y = np.asarray(target, np.float64)
        self.gram += u.T @ u
        self.cross += u.T @ y
        self.square += (y**2).sum(axis=0)
        self.count += len(u)
        return self

    def readout(self, strength: float) -> F8:
        """Weights f8[F + 1, D], the constant last."""
        ridge = strength * max(float(np.trace(self.gram)), 1e-9) / len(self.gram)
        return np.asarray(np.linalg.solve(self.gram + ridge * np.eye(len(self.gram)), self.cross), np.float64)

    def error(self, weight: F8) -> F8:
        """Mean squared error of these weights per channel, f8[D]."""
        total = self.square - 2 * (weight * self.cross).sum(axis=0) + (weight * (self.gram @ weight)).sum(axis=0)
        return np.asarray(total / max(self.count, 1), np.float64)


def readout(fit: Moments, held_out: Moments) -> F8:
    """Weights f8[F + 1, D] of `fit`, each channel with the ridge that errs least on what was held out."""
    tried = [fit.readout(strength) for strength in STRENGTHS]
    best = np.argmin([held_out.error(weight) for weight in tried], axis=0)
    chosen: F8 = np.stack(tried)[best, :, np.arange(len(best))].T
    return chosen


def shares(error: F8) -> F8:
    """Of each horizon in what is expected, [K, D], by its squared error [K, D]: one over it, the best weights if they erred independently."""
    precision = 1 / np.maximum(error, ERROR_MIN**2)
    share: F8 = precision / precision.sum(axis=0)
    return share


def fit_head(predictor: Predictor, xs: Sequence[F4], held_out: Sequence[F4], played: Played = unheard) -> None:
    """Fit the head of a prediction in closed form, each horizon for itself; the LSTM stays as it is.

    The regression is of changes, so that what a ridge shrinks ends at persistence.

    xs, held_out  per sequence f4[T, D] scaled, NaN where missing (counted as the last value seen); the starts are left out
    """
    fit = moments_of_changes(predictor, xs, predictor.horizons, played=played)
    later = moments_of_changes(predictor, held_out, predictor.horizons, filling, played)
    weight = readout(fit, later)
    share = shares(later.error(weight).reshape(len(predictor.horizons), predictor.channels))
    outputs = np.arange(weight.shape[1])
    weight[predictor.hidden + outputs % predictor.channels, outputs] += 1
    with torch.no_grad():
        predictor.head.weight.copy_(torch.from_numpy(weight[:-1].T))
        predictor.head.bias.copy_(torch.from_numpy(weight[-1]))
        predictor.share.copy_(torch.from_numpy(share))


def filling(sequence: F4) -> int:
    """How much of a sequence is left out where a ridge is chosen: until its memory is full, or a quarter of it. Readings from before that
    want a stronger one."""
    return min(MEMORY_READINGS_MAX, len(sequence) // 4)


def moments_of_changes(
    predictor: Predictor,
    xs: Sequence[F4],
    horizons: Sequence[int],
    left_out: Callable[[F4], int] = burn_in,
    played: Played = unheard,
) -> Moments:
    """Of all D channels' changes at every horizon (increasing), K D of them, regressed on what the head reads.

    xs        as in `fit_head`
    left_out  how much of a sequence's start
    """
    moments = Moments(predictor.head.in_features, predictor.channels * len(horizons))
    for sequence in xs:
        x = filled(sequence)
        end, start = len(x) - horizons[-1], left_out(x)
        at = 0
        for rows in memories(predictor, x[: max(end, 0)]):
            now = np.arange(at, at + len(rows))[max(start - at, 0) :]
            moments.add(rows[now - at], np.concatenate([x[now + horizon] - x[now] for horizon in horizons], axis=1))
            at += len(rows)
            played(len(rows))
    return moments
