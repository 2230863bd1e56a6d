"""A memory that needs no training: an LSTM of random weights, and a readout of it in closed form (`lab.ridge`).

The features of the regression are what the head reads (`core.predictor`) of an LSTM whose weights are drawn and stay as they are; its
targets are the changes of the channels at every horizon. Orthogonal recurrent blocks keep a disturbance from growing or dying out within a
few readings, and forget gates whose time constants are spread log-uniformly keep every time scale at hand.

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
from detector.lab.ridge import Moments, horizon_weights, readout
from detector.lab.sequences import burn_in, filled

F4 = NDArray[np.float32]

MEMORY_READINGS_MAX = 200
"""Longest time constant of the forget gates; they are log-uniform from 1."""
CHUNK_READINGS = 4_096


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


def fit_head(predictor: Predictor, xs: Sequence[F4], held_out: Sequence[F4], played: Played = unheard) -> None:
    """Fit the head of a prediction in closed form, each horizon for itself; the LSTM stays as it is.

    The regression is of changes, so that what a ridge shrinks ends at persistence.

    xs, held_out  per sequence f4[T, D] scaled, NaN where missing (counted as the last value seen); the starts are left out
    """
    fit = moments_of_changes(predictor, xs, predictor.horizons, played=played)
    later = moments_of_changes(predictor, held_out, predictor.horizons, filling, played)
    weight = readout(fit, later)
    share = horizon_weights(later.error(weight).reshape(len(predictor.horizons), predictor.channels))
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
