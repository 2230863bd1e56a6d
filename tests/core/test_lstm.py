"""Invariant 1: the LSTM's equations, in every form in which they are used."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from torch import nn

from detector.core import lstm
from detector.core.arithmetic import copy
from detector.core.compiled import entry
from detector.core.compiled_model import ROWS, compile_model
from detector.core.forecast import Network
from detector.core.lstm import Gates, gates
from detector.core.stream_state import layout_of, part

F4 = NDArray[np.float32]


@entry
def advance(floats, fed, rows, at_of, model_of, weights, room):  # type: ignore[no-untyped-def]
    """One step of `rows` streams, fed f4[ROWS, D]."""
    m = model_of[0]
    for r in range(rows):
        room.rows[r] = r
        copy(fed[r], part(room.floats, m.fed + r * m.channels, m.channels))
    lstm.advance(floats, room.rows, rows, at_of[0], m, weights, room.floats)


class Compiled:
    """The compiled memory of ROWS streams."""

    def __init__(self, weights: dict[str, F4], channels: int, hidden: int, layers: int) -> None:
        network = Network.persistent(channels, hidden, layers, weights)
        self.layout = layout_of(network.parts, {})
        self.model, self.room = compile_model(self.layout, network.describe())
        self.floats = np.tile(self.layout.new, (ROWS, 1))

    def step(self, x: F4) -> None:
        """x f4[B, D] of the first B streams"""
        advance(self.floats, x, len(x), self.model.at, self.model.model, self.model.weights, self.room)

    def part(self, name: str) -> F4:
        """h or c, f4[L, ROWS, H]; a view."""
        layers, hidden = self.layout.shapes[name]
        start = int(self.layout.offsets[name][0])
        return self.floats[:, start : start + layers * hidden].reshape(ROWS, layers, hidden).transpose(1, 0, 2)


def lstm_of(channels: int, hidden: int, layers: int = 1) -> tuple[nn.LSTM, dict[str, F4]]:
    torch.manual_seed(0)
    module = nn.LSTM(channels, hidden, layers, batch_first=True)
    return module, {name: weight.numpy().copy() for name, weight in module.state_dict().items()}


def cell_of(weights: dict[str, F4], layer: int) -> nn.LSTMCell:
    w_x, w_h = weights[f"weight_ih_l{layer}"], weights[f"weight_hh_l{layer}"]
    cell = nn.LSTMCell(w_x.shape[1], w_h.shape[1])
    cell.load_state_dict({name: torch.from_numpy(weights[f"{name}_l{layer}"]) for name in cell.state_dict()})
    return cell


def joined(weights: dict[str, F4], layer: int) -> tuple[F4, F4, F4]:
    """What `gates` takes: w_x, w_h, b."""
    w_x, w_h, b_x, b_h = (weights[f"{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    return w_x, w_h, b_x + b_h


def by_hand(x: F4, h: F4, c: F4, w_x: F4, w_h: F4, b: F4) -> dict[str, NDArray[np.float64]]:
    """The published equations, unit by unit, in 64 bits."""
    size = h.shape[1]
    found = {name: np.empty(h.shape) for name in Gates._fields}
    for row in range(len(x)):
        for unit in range(size):
            z = [
                w_x[block * size + unit].astype(float) @ x[row] + w_h[block * size + unit].astype(float) @ h[row] + b[block * size + unit]
                for block in range(4)
            ]
            i, f, o = (1 / (1 + np.exp(-z[block])) for block in (0, 1, 3))
            g = np.tanh(z[2])
            cell = f * c[row, unit] + i * g
            for name, one in zip(Gates._fields, (i, f, g, o, cell, o * np.tanh(cell)), strict=True):
                found[name][row, unit] = one
    return found


def drawn(*shape: int, seed: int = 1, size: float = 1.0) -> F4:
    return np.float32(size) * np.random.default_rng(seed).standard_normal(shape, np.float32)


def test_gates_are_the_published_equations() -> None:
    x, h, c, weights = drawn(4, 3), drawn(4, 8), drawn(4, 8, seed=2), joined(lstm_of(3, 8)[1], 0)
    expected = by_hand(x, h, c, *weights)
    for name, gate in gates(x, h, c, *weights)._asdict().items():
        assert_allclose(gate, expected[name], atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("channels", "hidden", "layers"), [(1, 5, 1), (3, 8, 1), (4, 64, 1), (38, 33, 1), (3, 20, 2), (24, 16, 3)])
@pytest.mark.parametrize("rows", [1, ROWS])
@torch.no_grad()
def test_all_forms_agree_step_by_step_and_over_a_sequence(channels: int, hidden: int, layers: int, rows: int) -> None:
    """The compiled step, the equations in NumPy, LSTMCell, and LSTM over the whole sequence; large values, and small ones."""
    module, weights = lstm_of(channels, hidden, layers)
    cells = [cell_of(weights, layer) for layer in range(layers)]
    x = drawn(rows, 30, channels) * np.geomspace(0.01, 20, 30, dtype=np.float32)[None, :, None]
    whole, (h_end, c_end) = module(torch.from_numpy(x))
    compiled = Compiled(weights, channels, hidden, layers)
    for t in range(x.shape[1]):
        h, c = compiled.part("hidden")[:, :rows].copy(), compiled.part("cell")[:, :rows].copy()
        compiled.step(np.ascontiguousarray(x[:, t]))
        below: F4 = x[:, t]
        for layer in range(layers):
            of_numpy = gates(below, h[layer], c[layer], *joined(weights, layer))
            of_torch = cells[layer](torch.from_numpy(below), (torch.from_numpy(h[layer]), torch.from_numpy(c[layer])))
            for k, name in enumerate(("hidden", "cell")):
                of_core = compiled.part(name)[layer, :rows]
                assert_allclose(of_core, of_torch[k].numpy(), atol=1e-6, rtol=1e-6)
                # NumPy's BLAS sums in an order of its own, another on each kind of processor.
                assert_allclose(getattr(of_numpy, name), of_torch[k].numpy(), atol=4e-6, rtol=1e-6)
            below = compiled.part("hidden")[layer, :rows].copy()
        assert_allclose(below, whole[:, t].numpy(), atol=2e-6)
    assert_allclose(compiled.part("hidden")[:, :rows], h_end.numpy(), atol=2e-6)
    assert_allclose(compiled.part("cell")[:, :rows], c_end.numpy(), atol=4e-6, rtol=1e-6)


@pytest.mark.parametrize(("block", "name"), [(0, "input"), (1, "forget"), (2, "candidate"), (3, "output")])
def test_each_name_is_its_block_of_the_weights(block: int, name: str) -> None:
    x, h, c, (w_x, w_h, b) = drawn(2, 3), drawn(2, 8), drawn(2, 8, seed=2), joined(lstm_of(3, 8)[1], 0)
    before = gates(x, h, c, w_x, w_h, b)
    b[8 * block : 8 * block + 8] = 50.0
    after = gates(x, h, c, w_x, w_h, b)
    for field in ("input", "forget", "candidate", "output"):
        assert np.array_equal(getattr(before, field), getattr(after, field)) == (field != name)
    assert_allclose(getattr(after, name), 1.0)


def test_rows_that_do_not_count_stay_as_they_are() -> None:
    compiled = Compiled(lstm_of(3, 8, 2)[1], 3, 8, 2)
    compiled.step(drawn(ROWS, 3))
    before = compiled.floats[2:].tobytes()
    compiled.step(drawn(2, 3))
    assert compiled.floats[2:].tobytes() == before
