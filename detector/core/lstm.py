"""The LSTM equations, by name, and the compiled step.

    i = sigmoid(W_i [x, h] + b_i)      input gate: how much of the candidate enters
    f = sigmoid(W_f [x, h] + b_f)      forget gate: how much of the old cell state stays
    g = tanh   (W_g [x, h] + b_g)      candidate
    o = sigmoid(W_o [x, h] + b_o)      output gate: how much of the cell state shows
    c' = f * c + i * g                 cell state
    h' = o * tanh(c')                  hidden state

source: Hochreiter and Schmidhuber 1997; the forget gate from Gers, Schmidhuber and Cummins 2000.

`torch.nn.LSTMCell`, `torch.nn.LSTM` over a sequence, `gates` and `advance` agree to 1e-6 per step (tests/core/test_lstm.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.arithmetic import copy, padded, panels_of, product, sigmoid, tanh, whole_lanes
from detector.core.compiled import compiled
from detector.core.compiled_model import Described, of_rows
from detector.core.stream_state import part

F4 = NDArray[np.float32]


class Gates(NamedTuple):
    """One step of one layer, each f4[B, H]. Gates lie in 0..1, candidate and hidden in -1..1."""

    input: F4
    forget: F4
    candidate: F4
    output: F4
    cell: F4
    hidden: F4


def gates(x: F4, h: F4, c: F4, w_x: F4, w_h: F4, b: F4) -> Gates:
    """One step in plain NumPy, for `detector explain` and for comparison.

    x    f4[B, D]           h, c  f4[B, H]
    w_x  f4[4 H, D]         w_h   f4[4 H, H]          b  f4[4 H]; blocks in torch's order i, f, g, o
    """
    i, f, g, o = np.split(x @ w_x.T + h @ w_h.T + b, 4, axis=-1)
    i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
    cell = f * c + i * g
    return Gates(i, f, g, o, cell, o * np.tanh(cell))


def _sigmoid(z: F4) -> F4:
    half: F4 = np.float32(0.5) * (np.tanh(np.float32(0.5) * z) + np.float32(1))
    return half


def describe(weights: Mapping[str, F4], layers: int) -> Described:
    """From weights under torch's names: weight_ih_l0 f4[4 H, D], weight_hh_l0 f4[4 H, H], bias_ih_l0, bias_hh_l0 f4[4 H], ...

    Every layer's panels have K = max(D, H) + H inputs, of a single layer D + H: a layer's own are the first ones, the others have weight 0.
    """
    hidden, inputs = weights["weight_hh_l0"].shape[1], weights["weight_ih_l0"].shape[1]
    width = hidden + (inputs if layers == 1 else max(inputs, hidden))
    panels, biases = [], []
    for layer in range(layers):
        w_x, w_h = weights[f"weight_ih_l{layer}"], weights[f"weight_hh_l{layer}"]
        whole = np.zeros((width, 4 * hidden), np.float32)
        whole[: w_x.shape[1]] = w_x.T
        whole[w_x.shape[1] : w_x.shape[1] + hidden] = w_h.T
        panels.append(panels_of(whole))
        biases.append(padded(weights[f"bias_ih_l{layer}"] + weights[f"bias_hh_l{layer}"]))
    gate_count = whole_lanes(4 * hidden)
    return Described(
        {"hidden": hidden, "layers": layers, "input_count": width, "gate_count": gate_count},
        {"lstm": np.stack(panels), "lstm_bias": np.stack(biases)},
        {"fed": of_rows(inputs), "inputs": of_rows(width), "gates": of_rows(gate_count)},
        {},
    )


@compiled
def advance(floats, chosen, rows, at, m, weights, room):  # type: ignore[no-untyped-def]
    """Advance the memory of a block's streams by what they are fed.

    floats   f4[S, F] all streams' records;  chosen i8[ROWS], of which `rows` count
    """
    width, inputs = m.hidden, m.input_count
    for layer in range(m.layers):
        h_from, c_from = at.hidden + layer * width, at.cell + layer * width
        below = m.channels if layer == 0 else width
        for r in range(rows):
            into, f = part(room, m.inputs + r * inputs, inputs), floats[chosen[r]]
            if layer == 0:
                copy(part(room, m.fed + r * below, below), into[:below])
            else:
                copy(part(f, h_from - width, width), into[:below])
            copy(part(f, h_from, width), into[below : below + width])
        panels, bias = m.lstm + layer * m.gate_count * inputs, m.lstm_bias + layer * m.gate_count
        product((room, m.inputs, inputs), weights, panels, m.gate_count, inputs, bias, rows, (room, m.gates, m.gate_count))
        for r in range(rows):
            f = floats[chosen[r]]
            _gate(part(room, m.gates + r * m.gate_count, m.gate_count), part(f, h_from, width), part(f, c_from, width))


@compiled
def _gate(gates, h, c):  # type: ignore[no-untyped-def]
    """i, f, g, o before their functions [4 H] -> h and c [H], in place."""
    width = h.shape[0]
    i, f, g, o = gates[:width], gates[width : 2 * width], gates[2 * width : 3 * width], gates[3 * width : 4 * width]
    for j in range(width):
        c[j] = sigmoid(f[j]) * c[j] + sigmoid(i[j]) * tanh(g[j])
        h[j] = sigmoid(o[j]) * tanh(c[j])
