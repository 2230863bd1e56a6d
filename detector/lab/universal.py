"""Training of the universal model: one channel, synthetic series, scaled as the service will scale them.

Every batch of series is new: nothing is seen twice, so that what is learned is how series behave, and none by heart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.core.predictor import Predictor, State
from detector.core.running import RunningScaling
from detector.core.scoring import BandScorer, Usual
from detector.core.states import Column, arrays_of
from detector.core.terms import BANDS
from detector.core.threshold import Prior
from detector.lab.reservoir import remember_long
from detector.lab.sequences import filled
from detector.lab.synthetic import synthetic
from detector.lab.train import TYPICAL_MIN

F4 = NDArray[np.float32]
LENGTHS = (512, 1_024, 2_048, 4_096)
"""Readings of the series of a batch, in turn."""
LEARNING_RATE_MIN = 5e-5
ONE = np.ones(1, np.float32)
FOUR = np.ones(4, np.float32)
PLAIN = BandScorer(
    ONE, 0 * ONE, np.ones((BANDS, 1), np.float32), np.eye(BANDS, dtype=np.float32), ONE, ONE, ONE, ONE[None], ONE, ONE, ONE,
    np.inf * ONE, -np.inf * ONE, 0 * ONE, FOUR, FOUR, 0 * ONE, ONE,
)  # fmt: skip
"""A score with nothing measured: it moves the memories of a score before there is one."""
SETTLED = 200
"""Calibration leaves out so many readings of a series: its memory and its scales are still young there."""
CALIBRATION_SEEDS, CALIBRATION_SERIES = (7, 8), 256
RUN_QUANTILE, GONE_QUANTILE = 0.9999, 0.999
"""Of runs of one value, in units of the stream's own longest; and of missing values, whose longest run no stream measures for itself."""
COLD_READINGS = 80
"""The first readings of a stream teach its alarm nothing: its scales are not known yet, and every score is high."""
COLD = 10
"""The first readings of a series are not learned from: there is nothing yet to expect them by."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the universal network is trained.

    series   of a batch
    rounds   batches of every length
    window   readings of truncated back-propagation
    """

    hidden: int = 32
    series: int = 256
    rounds: int = 40
    window: int = 64
    learning_rate: float = 4e-3
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Walked:
    """Series as the service sees them, without alerts.

    x, e   f4[S, T] scaled readings, and residuals in units of their usual size
    bands  f4[S, T, 4] usual size of the bands
    weight f4[S, T] of the channel
    run    f4[S, T] how long a value has stayed the same, in units of the longest such run before
    """

    x: F4
    e: F4
    bands: F4
    weight: F4
    run: F4

    def usual(self) -> list[Usual]:
        """Of each series from its SETTLED-th reading on."""
        return [Usual(bands[SETTLED:, :, None], 1.0, weight[SETTLED:, None]) for bands, weight in zip(self.bands, self.weight, strict=True)]


def walk(values: F4, predictor: Predictor | None = None) -> Walked:
    """Scale series, and expect them, as the service would.

    values  f4[S, T]; S a multiple of STEP_ROWS_MULTIPLE where there is a predictor of one channel
    """
    scaling, (series, readings) = RunningScaling(1), values.shape
    columns = scaling.columns() | PLAIN.columns() | {"evidence": Column("f8")}
    states = arrays_of(columns, series)
    rows, event = np.arange(series, dtype=np.int32), np.zeros(series, np.uint8)
    memory = arrays_of(predictor.columns(), series) if predictor else {}
    bands = np.empty((series, readings, BANDS), np.float32)
    walked = Walked(np.empty_like(values), np.empty_like(values), bands, np.empty_like(values), np.empty_like(values))
    for t in range(readings):
        value = np.ascontiguousarray(values[:, t : t + 1])
        units = scaling.of(rows, states)
        x = units.scaled(value)
        expected = predictor.step(x, **memory) if predictor else x
        e = units.residuals(x, expected)
        walked.x[:, t], walked.e[:, t] = x[:, 0], e[:, 0]
        walked.bands[:, t] = np.asarray(units.usual.bands)[:, :, 0]
        walked.weight[:, t] = np.asarray(units.usual.weight)[:, 0]
        PLAIN.score(rows, value, x, e, states, units.usual)
        walked.run[:, t] = (states["same"] / units.usual.run)[:, 0]
        scaling.learn(rows, value, x, x - expected, event, states)
    return walked


