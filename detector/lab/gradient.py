"""Training by gradient, in torch: truncated back-propagation through time with carried state.

Sequences play side by side in lanes, window after window. The state at the end of a window is the start of the next; gradients stop there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.core.forecast import ONE_AHEAD, Kind, Network
from detector.lab.forecast_baselines import mean_error, persistence
from detector.lab.network import Predictor, State
from detector.lab.options import Options
from detector.lab.progress import SILENT, Epoch, Played, Reporter
from detector.lab.projection import horizons_of, learn
from detector.lab.reservoir import GATES, errors, fit_head, long_memory, random_memory
from detector.lab.sequences import count, windows

F4 = NDArray[np.float32]
PATIENCE_EPOCHS = 6
WAY = 0.5
"""Part of the way from the random memory to the trained one at which the weights of a prediction stay: halfway it forecasts nearly as well,
and has kept more of the long memory that faults of time show in.
source: Wortsman et al., "Robust fine-tuning of zero-shot models", 2022. Measured in docs/research.md."""
LEARNING_RATE: dict[Kind, float] = {"prediction": 2e-3, "reconstruction": 3e-3}
LEARNING_RATE_MIN = 1e-4
TYPICAL_MIN = 0.01
"""The loss is in units of persistence's error per channel, but of no smaller one: a constant channel must not drown the others."""


def device_of(options: Options) -> str:
    """Where it trains."""
    return options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def fit_memory(
    channels: int, xs: Sequence[F4], held_out: Sequence[F4], options: Options, reporter: Reporter = SILENT
) -> tuple[Network, list[Epoch]]:
    """Of a prediction: start from a random memory, train it by variable projection, go half of the way, fit the head in closed form."""
    torch.manual_seed(options.seed)
    start = random_memory(channels, options.hidden, options.layers, options.seed)
    predictor = Predictor(start, options.dropout).to(device_of(options))
    optimizer = torch.optim.Adam(predictor.lstm.parameters(), lr=LEARNING_RATE[options.kind])
    rng, horizons = np.random.default_rng(options.seed), horizons_of(options.window_readings)

    def once() -> tuple[float, float]:
        learn(predictor, xs, options.window_readings, options.noise, rng, optimizer, reporter.played)
        return errors(predictor.network(), xs, held_out, horizons, reporter.played)

    epochs = _descend(predictor, optimizer, once, options, reporter, count(xs, xs, held_out))
    end = predictor.network().weights
    halfway = {name: weight + np.float32(WAY) * (end[name] - weight) for name, weight in start.weights.items()}
    reporter.begin("readout", count(xs, held_out))
    return fit_head(replace(start, weights=halfway), xs, held_out, reporter.played)[0], epochs


def fit_whole(
    channels: int, xs: Sequence[F4], held_out: Sequence[F4], options: Options, reporter: Reporter = SILENT
) -> tuple[Network, list[Epoch]]:
    """Of a reconstruction: minimise the Huber loss of residuals over persistence's mean error per channel."""
    torch.manual_seed(options.seed)
    typical = np.maximum(mean_error(persistence(xs), 0), TYPICAL_MIN).astype(np.float32)
    predictor = Predictor(_narrow_memory(channels, options), options.dropout).to(device_of(options))
    weight = torch.from_numpy(1 / typical).to(device_of(options))
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=LEARNING_RATE[options.kind], weight_decay=1e-4)
    rng = np.random.default_rng(options.seed)

    def once() -> tuple[float, float]:
        learned = _epoch(predictor, xs, weight, options, rng, optimizer, reporter.played)
        return learned, _epoch(predictor, held_out, weight, options, None, None, reporter.played)

    epochs = _descend(predictor, optimizer, once, options, reporter, count(xs, held_out))
    return predictor.network(), epochs


