"""Training: recorded normal readings -> a model that forecasts the next one, calibrated on readings no weight saw.

    prediction, quick    random memory (`lab.reservoir`), head in closed form; NumPy and the core are all that it needs
    prediction           random memory, trained by variable projection (`lab.projection`) and taken half of the way, head in closed form
    reconstruction       memory and head together, Huber loss

The last two go by gradient, in torch (`lab.gradient`), which is an extra.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from detector.core.alarm import Prior
from detector.core.forecast import Network
from detector.core.model import Model
from detector.core.scaler import Scaling
from detector.errors import ConfigError, DataError
from detector.lab.calibration import calibrate
from detector.lab.forecast_baselines import LinearForecast, mean_error, persistence, verdict
from detector.lab.offline_inference import one_ahead, residuals, score_all
from detector.lab.options import Options
from detector.lab.progress import SILENT, Epoch, Reporter
from detector.lab.reservoir import fit_head, random_memory
from detector.lab.sequences import BURN_IN, Recorded, Split, burn_in, count, split

F4 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Trained:
    """A model and how it came about.

    errors   mean absolute error of the next reading on calibration readings per channel, f8[D] each: network, persistence, linear
    verdict  in plain words
    device   where it was trained
    scores   f4[N] of the calibration readings
    """

    model: Model
    split: Split
    epochs: tuple[Epoch, ...]
    errors: dict[str, NDArray[np.float64]]
    verdict: str
    device: str
    scores: F4 = field(repr=False)


def require_torch() -> None:
    """raises ConfigError  what trains by gradient is not installed (extra `train`)"""
    if find_spec("torch") is None:
        raise ConfigError("training by gradient needs torch", fix="pip install 'detector[train]', or pass --quick, which does without")


def train(sequences: Sequence[Recorded], channels: Sequence[str], options: Options, reporter: Reporter = SILENT) -> Trained:
    """Train a model, calibrate its score, and compare its forecasts with the baselines'. What is reported meanwhile changes nothing of it.

    raises DataError    when there is too little to train on
    raises ConfigError  when a reconstruction is wanted quickly; without torch, when it has to go by gradient
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
    network, epochs, device = _fit(len(channels), xs["train"], xs["held_out"], options, reporter)
    reporter.begin("calibration", count(xs["calibrate"]))
    es = residuals(network, xs["calibrate"])
    values = [s.value for s in (*parts.train, *parts.calibrate)]
    score = calibrate(values, xs["train"] + xs["calibrate"], es, [burn_in(e) for e in es])
    scores = score_all(score, [s.value for s in parts.calibrate], xs["calibrate"], es)
    model = Model("trained", "", tuple(channels), network, scaling, score, Prior.fit(scores))
    reporter.played(count(xs["calibrate"]))
    linear = LinearForecast(xs["train"])
    mean_errors = {
        "network": mean_error(residuals(one_ahead(network), xs["calibrate"]), BURN_IN),
        "persistence": mean_error(persistence(xs["calibrate"]), BURN_IN),
        "linear": mean_error(linear.residuals(xs["calibrate"]), BURN_IN),
    }
    return Trained(model, parts, tuple(epochs), mean_errors, verdict(mean_errors, options.kind, sum(map(len, es))), device, scores)


def _fit(channels: int, xs: Sequence[F4], held_out: Sequence[F4], options: Options, reporter: Reporter) -> tuple[Network, list[Epoch], str]:
    """The network, its epochs, and where it was trained."""
    if options.is_quick:
        return *fit_quickly(channels, xs, held_out, options, reporter), "cpu"
    require_torch()
    from detector.lab import gradient

    fit = gradient.fit_memory if options.kind == "prediction" else gradient.fit_whole
    return *fit(channels, xs, held_out, options, reporter), gradient.device_of(options)


def fit_quickly(
    channels: int, xs: Sequence[F4], held_out: Sequence[F4], options: Options, reporter: Reporter = SILENT
) -> tuple[Network, list[Epoch]]:
    """Of a prediction: draw the memory at random, and fit the head in closed form; reported as one epoch."""
    reporter.begin("random memory", count(xs, held_out))
    start = random_memory(channels, options.hidden, options.layers, options.seed)
    network, losses = fit_head(start, xs, held_out, reporter.played)
    epoch = Epoch(1, *losses, 0.0, True)
    reporter.epoch(epoch)
    return network, [epoch]