def batch_of(seed: int, series: int, readings: int) -> F4:
    """Series of one length, f4[S, T]."""
    return np.stack([value[:, 0] for value in synthetic(seed, series, readings)])


def train(options: Options, on_batch: Callable[[int, int, float], None]) -> Predictor:
    """A predictor of one channel. on_batch(number, of how many, mean error relative to persistence's)"""
    torch.set_num_threads(1)  # with more, sums come in another order, and so would other weights
    torch.manual_seed(options.seed)
    predictor = Predictor(1, options.hidden)
    remember_long(predictor.lstm)
    optimizer = torch.optim.AdamW(predictor.parameters(), lr=options.learning_rate, weight_decay=1e-4)
    batches = options.rounds * len(LENGTHS)
    updates = options.rounds * sum(LENGTHS) // options.window
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates, LEARNING_RATE_MIN)
    for number in range(batches):
        x = walk(batch_of(options.seed * 100_003 + number, options.series, LENGTHS[number % len(LENGTHS)])).x
        on_batch(number + 1, batches, _learn(predictor, x, options.window, optimizer, schedule.step))
    return predictor.eval()


def _learn(predictor: Predictor, x: F4, window: int, optimizer: torch.optim.Optimizer, after_update: Callable[[], None]) -> float:
    """One pass over a batch of series; returns the mean over series of the error relative to persistence's."""
    fed = torch.from_numpy(filled(x.T).T.copy()).unsqueeze(-1)
    counts = torch.from_numpy(~np.isnan(x)).unsqueeze(-1).float()
    counts[:, :COLD] = 0
    weight = 1 / typical(fed)
    state = predictor.state(len(x))
    errors = []
    for start in range(0, x.shape[1], window):
        now, counted = fed[:, start : start + window], counts[:, start : start + window]
        expected, after = predictor.unroll(now, state)
        relative = (expected - now) * weight
        loss = (nn.functional.huber_loss(relative, torch.zeros_like(relative), reduction="none", delta=3.0) * counted).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(predictor.parameters(), 1.0)
        optimizer.step()
        after_update()
        state = State(*(part.detach() for part in after))
        errors.append(float((relative.detach().abs() * counted).sum() / counted.sum().clamp(min=1)))
    return math.fsum(errors) / len(errors)


def typical(fed: Tensor) -> Tensor:
    """Persistence's mean error of each series, [S, 1, 1] of [S, T, 1]: in units of it, quiet series count as much as noisy ones."""
    return fed[:, COLD:].diff(dim=1).abs().mean(dim=1, keepdim=True).clamp(min=TYPICAL_MIN)


def calibrated(network: Predictor) -> tuple[BandScorer, Prior]:
    """The score and its prior, measured on series that no weight saw."""
    values = np.concatenate([batch_of(seed, CALIBRATION_SERIES, LENGTHS[-1]) for seed in CALIBRATION_SEEDS])
    walked = walk(values, network)
    value, x, e = ([each[SETTLED:, None] for each in series] for series in (values, walked.x, walked.e))
    usual = walked.usual()
    scorer = BandScorer.fit(value, x, e, [0] * len(e), usual)
    same, gone = np.quantile(walked.run[:, SETTLED:], RUN_QUANTILE), np.quantile(gone_runs(values)[:, SETTLED:], GONE_QUANTILE)
    scorer = replace(scorer, same_max=max(float(same), 1.0) * ONE, gone_max=max(float(gone), 1.0) * ONE)
    priors = [Prior.fit(scorer.of_one_stream(*series)[0][SETTLED:]) for series in zip(value, x, e, usual, strict=True)]
    # What a usual stream shows: over all of them together, the excess would say how unlike they are.
    quantile, excess = (float(np.median([getattr(prior, name) for prior in priors])) for name in ("quantile", "excess"))
    return scorer, Prior(quantile, excess, COLD_READINGS)


def gone_runs(values: F4) -> NDArray[np.int64]:
    """For how many readings, this one included, the value of each f4[S, T] has been missing."""
    number = np.arange(values.shape[1])
    last_there: NDArray[np.int64] = np.maximum.accumulate(np.where(np.isnan(values), -1, number), axis=1)
    return number - last_there
