"""Invariant 1: the equations, in every form in which they are used."""

from __future__ import annotations

import pytest
import torch
from detector.core.cell import Gates, cells_of, gates, gates_joined, gates_of
from torch import Tensor, nn
from torch.testing import assert_close


def lstm_of(channels: int = 3, hidden: int = 8, layers: int = 1, seed: int = 0) -> nn.LSTM:
    torch.manual_seed(seed)
    return nn.LSTM(channels, hidden, layers, batch_first=True)


def weights(lstm: nn.LSTM, layer: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    w_x, w_h = getattr(lstm, f"weight_ih_l{layer}"), getattr(lstm, f"weight_hh_l{layer}")
    return w_x, w_h, getattr(lstm, f"bias_ih_l{layer}") + getattr(lstm, f"bias_hh_l{layer}")


@torch.no_grad()
def by_hand(x: Tensor, h: Tensor, c: Tensor, w_x: Tensor, w_h: Tensor, b: Tensor) -> dict[str, Tensor]:
    """The published equations, unit by unit, in float64."""
    size = h.shape[1]
    found = {name: torch.empty(h.shape, dtype=torch.float64) for name in Gates._fields}
    for row in range(len(x)):
        for unit in range(size):
            z = [
                float(w_x[block * size + unit].double() @ x[row].double() + w_h[block * size + unit].double() @ h[row].double())
                + float(b[block * size + unit])
                for block in range(4)
            ]
            i, f, o = (1 / (1 + torch.exp(torch.tensor(-z[block], dtype=torch.float64))) for block in (0, 1, 3))
            g = torch.tanh(torch.tensor(z[2], dtype=torch.float64))
            cell = f * c[row, unit].double() + i * g
            for name, one in zip(Gates._fields, (i, f, g, o, cell, o * torch.tanh(cell)), strict=True):
                found[name][row, unit] = one
    return found


def test_gates_are_the_published_equations() -> None:
    lstm = lstm_of()
    x, h, c = torch.randn(4, 3), torch.randn(4, 8), torch.randn(4, 8)
    expected = by_hand(x, h, c, *weights(lstm))
    for name, gate in gates(x, h, c, *weights(lstm))._asdict().items():
        assert_close(gate.double(), expected[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_all_forms_agree_over_a_sequence(layers: int) -> None:
    """Separate matrices, one joined matrix, LSTMCell, and nn.LSTM over the whole sequence."""
    lstm = lstm_of(layers=layers)
    x = torch.randn(5, 20, 3)
    whole, (h_end, c_end) = lstm(x)
    cells = cells_of(lstm)
    zero = torch.zeros(layers, 5, 8)
    memory = {form: [(zero[k], zero[k]) for k in range(layers)] for form in ("separate", "joined", "cell")}
    for t in range(20):
        below = dict.fromkeys(memory, x[:, t])
        for layer in range(layers):
            w_x, w_h, b = weights(lstm, layer)
            h, c = memory["separate"][layer]
            one = gates(below["separate"], h, c, w_x, w_h, b)
            memory["separate"][layer] = one.hidden, one.cell
            h, c = memory["joined"][layer]
            one = gates_joined(below["joined"], h, c, torch.cat((w_h, w_x), dim=1), b)
            memory["joined"][layer] = one.hidden, one.cell
            memory["cell"][layer] = cells[layer](below["cell"], memory["cell"][layer])
            below = {form: memory[form][layer][0] for form in memory}
        for form in memory:
            assert_close(below[form], whole[:, t], atol=1e-6, rtol=1e-5)
    for layers_at_end in memory.values():
        assert_close(torch.stack([h for h, _ in layers_at_end]), h_end, atol=1e-6, rtol=1e-5)
        assert_close(torch.stack([c for _, c in layers_at_end]), c_end, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("layers", [1, 2])
def test_gates_by_name_are_those_of_every_layer(layers: int) -> None:
    lstm = lstm_of(layers=layers)
    x, h, c = torch.randn(6, 3), torch.randn(layers, 6, 8), torch.randn(layers, 6, 8)
    named = gates_of(lstm, x, h, c)
    out, (h_end, c_end) = lstm(x.unsqueeze(1), (h, c))
    assert len(named) == layers
    assert_close(torch.stack([one.hidden for one in named]), h_end, atol=1e-6, rtol=1e-5)
    assert_close(torch.stack([one.cell for one in named]), c_end, atol=1e-6, rtol=1e-5)
    assert_close(named[-1].hidden, out[:, 0], atol=1e-6, rtol=1e-5)
    for one, before in zip(named, c, strict=True):
        for gate in (one.input, one.forget, one.output):
            assert bool(((gate >= 0) & (gate <= 1)).all())
        assert_close(one.cell, one.forget * before + one.input * one.candidate)


@pytest.mark.parametrize(("block", "name"), [(0, "input"), (1, "forget"), (2, "candidate"), (3, "output")])
def test_each_name_is_its_block_of_the_weights(block: int, name: str) -> None:
    lstm = lstm_of()
    x, h, c = torch.randn(2, 3), torch.randn(1, 2, 8), torch.randn(1, 2, 8)
    before = gates_of(lstm, x, h, c)[0]
    with torch.no_grad():
        dict(lstm.named_parameters())["bias_ih_l0"][8 * block : 8 * block + 8] = 50.0
    after = gates_of(lstm, x, h, c)[0]
    for field in ("input", "forget", "candidate", "output"):
        same = torch.equal(getattr(before, field), getattr(after, field))
        assert same == (field != name)
    assert_close(getattr(after, name), torch.ones(2, 8))


def test_the_cells_share_the_weights_of_the_lstm() -> None:
    lstm = lstm_of(layers=2)
    cells = cells_of(lstm)
    with torch.no_grad():
        dict(lstm.named_parameters())["weight_hh_l1"].fill_(0.25)
        dict(lstm.named_parameters())["bias_ih_l0"].fill_(0.5)
    assert bool((cells[1].weight_hh == 0.25).all())
    assert bool((cells[0].bias_ih == 0.5).all())
