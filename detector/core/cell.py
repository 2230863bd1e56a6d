"""The LSTM equations, by name.

    i = sigmoid(W_i [h, x] + b_i)      input gate: how much of the candidate enters
    f = sigmoid(W_f [h, x] + b_f)      forget gate: how much of the old cell state stays
    g = tanh   (W_g [h, x] + b_g)      candidate
    o = sigmoid(W_o [h, x] + b_o)      output gate: how much of the cell state shows
    c' = f * c + i * g                 cell state
    h' = o * tanh(c')                  hidden state

source: Hochreiter and Schmidhuber 1997; the forget gate from Gers, Schmidhuber and Cummins 2000.

The forms agree: one matrix over [h, x]; separate W_x and W_h; `torch.nn.LSTMCell` step by step; `torch.nn.LSTM` over a
sequence. The service runs LSTMCell, training runs LSTM, `detector explain` reads the gates here.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Gates(NamedTuple):
    """One step of one layer, each [B, H]. Gates lie in 0..1, candidate and hidden in -1..1."""

    input: Tensor
    forget: Tensor
    candidate: Tensor
    output: Tensor
    cell: Tensor
    hidden: Tensor


def gates(x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> Gates:
    """One step with separate matrices for the input and the hidden state.

    x    [B, D]           h, c  [B, H]
    w_x  [4 H, D]         w_h   [4 H, H]          b  [4 H]; blocks in torch's order i, f, g, o
    """
    return _gates(x @ w_x.T + h @ w_h.T + b, c)


def gates_joined(x: Tensor, h: Tensor, c: Tensor, w: Tensor, b: Tensor) -> Gates:
    """The same with one matrix over [h, x].

    w  [4 H, H + D]
    """
    return _gates(torch.cat((h, x), dim=-1) @ w.T + b, c)


def _gates(z: Tensor, c: Tensor) -> Gates:
    i, f, g, o = z.chunk(4, dim=-1)
    i, f, g, o = torch.sigmoid(i), torch.sigmoid(f), torch.tanh(g), torch.sigmoid(o)
    cell = f * c + i * g
    return Gates(i, f, g, o, cell, o * torch.tanh(cell))


def cells_of(lstm: nn.LSTM) -> list[nn.LSTMCell]:
    """The layers of `lstm` as cells that share its weights: what was trained over sequences then runs step by step."""
    cells = []
    for layer in range(lstm.num_layers):
        cell = nn.LSTMCell(lstm.input_size if layer == 0 else lstm.hidden_size, lstm.hidden_size)
        cell.weight_ih = getattr(lstm, f"weight_ih_l{layer}")
        cell.weight_hh = getattr(lstm, f"weight_hh_l{layer}")
        cell.bias_ih = getattr(lstm, f"bias_ih_l{layer}")
        cell.bias_hh = getattr(lstm, f"bias_hh_l{layer}")
        cells.append(cell)
    return cells


def gates_of(lstm: nn.LSTM, x: Tensor, h: Tensor, c: Tensor) -> list[Gates]:
    """One step through all layers, gates by name.

    x [B, D], h and c [L, B, H]; returns one Gates per layer, the last one's `hidden` is the memory that the head reads
    """
    layers = []
    for layer in range(lstm.num_layers):
        w_x, w_h = getattr(lstm, f"weight_ih_l{layer}"), getattr(lstm, f"weight_hh_l{layer}")
        b = getattr(lstm, f"bias_ih_l{layer}") + getattr(lstm, f"bias_hh_l{layer}")
        layers.append(gates(x, h[layer], c[layer], w_x, w_h, b))
        x = layers[-1].hidden
    return layers
