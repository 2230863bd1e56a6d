"""Training: recorded normal readings -> a model that expects the next one, calibrated on readings no weight saw.

Truncated back-propagation through time with carried state: sequences play side by side in lanes, window after window; the
state at the end of a window is the start of the next, gradients stop there.

    prediction, quick    random memory (`lab.reservoir`), head in closed form
    prediction           random memory, trained by variable projection (`lab.projection`) and taken half of the way, head in closed form
    reconstruction       memory and head together, Huber loss
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

from detector.core.fitting import fit_scorer
from detector.core.model import Model
from detector.core.predictor import HORIZONS, LAGS, ONE_AHEAD, Kind, Predictor, State
from detector.core.scaling import Scaling
from detector.core.threshold import Prior
from detector.errors import ConfigError, DataError
from detector.lab.forecast_baselines import LinearForecast, mean_error, persistence, verdict
from detector.lab.offline_inference import one_ahead, residuals, score_all
from detector.lab.progress import SILENT, Epoch, Played, Reporter
from detector.lab.projection import errors, learn
from detector.lab.reservoir import fit_head, randomise, remember_long
from detector.lab.sequences import BURN_IN, Recorded, Split, burn_in, split, windows

F4 = NDArray[np.float32]
PATIENCE_EPOCHS = 6
WAY = 0.5
"""Part of the way from the random memory to the trained one at which the weights of a prediction stay: halfway it expects nearly as well,
and has kept more of the long memory that faults of time show in.
source: Wortsman et al., "Robust fine-tuning of zero-shot models", 2022. Measured in docs/research.md."""
LEARNING_RATE: dict[Kind, float] = {"prediction": 2e-3, "reconstruction": 3e-3}
LEARNING_RATE_MIN = 1e-4
TYPICAL_MIN = 0.01
"""The loss is in units of persistence's error per channel, but of no smaller one: a constant channel must not drown the others."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a person may choose.

    hidden, layers    size of the memory
    window_readings   T of truncated back-propagation
    noise             standard deviation added to what the network is fed, scaled units
    minutes_max       the training stops with its best weights after so long
    is_quick          a random LSTM with a head in closed form (predictions only): seconds, no epochs, nothing learned by gradient
    """

    kind: Kind = "prediction"
    hidden: int = 64
    layers: int = 1
    dropout: float = 0.0
    window_readings: int = 256
    epochs_max: int = 200
    minutes_max: float = 30.0
    noise: float = 0.0
    seed: int = 1
    device: str = "auto"
    is_quick: bool = False


@dataclass(frozen=True, slots=True)
class Trained:
    """A model and how it came about.

    errors   mean absolute error of the next reading on calibration readings per channel, f8[D] each: network, persistence, linear
    verdict  in plain words
    """

    model: Model
    split: Split
    epochs: tuple[Epoch, ...]
    errors: dict[str, NDArray[np.float64]]
    verdict: str
    device: str
    scores: F4 = field(repr=False)


def train(sequences: Sequence[Recorded], channels: Sequence[str], options: Options, reporter: Reporter = SILENT) -> Trained:
    """Train a model, calibrate its score, and compare its forecasts with the baselines'. What is reported meanwhile changes nothing of it.

    raises DataError    when there is too little to train on
    raises ConfigError  when a reconstruction is wanted quickly
    """
    if options.is_quick and options.kind != "prediction":
        raise ConfigError("a reconstruction has no quick fit: its readout would copy what it reads", fix="leave out --quick, or --kind")
    total = sum(len(sequence) for sequence in sequences)
    if total < 10 * BURN_IN:
        raise DataError(
            f"{total} usable readings are too few to train on", fix=f"bring at least {10 * BURN_IN}, better thousands per stream"
        )
    parts = split(sequences, options.seed)
    scaling = Scaling.fit(np.concatenate([s.value for s in parts.train]))
    xs = {name: [scaling.scaled(s.value) for s in getattr(parts, name)] for name in ("train", "held_out", "calibrate")}
    has_gpu = torch.cuda.is_available() and not options.is_quick
    device = ("cuda" if has_gpu else "cpu") if options.device == "auto" else options.device
    torch.manual_seed(options.seed)
    horizons, lags = (HORIZONS, LAGS) if options.kind == "prediction" else (ONE_AHEAD, ())
    predictor = Predictor(len(channels), options.hidden, options.layers, options.kind, options.dropout, horizons, lags)
    fit = fit_quickly if options.is_quick else fit_memory if options.kind == "prediction" else fit_whole
    epochs = fit(predictor.to(device), xs["train"], xs["held_out"], options, reporter)
    reporter.begin("calibration", _count(xs["calibrate"]))
    predictor.to("cpu").eval()
    es = residuals(predictor, xs["calibrate"])
    values = [s.value for s in (*parts.train, *parts.calibrate)]
    scorer = fit_scorer(values, xs["train"] + xs["calibrate"], es, [burn_in(e) for e in es])
    scores = score_all(scorer, [s.value for s in parts.calibrate], xs["calibrate"], es)
    model = Model("trained", "", tuple(channels), predictor, scaling, scorer, Prior.fit(scores))
    reporter.played(_count(xs["calibrate"]))
    linear = LinearForecast(xs["train"])
    mean_errors = {
        "network": mean_error(residuals(one_ahead(predictor), xs["calibrate"]), BURN_IN),
        "persistence": mean_error(persistence(xs["calibrate"]), BURN_IN),
        "linear": mean_error(linear.residuals(xs["calibrate"]), BURN_IN),
    }
    return Trained(model, parts, tuple(epochs), mean_errors, verdict(mean_errors, options.kind, sum(map(len, es))), device, scores)


def fit_quickly(
    predictor: Predictor, xs: Sequence[F4], held_out: Sequence[F4], options: Options, reporter: Reporter = SILENT
) -> list[Epoch]:
    """Of a prediction: draw the memory at random, and fit the head in closed form; reported as one epoch."""
    randomise(predictor.lstm)
    reporter.begin("random memory", 2 * _count(xs, held_out))
    epochs = [Epoch(1, *errors(predictor, xs, held_out, options.window_readings, reporter.played), 0.0, True)]
    fit_head(predictor, xs, held_out, reporter.played)
    reporter.epoch(epochs[0])
    return epochs


def fit_memory(
    predictor: Predictor, xs: Sequence[F4], held_out: Sequence[F4], options: Options, reporter: Reporter = SILENT
) -> list[Epoch]:
    """Of a prediction: start from a random memory, train it by variable projection, go half of the way, fit the head in closed form."""
    randomise(predictor.lstm)
    start = _copy(predictor)
    optimizer = torch.optim.Adam(predictor.lstm.parameters(), lr=LEARNING_RATE[options.kind])
    rng = np.random.default_rng(options.seed)

    def once() -> tuple[float, float]:
        learn(predictor, xs, options.window_readings, options.noise, rng, optimizer, reporter.played)
        return errors(predictor, xs, held_out, options.window_readings, reporter.played)

    epochs = _descend(predictor, optimizer, once, options, reporter, _count(xs, xs, held_out))
    end = _copy(predictor)
    predictor.load_state_dict({name: start[name] + WAY * (end[name] - start[name]) for name in end})
    reporter.begin("readout", _count(xs, held_out))
    fit_head(predictor, xs, held_out, reporter.played)
    return epochs


def fit_whole(predictor: Predictor, xs: Sequence[F4], held_out: Sequence[F4], options: Options, reporter: Reporter = SILENT) -> list[Epoch]:
    """Of a reconstruction: minimise the Huber loss of residuals over persistence's mean error per channel."""
    typical = np.maximum(mean_error(persistence(xs), 0), TYPICAL_MIN).astype(np.float32)
    remember_long(predictor.lstm)
    weight = torch.from_numpy(1 / typical).to(next(predictor.parameters()).device)
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=LEARNING_RATE[options.kind], weight_decay=1e-4)
    rng = np.random.default_rng(options.seed)

    def once() -> tuple[float, float]:
        learned = _epoch(predictor, xs, weight, options, rng, optimizer, reporter.played)
        return learned, _epoch(predictor, held_out, weight, options, None, None, reporter.played)

    return _descend(predictor, optimizer, once, options, reporter, _count(xs, held_out))


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


def _count(*parts: Sequence[F4]) -> int:
    """Readings of all sequences of these parts."""
    return sum(len(sequence) for part in parts for sequence in part)


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
            played(window.readings)
    return error / max(count, 1.0)


def _carried(predictor: Predictor, state: State | None, is_new: Tensor) -> State:
    """The state of the window before, without its gradient; empty where a lane begins another sequence."""
    if state is None:
        return predictor.state(len(is_new), is_new.device)
    fresh = predictor.state(len(is_new), is_new.device)
    new = is_new[:, None]
    begins = State(h=new, c=new, last=new, ahead=new[..., None], past=new[..., None])
    return State(*(torch.where(begun, empty, part.detach()) for begun, empty, part in zip(begins, fresh, state, strict=True)))
