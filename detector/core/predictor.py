"""The recurrent model: stacked LSTM cells and a linear head.

Two kinds share all code but the order of two lines:

    prediction      expect x_t from h_{t-1} and the value before it, then advance with x_t
    reconstruction  advance with x_t, then give x_t back from h_t, which is too narrow (or, in training, too noisy) to copy it

One reading ahead, a memory is soon back on the track of whatever happens: the next reading is much like the last. So a prediction may look
several horizons ahead at once, and a reading is expected as the mean of all that was said of it, just before it and some readings before
that. Each horizon has a share in the mean, per channel: where the far ones know little they say little. What is said of later readings
waits in the stream's state, summed (`ahead`). Measured in docs/evaluation.md.

A prediction of a fleet's model reads more than the memory h and the last value x:

    [h, x, h^2, x_{-1} - x, x_{-2} - x, x_{-4} - x, x_{-8} - x]

Of a memory that nobody trained for it, the squares tell what a sum of its units cannot; and what the last readings did exactly, which a
memory of many time constants has only blurred, a few of them tell at once. Half as many units then do as well.

source of the squares: Lu, Pathak, Hunt, Girvan, Brockett and Ott, "Reservoir observers", 2017; of the readings beside them: Gauthier, Bollt,
Griffith and Barbosa, "Next generation reservoir computing", 2021.

Values here are scaled (`core.scaling`). A missing value (NaN) never reaches the network: it is fed its own expectation.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from detector.core.cell import cells_of
from detector.core.scaling import SCALED_MAX
from detector.core.states import Column

F4 = NDArray[np.float32]
Kind = Literal["prediction", "reconstruction"]

HORIZONS = (1, 5, 10)
"""Readings ahead that a fleet's prediction looks."""
ONE_AHEAD = (1,)
LAGS = (1, 2, 4, 8)
"""Readings before the last one that a fleet's prediction sees. All from 1 to 8 are no better, and up to 16 or 32 it fits what does not last."""

STEP_ROWS_MAX = 1_024
"""Rows advanced at once. Wider is slower: the gates no longer fit the cache."""

STEP_ROWS_MULTIPLE = 32
HEAD_OUTPUTS_MULTIPLE = 16
"""A step's matrix products are padded to these, and begin at a multiple of 64 bytes (torch's own allocations do, NumPy's do not).
Only then does torch give a row the same bits whatever its neighbours and wherever it stands: seen on Intel for the number of rows,
on an AMD EPYC for the place in memory and for 2 or 3 outputs. `tests/core/test_cut_invariance.py` and `Detector.self_test` check it."""


class State(NamedTuple):
    """What is known of sequences after their past: h, c [L, B, H], last [B, D], ahead [B, A, D] with A = last horizon - 1, and before the
    last value, oldest first, past [B, P, D] with P = longest lag, NaN where the sequence had not begun."""

    h: Tensor
    c: Tensor
    last: Tensor
    ahead: Tensor
    past: Tensor


