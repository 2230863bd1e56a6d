"""The recurrent model: stacked LSTM cells and a linear head.

Two kinds share all code but the order of two lines:

    prediction      expect x_t from h_{t-1} and the value before it, then advance with x_t
    reconstruction  advance with x_t, then give x_t back from h_t, which is too narrow (or, in training, too noisy) to copy it

A network of one channel can be shared by any number of them, each with a memory of its own (`SharedPredictor`).

Values here are scaled (`core.scaling`). A missing value (NaN) never reaches the network: it is fed its own expectation.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from detector.core.cell import cells_of
from detector.core.scaling import SCALED_MAX
from detector.core.states import Column

Kind = Literal["prediction", "reconstruction"]

STEP_ROWS_MAX = 1_024
"""Rows advanced at once. Wider is slower: the gates no longer fit the cache."""

STEP_ROWS_MULTIPLE = 32
HEAD_OUTPUTS_MULTIPLE = 16
"""A step's matrix products are padded to these, and begin at a multiple of 64 bytes (torch's own allocations do, NumPy's do not).
Only then does torch give a row the same bits whatever its neighbours and wherever it stands: seen on Intel for the number of rows,
on an AMD EPYC for the place in memory and for 2 or 3 outputs. `tests/core/test_cut_invariance.py` and `Detector.self_test` check it."""


class Predictor(nn.Module):
    """D channels -> L stacked LSTM cells of H units -> D expected values.

    The head of a prediction also sees the value before the expected one, and starts as persistence (expected = last):
    training can only improve on it.
    """

    _cells: list[nn.LSTMCell]

    def __init__(self, channels: int, hidden: int = 64, layers: int = 1, kind: Kind = "prediction", dropout: float = 0.0) -> None:
        super().__init__()
        self.kind: Kind = kind
        self.channels, self.hidden, self.layers = channels, hidden, layers
        self.lstm = nn.LSTM(channels, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden + (channels if kind == "prediction" else 0), channels)
        # The cells share the LSTM's weights; registered as modules they would be saved and trained twice.
        object.__setattr__(self, "_cells", cells_of(self.lstm))
        if kind == "prediction":
            with torch.no_grad():
                self.head.weight.zero_()
                self.head.bias.zero_()
                self.head.weight[:, hidden:] = torch.eye(channels)

    @property
    def network(self) -> Predictor:
        """What holds the weights."""
        return self

    @property
    def memory(self) -> tuple[int, ...]:
        """Shape of one stream's h, and of its c."""
        return self.layers, self.hidden

    def columns(self) -> dict[str, Column]:
        """What is remembered per stream."""
        return _columns(self.memory, self.channels)

    def read(self, h: Tensor, last: Tensor) -> Tensor:
        """The head: top hidden state [..., H] and last value [..., D] -> expected [..., D]."""
        seen = torch.cat((h, last), dim=-1) if self.kind == "prediction" else h
        padding = -self.channels % HEAD_OUTPUTS_MULTIPLE
        weight, bias = F.pad(self.head.weight, (0, 0, 0, padding)), F.pad(self.head.bias, (0, padding))
        return F.linear(seen, weight, bias)[..., : self.channels]

    def unroll(
        self, x: Tensor, state: tuple[Tensor, Tensor, Tensor] | None = None, noise: Tensor | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Expected values of whole sequences, for training.

        x        [B, T, D] without NaN
        state    h [L, B, H], c [L, B, H], last [B, D] after the sequence's past; None: a new stream
        noise    [B, T, D] added to what the network is fed (never to what it must expect)
        returns  expected [B, T, D], and the state after x
        """
        h, c, last = self.state(len(x), x.device) if state is None else state
        fed = x if noise is None else x + noise
        above, (h_end, c_end) = self.lstm(fed, (h, c))
        if self.kind == "reconstruction":
            expected = self.read(self.dropout(above), last)
        else:
            before = torch.cat((h[-1].unsqueeze(1), above[:, :-1]), dim=1)
            previous = torch.cat((last.unsqueeze(1), fed[:, :-1]), dim=1)
            expected = self.read(self.dropout(before), previous)
        return expected, (h_end, c_end, fed[:, -1])

    def state(self, rows: int, device: torch.device | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The state of new streams: h, c [L, B, H] and last [B, D], zero."""
        h = torch.zeros(self.layers, rows, self.hidden, device=device)
        return h, torch.zeros_like(h), torch.zeros(rows, self.channels, device=device)

    @torch.inference_mode()
    def step(
        self, x: NDArray[np.float32], h: NDArray[np.float32], c: NDArray[np.float32], last: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Judge and advance one step in place; no stream occurs twice in it.

        x        f4[B, D] scaled, NaN where missing; B a multiple of STEP_ROWS_MULTIPLE, or bits depend on neighbours
        h, c     f4[B, L, H], overwritten with the memory after x
        last     f4[B, D], overwritten with what the network was fed
        returns  f4[B, D] expected
        """
        seen, memory_h, memory_c, fed = (torch.from_numpy(array) for array in (x, h, c, last))
        expected = self.read(memory_h[:, -1].clone(), fed.clone())  # before advancing: a look ahead is impossible by shape
        # An expectation fed back for long may run away: within the same bounds as scaled readings the memory stays usable.
        below = torch.where(torch.isnan(seen), expected.clamp(-SCALED_MAX, SCALED_MAX), seen)
        fed.copy_(below)
        for layer, cell in enumerate(self._cells):
            below, cell_state = cell(below, (memory_h[:, layer].clone(), memory_c[:, layer].clone()))
            memory_h[:, layer], memory_c[:, layer] = below, cell_state
        if self.kind == "reconstruction":
            expected = self.read(below, fed.clone())
        result: NDArray[np.float32] = expected.numpy()
        return result


class SharedPredictor:
    """One network of one channel, shared by D channels that know nothing of each other.

    To the network every channel is a row: a step of B streams is one of B D rows, advanced STEP_ROWS_MAX at once.
    """

    def __init__(self, network: Predictor, channels: int) -> None:
        assert network.channels == 1
        self.network, self.channels = network, channels

    @property
    def memory(self) -> tuple[int, ...]:
        """Shape of one stream's h, and of its c."""
        return self.channels, *self.network.memory

    def columns(self) -> dict[str, Column]:
        """What is remembered per stream."""
        return _columns(self.memory, self.channels)

    def eval(self) -> SharedPredictor:
        """For judging: what is random in training rests."""
        self.network.eval()
        return self

    def step(
        self, x: NDArray[np.float32], h: NDArray[np.float32], c: NDArray[np.float32], last: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """As `Predictor.step`; h and c are f4[B, D, L, H]."""
        rows = x.size
        seen, fed = x.reshape(rows, 1), last.reshape(rows, 1)
        memory_h, memory_c = (array.reshape(rows, *self.network.memory) for array in (h, c))
        assert all(np.shares_memory(*pair) for pair in ((fed, last), (memory_h, h), (memory_c, c)))  # overwritten in place
        parts = [slice(start, start + STEP_ROWS_MAX) for start in range(0, rows, STEP_ROWS_MAX)]
        expected = [self.network.step(seen[part], memory_h[part], memory_c[part], fed[part]) for part in parts]
        return np.concatenate(expected).reshape(x.shape)


def _columns(memory: tuple[int, ...], channels: int) -> dict[str, Column]:
    return {"h": Column("f4", memory), "c": Column("f4", memory), "last": Column("f4", (channels,))}
