"""Training: recorded normal readings -> a model that expects the next one, calibrated on readings no weight saw.

Truncated back-propagation through time with carried state: sequences play side by side in lanes, window after window; the
state at the end of a window is the start of the next, gradients stop there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.core.model import Model
from detector.core.predictor import STEP_ROWS_MULTIPLE, Kind, Predictor
from detector.core.scaling import Scaling
from detector.core.scoring import BandScorer
from detector.core.threshold import Prior
from detector.errors import DataError
from detector.lab.baselines import LinearForecast, mean_error, persistence
from detector.lab.sequences import Recorded, Split, split, windows

F4 = NDArray[np.float32]
BURN_IN = 50
"""Readings at the start of a sequence that calibration leaves out: the memory is still empty there."""
PATIENCE_EPOCHS = 6
LEARNING_RATE_MIN = 1e-4
TYPICAL_MIN = 0.01
"""The loss is in units of persistence's error per channel, but of no smaller one: a constant channel must not drown the others."""
ERROR_MIN = 1e-3
"""A baseline whose mean error is smaller, in standard deviations, stands for a channel that hardly varies."""
MEMORY_READINGS_MAX = 200
"""Longest time constant that the forget gates start with (log-uniform from 1; Tallec and Ollivier 2018, "chrono")."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may choose.

    hidden, layers    size of the memory
    window_readings   T of truncated back-propagation
    noise             standard deviation added to what the network is fed, scaled units
    minutes_max       the training stops with its best weights after so long
    """

    kind: Kind = "prediction"
    hidden: int = 64
    layers: int = 1
    dropout: float = 0.0
    window_readings: int = 128
    learning_rate: float = 3e-3
    epochs_max: int = 200
    minutes_max: float = 30.0
    noise: float = 0.0
    seed: int = 1
    device: str = "auto"


@dataclass(frozen=True, slots=True)
class Epoch:
    """Progress: losses are errors relative to persistence (1: no better)."""

    number: int
    train_loss: float
    held_out_loss: float
    seconds_left: float
    is_best: bool


@dataclass(frozen=True, slots=True)
class Trained:
    """A model and how it came about.

    errors   mean absolute residual on calibration readings per channel, f8[D] each: network, persistence, linear
    verdict  in plain words
    """

    model: Model
    split: Split
    epochs: tuple[Epoch, ...]
    errors: dict[str, NDArray[np.float64]]
    verdict: str
    device: str
    scores: F4 = field(repr=False)


def train(sequences: Sequence[Recorded], channels: Sequence[str], options: Options, on_epoch: Callable[[Epoch], None]) -> Trained:
    """Train, calibrate and judge a model.

    raises DataError  when there is too little to train on
    """
    total = sum(len(sequence) for sequence in sequences)
    if total < 10 * BURN_IN:
        raise DataError(
            f"{total} usable readings are too few to train on", fix=f"bring at least {10 * BURN_IN}, better thousands per stream"
        )
    parts = split(sequences, options.seed)
    scaling = Scaling.fit(np.concatenate([s.value for s in parts.train]))
    xs = {name: [scaling.scaled(s.value) for s in getattr(parts, name)] for name in ("train", "held_out", "calibrate")}
    device = ("cuda" if torch.cuda.is_available() else "cpu") if options.device == "auto" else options.device
    torch.manual_seed(options.seed)
    predictor = Predictor(len(channels), options.hidden, options.layers, options.kind, options.dropout)
    remember_long(predictor.lstm)
    typical = np.maximum(mean_error(persistence(xs["train"]), 0), TYPICAL_MIN).astype(np.float32)
    epochs = fit(predictor.to(device), xs["train"], xs["held_out"], typical, options, on_epoch)
    predictor.to("cpu").eval()
    es = residuals(predictor, xs["calibrate"])
    values = [s.value for s in (*parts.train, *parts.calibrate)]
    scorer = BandScorer.fit(values, xs["train"] + xs["calibrate"], es, [_burn_in(e) for e in es])
    scores = score_all(scorer, [s.value for s in parts.calibrate], xs["calibrate"], es)
    model = Model("trained", "", tuple(channels), predictor, scaling, scorer, Prior.fit(scores))
    linear = LinearForecast(xs["train"])
    errors = {
        "network": mean_error(es, BURN_IN),
        "persistence": mean_error(persistence(xs["calibrate"]), BURN_IN),
        "linear": mean_error(linear.residuals(xs["calibrate"]), BURN_IN),
    }
    return Trained(model, parts, tuple(epochs), errors, verdict(errors, options.kind, sum(map(len, es))), device, scores)


def remember_long(lstm: nn.LSTM) -> None:
    """Start the forget gates with time constants spread log-uniformly from 1 to MEMORY_READINGS_MAX readings."""
    hidden = lstm.hidden_size
    with torch.no_grad():
        for layer in range(lstm.num_layers):
            constants = torch.exp(torch.rand(hidden) * math.log(MEMORY_READINGS_MAX)) + 1e-3
            bias = getattr(lstm, f"bias_ih_l{layer}")
            getattr(lstm, f"bias_hh_l{layer}").zero_()
            bias.zero_()
            bias[hidden : 2 * hidden] = torch.log(constants)
            bias[:hidden] = -torch.log(constants)


