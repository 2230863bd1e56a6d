"""A memory that needs no training: an LSTM of random weights, and a head fitted to it in closed form (`lab.ridge`).

The features of the regression are what the head reads (`core.forecast`) of an LSTM whose weights are drawn and stay as they are. Its targets
are the changes of the channels at every horizon, so that what a ridge shrinks ends at persistence. Orthogonal recurrent blocks keep a
disturbance from growing or dying out within a few readings. Forget gates whose time constants are spread log-uniformly keep every time
scale at hand.

source: Jaeger, "The echo state approach", 2001; Tallec and Ollivier, "Can recurrent neural networks warp time?", 2018 (forget gates)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detector.core.forecast import HORIZONS, LAGS, Network
from detector.lab.offline_inference import played_parts
from detector.lab.progress import Played, unheard
from detector.lab.ridge import ERROR_MIN, Moments, horizon_weights, readout
from detector.lab.sequences import burn_in, filled

F4 = NDArray[np.float32]

MEMORY_READINGS_MAX = 200
"""Longest time constant of the forget gates, readings; they are log-uniform from 1."""
GATES = 4


def random_memory(channels: int, hidden: int, layers: int, seed: int) -> Network:
    """A fleet's prediction of random weights, whose head is not fitted yet."""
    weights = draw(channels, hidden, layers, np.random.default_rng(seed))
    return Network.persistent(channels, hidden, layers, weights, HORIZONS, LAGS)


def draw(channels: int, hidden: int, layers: int, rng: np.random.Generator) -> dict[str, F4]:
    """Weights of an LSTM under torch's names, as `Network` has them: orthogonal recurrent blocks, spread time constants."""
    weights: dict[str, F4] = {}
    for layer in range(layers):
        inputs = channels if layer == 0 else hidden
        read = rng.standard_normal((GATES * hidden, inputs)) / math.sqrt(inputs)
        weights[f"weight_ih_l{layer}"] = read.astype(np.float32)
        weights[f"weight_hh_l{layer}"] = np.concatenate([_orthogonal(hidden, rng) for _ in range(GATES)])
        weights |= long_memory(layer, hidden, rng)
    return weights


def _orthogonal(size: int, rng: np.random.Generator) -> F4:
    """Uniform among the orthogonal matrices, f4[size, size]. source: Mezzadri, "How to generate random matrices", 2007"""
    q, r = np.linalg.qr(rng.standard_normal((size, size)))
    signed: F4 = (q * np.sign(np.diag(r))).astype(np.float32)
    return signed


def long_memory(layer: int, hidden: int, rng: np.random.Generator) -> dict[str, F4]:
    """Biases of a layer whose forget gates have time constants from 1 to MEMORY_READINGS_MAX readings, log-uniform."""
    log_constants = rng.uniform(0, math.log(MEMORY_READINGS_MAX), hidden)
    bias = np.zeros(GATES * hidden, np.float32)
    bias[:hidden], bias[hidden : 2 * hidden] = -log_constants, log_constants
    return {f"bias_ih_l{layer}": bias, f"bias_hh_l{layer}": np.zeros_like(bias)}


def fit_head(network: Network, xs: Sequence[F4], held_out: Sequence[F4], played: Played = unheard) -> tuple[Network, tuple[float, float]]:
    """Fit the head of a prediction in closed form, each horizon for itself; the LSTM stays as it is.

    xs, held_out  per sequence f4[T, D] scaled, NaN where missing (counted as the last value seen); the starts are left out
    returns       the network with its head, and its errors on both as `errors` has them
    """
    fit = moments_of_changes(network, xs, network.horizons, played=played)
    later = moments_of_changes(network, held_out, network.horizons, filling, played)
    weight = readout(fit, later)
    losses = relative_error(fit, weight), relative_error(later, weight)
    shares = horizon_weights(later.error(weight).reshape(len(network.horizons), network.channels))
    outputs = np.arange(weight.shape[1])
    weight[network.hidden + outputs % network.channels, outputs] += 1
    head, bias = np.ascontiguousarray(weight[:-1].T, np.float32), weight[-1].astype(np.float32)
    return replace(network, head=head, head_bias=bias, horizon_weights=shares.astype(np.float32)), losses


def errors(
    network: Network, xs: Sequence[F4], held_out: Sequence[F4], horizons: Sequence[int], played: Played = unheard
) -> tuple[float, float]:
    """Errors of the closed-form heads of `xs` on themselves and on what is held out, relative to persistence: geometric means over channels
    and horizons, 1 is no better."""
    fit, later = (moments_of_changes(network, part, horizons, played=played) for part in (xs, held_out))
    weight = readout(fit, later)
    return relative_error(fit, weight), relative_error(later, weight)


def relative_error(moments: Moments, weight: NDArray[np.float64]) -> float:
    """The error of a head f8[F + 1, K D], relative to persistence's."""
    floor = ERROR_MIN**2
    persistence = moments.square / max(moments.count, 1)
    return math.exp(0.5 * float(np.mean(np.log((np.maximum(moments.error(weight), 0) + floor) / (persistence + floor)))))


def filling(sequence: F4) -> int:
    """How much of a sequence is left out where a ridge is chosen: until its memory is full, or a quarter of it. Readings from before that
    want a stronger one."""
    return min(MEMORY_READINGS_MAX, len(sequence) // 4)


def moments_of_changes(
    network: Network,
    xs: Sequence[F4],
    horizons: Sequence[int],
    left_out: Callable[[F4], int] = burn_in,
    played: Played = unheard,
) -> Moments:
    """Of all D channels' changes at every horizon (increasing), K D of them, regressed on what the head reads.

    xs        as in `fit_head`
    left_out  how much of a sequence's start
    """
    moments = Moments(network.head.shape[1], network.channels * len(horizons))
    whole = [filled(sequence) for sequence in xs]
    for k, start, part in played_parts(network, whole, with_features=True):
        x, readings = whole[k], len(part.features)
        now = np.arange(max(start, left_out(x)), min(start + readings, len(x) - horizons[-1]))
        moments.add(part.features[now - start], np.concatenate([x[now + horizon] - x[now] for horizon in horizons], axis=1))
        played(readings)
    return moments
