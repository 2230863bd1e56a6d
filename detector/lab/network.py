"""The network in torch, for training: `core.forecast.Network` with gradients.

Over whole sequences it computes what the core computes step by step (tests/lab/test_network.py). Missing values are not for it: whoever
trains fills them in.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from detector.core.forecast import Network


class State(NamedTuple):
    """What is known of B sequences after their past.

    h, c     [L, B, H]
    fed      [B, D] the last value
    pending  [B, P, D] weighted forecasts of the next P readings, summed; P is one less than the longest horizon
    past     [B, Q, D] the values before the last one, oldest first, NaN where the sequence had not begun; Q is the longest lag
    """

    h: Tensor
    c: Tensor
    fed: Tensor
    pending: Tensor
    past: Tensor


class Predictor(nn.Module):
    """A network that can be trained. Shapes are those of `Network`.

    network  what it starts with
    dropout  share of units left out while training: between layers, and of what the head reads
    """

    horizon_weights: Tensor

    def __init__(self, network: Network, dropout: float = 0.0) -> None:
        super().__init__()
        self._start = network
        self.kind, self.channels, self.horizons, self.lags = network.kind, network.channels, network.horizons, network.lags
        between = dropout if network.layers > 1 else 0.0
        self.lstm = nn.LSTM(network.channels, network.hidden, network.layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(network.head.shape[1], network.head.shape[0])
        self.register_buffer("horizon_weights", torch.empty(network.horizon_weights.shape))
        arrays = {f"lstm.{name}": array for name, array in network.weights.items()}
        arrays |= {"head.weight": network.head, "head.bias": network.head_bias, "horizon_weights": network.horizon_weights}
        self.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})

    def network(self) -> Network:
        """What the core judges with, as trained until now."""
        arrays = {name: value.detach().cpu().numpy().copy() for name, value in self.state_dict().items()}
        start, weights = self._start, {name.removeprefix("lstm."): value for name, value in arrays.items() if name.startswith("lstm.")}
        sizes = (start.kind, start.channels, start.hidden, start.layers, start.horizons, start.lags)
        return Network(*sizes, weights, arrays["head.weight"], arrays["head.bias"], arrays["horizon_weights"])

    def features(self, h: Tensor, value: Tensor, past: Tensor) -> Tensor:
        """What the head reads: top hidden state [..., H], last value [..., D] and those before it [..., Q, D], as `State` has them."""
        if self.kind == "reconstruction":
            return h
        if not self.lags:
            return torch.cat((h, value), dim=-1)
        moved = [(past[..., -lag, :] - value).nan_to_num() for lag in self.lags]  # NaN: not begun, so nothing has moved
        return torch.cat((h, value, h * h, *moved), dim=-1)

    def pasts(self, past: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """What was before each of T values.

        past     [B, Q, D] before the first of them
        values   [B, T, D]
        returns  [B, T, Q, D], and what is before the next one, [B, Q, D]
        """
        length, whole = past.shape[1], torch.cat((past, values), dim=1)
        of_each = [whole[:, start : start + values.shape[1]] for start in range(length)]
        return torch.stack(of_each, dim=2) if of_each else values.unsqueeze(2)[:, :, :0], whole[:, whole.shape[1] - length :]

    def unroll(self, x: Tensor, state: State | None = None, noise: Tensor | None = None) -> tuple[Tensor, State]:
        """Forecasts of whole sequences.

        x        [B, T, D] without NaN
        state    after the sequences' past; None: they begin
        noise    [B, T, D] added to what the network is fed, never to what it must forecast
        returns  forecasts [B, T, D], and the state after x
        """
        h, c, last, pending, past = self.state(len(x)) if state is None else state
        fed = x if noise is None else x + noise
        above, (h_end, c_end) = self.lstm(fed, (h, c))
        previous = torch.cat((last.unsqueeze(1), fed[:, :-1]), dim=1)
        pasts, past = self.pasts(past, previous)
        read = torch.cat((h[-1].unsqueeze(1), above[:, :-1]), dim=1) if self.kind == "prediction" else above
        at_horizons = self.head(self.features(self.dropout(read), previous, pasts)).unflatten(-1, (len(self.horizons), self.channels))
        total = F.pad(pending, (0, 0, 0, x.shape[1]))
        for k, horizon in enumerate(self.horizons):
            total[:, horizon - 1 : horizon - 1 + x.shape[1]] += at_horizons[:, :, k] * self.horizon_weights[k]
        return total[:, : x.shape[1]], State(h_end, c_end, fed[:, -1], total[:, x.shape[1] :], past)

    def state(self, sequences: int) -> State:
        """The state of so many new sequences."""
        zeros = self.head.weight.new_zeros
        memory, value = (self.lstm.num_layers, sequences, self.lstm.hidden_size), (sequences, self.channels)
        pending = zeros(sequences, self.horizons[-1] - 1, self.channels)
        past = zeros(sequences, max(self.lags, default=0), self.channels)
        return State(zeros(memory), zeros(memory), zeros(value), pending, torch.full_like(past, np.nan))
