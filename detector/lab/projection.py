"""Training by variable projection: the LSTM learns a memory from which a readout in closed form expects well.

For any weights of the LSTM the best linear readout follows in closed form (`lab.ridge`), so only the LSTM is trained, and the gradient
goes through that solution. Half of the rows of a batch give the readout W; its errors on the other half are the loss, and vice versa:

    loss = mean over channels and horizons of 1/2 log((|y - W' u|^2 + e) / (|y|^2 + e))      u = [what the head reads, 1]      y = x h steps later - x

that is, the log of the error relative to persistence. Trained side by side, readout and memory chase each other: a good readout of an
LSTM is so steep that any step of the weights spoils it. And of one step ahead alone a memory learns to forget: hence several horizons.

source: Golub and Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems whose variables separate", 1973
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.lab.network import Predictor
from detector.lab.progress import Played, unheard
from detector.lab.ridge import ERROR_MIN
from detector.lab.sequences import BURN_IN, Window, windows

F4 = NDArray[np.float32]

HORIZONS = (1, 5, 10, 20)
"""Readings ahead. Windows are four times as long as the longest that is learned in them."""
STRENGTH = 1e-4
"""Ridge of a batch's readout, part of the mean square of what is read."""
UPDATES_MIN, PASSES_MAX = 16, 16
"""A pass over few readings teaches little: it is repeated until there were so many updates, or so many passes."""


def horizons_of(window_readings: int) -> tuple[int, ...]:
    """Those that can be learned in windows of such a length."""
    return tuple(horizon for horizon in HORIZONS if 4 * horizon <= max(window_readings, 4))


def learn(
    predictor: Predictor,
    xs: Sequence[F4],
    window_readings: int,
    noise: float,
    rng: np.random.Generator,
    optimizer: torch.optim.Optimizer,
    played: Played = unheard,
) -> None:
    """Improve the LSTM's weights: one pass over all windows, or some if they are few.

    xs     per sequence f4[T, D] scaled, NaN where missing
    noise  standard deviation added to what is fed
    """
    predictor.train()
    horizons, updates = horizons_of(window_readings), 0
    device = next(predictor.parameters()).device
    for _ in range(PASSES_MAX):
        state: tuple[Tensor, Tensor] | None = None
        for window in windows(xs, window_readings, rng):
            x = torch.from_numpy(window.x).to(device)
            fed = x + noise * torch.randn_like(x) if noise > 0 else x
            played(window.readings)
            h, state = predictor.lstm(fed, _carried(state, torch.from_numpy(window.is_new).to(device)))
            pasts, _ = predictor.pasts(predictor.state(len(x)).past, fed)  # of a window: its first rows know no more
            u, y = _rows(predictor.features(predictor.dropout(h), fed, pasts), x, window, horizons, rng)
            if len(u) < 2:
                continue
            optimizer.zero_grad()
            _loss(u, y).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(predictor.lstm.parameters(), 1.0)
            optimizer.step()
            updates += 1
        if updates >= UPDATES_MIN:
            break


def _carried(state: tuple[Tensor, Tensor] | None, is_new: Tensor) -> tuple[Tensor, Tensor] | None:
    """The memory of the window before, without its gradient; empty where a lane begins another sequence."""
    if state is None:
        return None
    kept = (~is_new).float().unsqueeze(1)
    h, c = (part.detach() * kept for part in state)
    return h, c


def _rows(features: Tensor, x: Tensor, window: Window, horizons: Sequence[int], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """u f8[N, F + 1] and y f8[N, K D] of all readings of a window that count, lane by lane in random order; features [B, T, F]."""
    end = x.shape[1] - horizons[-1]
    u = torch.cat((features, torch.ones_like(features[..., :1])), dim=-1)[:, :end]
    y = torch.cat([x[:, horizon : end + horizon] - x[:, :end] for horizon in horizons], dim=-1)
    counts = np.asarray(window.counts[:, horizons[-1] :].any(axis=2))
    counts[window.is_new, :BURN_IN] = False
    order = torch.from_numpy(rng.permutation(len(x))).to(x.device)
    counted = torch.from_numpy(counts).to(x.device)[order]
    return u[order][counted].double(), y[order][counted].double()


def _loss(u: Tensor, y: Tensor) -> Tensor:
    """Each half by the readout of the other."""
    half = len(u) // 2
    first, second = (u[:half], y[:half]), (u[half:], y[half:])
    total = torch.zeros((), dtype=u.dtype, device=u.device)
    for (u_fit, y_fit), (u_new, y_new) in ((first, second), (second, first)):
        gram = u_fit.T @ u_fit
        ridge = STRENGTH * gram.trace() / len(gram) * torch.eye(len(gram), dtype=u.dtype, device=u.device)
        error = y_new - u_new @ torch.linalg.solve(gram + ridge, u_fit.T @ y_fit)
        floor = ERROR_MIN**2
        total = total + 0.25 * torch.log(((error**2).mean(dim=0) + floor) / ((y_new**2).mean(dim=0) + floor)).mean()
    return total