class Predictor(nn.Module):
    """D channels -> L stacked LSTM cells of H units -> D expected values at each of K horizons.

    The head of a prediction also sees the value before the expected one, and starts as persistence (expected = last):
    training can only improve on it.

    horizons  readings ahead, from 1 on, increasing; a reconstruction has but the one
    lags      readings before the last one that the head of a prediction sees, increasing; with any, it also sees the memory's squares
    share     [K, D] of each horizon in what is expected, sum 1 per channel; measured, not trained
    """

    share: Tensor
    _cells: list[nn.LSTMCell]

    def __init__(
        self,
        channels: int,
        hidden: int = 64,
        layers: int = 1,
        kind: Kind = "prediction",
        dropout: float = 0.0,
        horizons: tuple[int, ...] = ONE_AHEAD,
        lags: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        assert horizons[0] == 1
        assert kind == "prediction" or (horizons == ONE_AHEAD and not lags)
        self.kind: Kind = kind
        self.channels, self.hidden, self.layers, self.horizons, self.lags = channels, hidden, layers, horizons, lags
        self.lstm = nn.LSTM(channels, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout = nn.Dropout(dropout)
        read = hidden * (2 if lags else 1) + channels * (len(lags) + 1 if kind == "prediction" else 0)
        self.head = nn.Linear(read, channels * len(horizons))
        self.register_buffer("share", torch.full((len(horizons), channels), 1 / len(horizons)))
        # The cells share the LSTM's weights; registered as modules they would be saved and trained twice.
        object.__setattr__(self, "_cells", cells_of(self.lstm))
        if kind == "prediction":
            with torch.no_grad():
                self.head.weight.zero_()
                self.head.bias.zero_()
                self.head.weight[:, hidden : hidden + channels] = torch.eye(channels).repeat(len(horizons), 1)

    def of_channels(self, channels: int) -> Predictor:
        """The same memory for another number of channels: fed by as many of its inputs, each with its part of the whole, and those again
        from the first one on where there are more. It has no readout: it expects the value before."""
        assert self.kind == "prediction"
        other = Predictor(channels, self.hidden, self.layers)
        weights = dict(self.lstm.state_dict())
        inputs = weights["weight_ih_l0"]
        weights["weight_ih_l0"] = inputs[:, torch.arange(channels) % self.channels] * (self.channels / channels) ** 0.5
        other.lstm.load_state_dict(weights)
        return other.eval()

    def columns(self) -> dict[str, Column]:
        """What is remembered per stream: arguments of `step`."""
        memory = Column("f4", (self.layers, self.hidden))
        ahead = Column("f4", (self.horizons[-1] - 1, self.channels))
        past = Column("f4", (max(self.lags, default=0), self.channels), np.nan)
        return {"h": memory, "c": memory, "last": Column("f4", (self.channels,)), "ahead": ahead, "past": past}

    def seen(self, h: Tensor, last: Tensor, past: Tensor) -> Tensor:
        """What the head reads: top hidden state [..., H], last value [..., D] and those before it [..., P, D], as `State` has them."""
        if self.kind == "reconstruction":
            return h
        if not self.lags:
            return torch.cat((h, last), dim=-1)
        moved = [(past[..., -lag, :] - last).nan_to_num() for lag in self.lags]  # NaN: not begun, so nothing has moved
        return torch.cat((h, last, h * h, *moved), dim=-1)

    def read(self, h: Tensor, last: Tensor, past: Tensor) -> Tensor:
        """The head: what it reads, as in `seen` -> what is to come at each horizon [..., K, D]."""
        seen = self.seen(h, last, past)
        outputs = self.channels * len(self.horizons)
        padding = -outputs % HEAD_OUTPUTS_MULTIPLE
        weight, bias = F.pad(self.head.weight, (0, 0, 0, padding)), F.pad(self.head.bias, (0, padding))
        return F.linear(seen, weight, bias)[..., :outputs].reshape(*seen.shape[:-1], len(self.horizons), self.channels)

    def pasts(self, past: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """What was before each of T values.

        past     [B, P, D] before the first of them
        values   [B, T, D]
        returns  [B, T, P, D], and what is before the next one, [B, P, D]
        """
        length, whole = past.shape[1], torch.cat((past, values), dim=1)
        of_each = [whole[:, start : start + values.shape[1]] for start in range(length)]
        return torch.stack(of_each, dim=2) if of_each else values.unsqueeze(2)[:, :, :0], whole[:, whole.shape[1] - length :]

    def expected(self, said: Tensor, ahead: Tensor) -> tuple[Tensor, Tensor]:
        """What is said at each of T readings -> the mean of all that was said of each. What nobody has said yet counts as 0.
        `step` has the same of one reading, in place.

        said     [B, T, K, D]
        ahead    [B, A, D] what was said before of these readings and later ones, times its shares, summed
        returns  expected [B, T, D], and `ahead` of the readings after them
        """
        readings = said.shape[1]
        total = F.pad(ahead, (0, 0, 0, readings))
        for k, horizon in enumerate(self.horizons):
            total[:, horizon - 1 : horizon - 1 + readings] += said[:, :, k] * self.share[k]
        return total[:, :readings], total[:, readings:]

    def unroll(self, x: Tensor, state: State | None = None, noise: Tensor | None = None) -> tuple[Tensor, State]:
        """Expected values of whole sequences, for training.

        x        [B, T, D] without NaN
        state    after the sequence's past; None: a new stream
        noise    [B, T, D] added to what the network is fed (never to what it must expect)
        returns  expected [B, T, D], and the state after x
        """
        h, c, last, ahead, past = self.state(len(x), x.device) if state is None else state
        fed = x if noise is None else x + noise
        above, (h_end, c_end) = self.lstm(fed, (h, c))
        previous = torch.cat((last.unsqueeze(1), fed[:, :-1]), dim=1)
        pasts, past = self.pasts(past, previous)
        before = torch.cat((h[-1].unsqueeze(1), above[:, :-1]), dim=1) if self.kind == "prediction" else above
        expected, later = self.expected(self.read(self.dropout(before), previous, pasts), ahead)
        return expected, State(h_end, c_end, fed[:, -1], later, past)

    def state(self, rows: int, device: torch.device | None = None) -> State:
        """The state of new streams."""
        h = torch.zeros(self.layers, rows, self.hidden, device=device)
        last, ahead, past = (torch.zeros(rows, *self.columns()[name].shape, device=device) for name in ("last", "ahead", "past"))
        return State(h, torch.zeros_like(h), last, ahead, torch.full_like(past, torch.nan))

    @torch.inference_mode()
    def step(self, x: F4, h: F4, c: F4, last: F4, ahead: F4, past: F4) -> F4:
        """Judge and advance one step in place; no stream occurs twice in it.

        x        f4[B, D] scaled, NaN where missing; B a multiple of STEP_ROWS_MULTIPLE, or bits depend on neighbours
        h, c     f4[B, L, H], overwritten with the memory after x
        last     f4[B, D], overwritten with what the network was fed
        ahead    f4[B, A, D], overwritten with what is said of the readings after x
        past     f4[B, P, D], overwritten with what the network was fed before
        returns  f4[B, D] expected
        """
        seen, memory_h, memory_c, fed = (torch.from_numpy(array) for array in (x, h, c, last))
        before = fed.clone()
        said = self.read(memory_h[:, -1].clone(), before, torch.from_numpy(past))  # before advancing: a look ahead is impossible by shape
        if self.lags:
            past[:, :-1] = past[:, 1:]
            past[:, -1] = last
        # An expectation fed back for long may run away: within the same bounds as scaled readings the memory stays usable.
        below = torch.where(torch.isnan(seen), said[:, 0].clamp(-SCALED_MAX, SCALED_MAX), seen)
        fed.copy_(below)
        for layer, cell in enumerate(self._cells):
            below, cell_state = cell(below, (memory_h[:, layer].clone(), memory_c[:, layer].clone()))
            memory_h[:, layer], memory_c[:, layer] = below, cell_state
        if self.kind == "reconstruction":
            said = self.read(below, before, torch.from_numpy(past))
        told: F4 = (said * self.share).numpy()
        if self.horizons == ONE_AHEAD:
            return told[:, 0]
        expected: F4 = ahead[:, 0] + told[:, 0]
        ahead[:, :-1] = ahead[:, 1:]
        ahead[:, -1:] = 0
        for k, horizon in enumerate(self.horizons[1:], start=1):
            ahead[:, horizon - 2] += told[:, k]
        return expected