def fit(
    predictor: Predictor, xs: Sequence[F4], held_out: Sequence[F4], typical: F4, options: Options, on_epoch: Callable[[Epoch], None]
) -> list[Epoch]:
    """Minimise the Huber loss of residuals over `typical`, persistence's mean error per channel; keep the best weights."""
    device = next(predictor.parameters()).device
    weight = torch.from_numpy(1 / typical).to(device)
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=options.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, min_lr=LEARNING_RATE_MIN)
    rng = np.random.default_rng(options.seed)
    began = time.monotonic()
    best, best_loss, since_best = _copy(predictor), math.inf, 0
    epochs: list[Epoch] = []
    for number in range(1, options.epochs_max + 1):
        train_loss = _epoch(predictor, xs, weight, options, rng, optimizer)
        held_out_loss = _epoch(predictor, held_out, weight, options, None, None)
        schedule.step(held_out_loss)
        is_best = held_out_loss < best_loss - 1e-4
        since_best = 0 if is_best else since_best + 1
        if is_best:
            best, best_loss = _copy(predictor), held_out_loss
        spent = time.monotonic() - began
        left = min(spent / number * (options.epochs_max - number), max(60 * options.minutes_max - spent, 0))
        epochs.append(Epoch(number, train_loss, held_out_loss, left, is_best))
        on_epoch(epochs[-1])
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
) -> float:
    """One pass over all windows; learns if there is an optimizer. Returns the mean absolute error relative to persistence."""
    device = weight.device
    predictor.train(optimizer is not None)
    state: tuple[Tensor, Tensor, Tensor] | None = None
    error = count = 0.0
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
            count += float(total)
    return error / max(count, 1.0)


def _carried(predictor: Predictor, state: tuple[Tensor, Tensor, Tensor] | None, is_new: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The state of the window before, without its gradient; empty where a lane begins another sequence."""
    if state is None:
        return predictor.state(len(is_new), is_new.device)
    h, c, last = (part.detach() for part in state)
    kept = (~is_new).float().unsqueeze(1)
    return h * kept, c * kept, last * kept


def residuals(predictor: Predictor, xs: Sequence[F4]) -> list[F4]:
    """What the service would compute: step by step, missing values fed their own expectation; per sequence f4[T, D]."""
    rows = len(xs) + (-len(xs) % STEP_ROWS_MULTIPLE)
    d = predictor.channels
    h = np.zeros((rows, predictor.layers, predictor.hidden), np.float32)
    c, last = np.zeros_like(h), np.zeros((rows, d), np.float32)
    es = [np.empty_like(x) for x in xs]
    for t in range(max(len(x) for x in xs)):
        now = np.full((rows, d), np.nan, np.float32)
        for row, x in enumerate(xs):
            if t < len(x):
                now[row] = x[t]
        expected = predictor.step(now, h, c, last)
        for row, e in enumerate(es):
            if t < len(e):
                e[t] = now[row] - expected[row]
    return es


def score_all(scorer: BandScorer, values: Sequence[F4], xs: Sequence[F4], es: Sequence[F4]) -> F4:
    """The scores of whole sequences, as the service would compute them, without each sequence's start."""
    scores = []
    for value, x, e in zip(values, xs, es, strict=True):
        state = {name: column.array(1) for name, column in scorer.columns().items()}
        score = scorer.score(np.zeros(len(x), np.int32), value, x, e, state)  # one stream, reading after reading
        scores.append(score[_burn_in(e) :])
    return np.concatenate(scores)


def _burn_in(sequence: F4) -> int:
    return BURN_IN if len(sequence) > 2 * BURN_IN else 0


def verdict(errors: dict[str, NDArray[np.float64]], kind: Kind, readings: int) -> str:
    """How much better than the baselines, in plain words, or that it is not."""
    ratio_to = {name: _ratio(errors["network"], errors[name]) for name in ("persistence", "linear")}

    def against(name: str) -> str:
        ratio = ratio_to[name]
        if ratio < 0.98:
            return f"{100 * (1 - ratio):.0f} % smaller than {name}'s"
        return f"no smaller than {name}'s" if ratio < 1.02 else f"{100 * (ratio - 1):.0f} % larger than {name}'s"

    said = f"On {readings:,} readings that no weight saw, its mean error is {against('persistence')} and {against('linear')}."
    if kind == "reconstruction":
        return said + " A reconstruction sees the reading itself, the baselines do not: compare it with other reconstructions."
    worse = [name for name, ratio in ratio_to.items() if ratio >= 0.98]
    if not worse:
        return said + " The memory earns its place."
    return said + f" It does not beat {' or '.join(worse)}: more data, more time or another interval may help; the score still works."


def _ratio(error: NDArray[np.float64], baseline: NDArray[np.float64]) -> float:
    """Mean ratio over the channels that vary: where the baseline makes no error there is nothing to compare."""
    varies = baseline > ERROR_MIN
    return float(np.mean(error[varies] / baseline[varies])) if varies.any() else 1.0