def _narrow_memory(channels: int, options: Options) -> Network:
    """What a reconstruction starts from: small random weights as torch draws them, and long time constants."""
    rng, hidden = np.random.default_rng(options.seed), options.hidden

    def small(*shape: int) -> F4:
        return rng.uniform(-(hidden**-0.5), hidden**-0.5, shape).astype(np.float32)

    weights: dict[str, F4] = {}
    for layer in range(options.layers):
        weights[f"weight_ih_l{layer}"] = small(GATES * hidden, channels if layer == 0 else hidden)
        weights[f"weight_hh_l{layer}"] = small(GATES * hidden, hidden)
        weights |= long_memory(layer, hidden, rng)
    head, ones = small(channels, hidden), np.ones((1, channels), np.float32)
    return Network("reconstruction", channels, hidden, options.layers, ONE_AHEAD, (), weights, head, small(channels), ones)


def _descend(
    predictor: Predictor,
    optimizer: torch.optim.Optimizer,
    once: Callable[[], tuple[float, float]],
    options: Options,
    reporter: Reporter,
    readings: int,
) -> list[Epoch]:
    """Epoch after epoch until the held-out loss no longer falls, or time is up; the best weights stay. once() -> train and held-out loss,
    and plays so many readings."""
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, min_lr=LEARNING_RATE_MIN)
    began = time.monotonic()
    best, best_loss, since_best = _copy(predictor), math.inf, 0
    epochs: list[Epoch] = []
    for number in range(1, options.epochs_max + 1):
        reporter.begin(f"epoch {number}", readings)
        train_loss, held_out_loss = once()
        schedule.step(held_out_loss)
        is_best = held_out_loss < best_loss - 1e-4
        since_best = 0 if is_best else since_best + 1
        if is_best:
            best, best_loss = _copy(predictor), held_out_loss
        spent = time.monotonic() - began
        left = min(spent / number * (options.epochs_max - number), max(60 * options.minutes_max - spent, 0))
        epochs.append(Epoch(number, train_loss, held_out_loss, left, is_best))
        reporter.epoch(epochs[-1])
        if since_best >= PATIENCE_EPOCHS or spent > 60 * options.minutes_max:
            break
    predictor.load_state_dict(best)
    return epochs


def _copy(predictor: Predictor) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in predictor.state_dict().items()}


def _epoch(
    predictor: Predictor,
    xs: Sequence[F4],
    weight: Tensor,
    options: Options,
    rng: np.random.Generator | None,
    optimizer: torch.optim.Optimizer | None,
    played: Played,
) -> float:
    """One pass over all windows; learns if there is an optimizer. Returns the mean absolute error relative to persistence."""
    device = weight.device
    predictor.train(optimizer is not None)
    state: State | None = None
    error = counted = 0.0
    with torch.set_grad_enabled(optimizer is not None):
        for window in windows(xs, options.window_readings, rng):
            x, counts = torch.from_numpy(window.x).to(device), torch.from_numpy(window.counts).to(device)
            state = _carried(predictor, state, torch.from_numpy(window.is_new).to(device))
            noise = options.noise * torch.randn_like(x) if optimizer is not None and options.noise > 0 else None
            expected, state = predictor.unroll(x, state, noise)
            relative = (expected - x) * weight
            total = counts.sum().clamp(min=1)
            if optimizer is not None:
                loss = (nn.functional.huber_loss(relative, torch.zeros_like(relative), reduction="none", delta=3.0) * counts).sum() / total
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(predictor.parameters(), 1.0)
                optimizer.step()
            error += float((relative.detach().abs() * counts).sum())
            counted += float(total)
            played(window.readings)
    return error / max(counted, 1.0)


def _carried(predictor: Predictor, state: State | None, is_new: Tensor) -> State:
    """The state of the window before, without its gradient; empty where a lane begins another sequence."""
    fresh = predictor.state(len(is_new))
    if state is None:
        return fresh
    new = is_new[:, None]
    begins = State(h=new, c=new, fed=new, pending=new[..., None], past=new[..., None])
    return State(*(torch.where(begun, empty, part.detach()) for begun, empty, part in zip(begins, fresh, state, strict=True)))
