"""Making of the universal model: a memory that is drawn, and a score that is measured on synthetic series, scaled and read as the service will."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from detector.core.fitting import fit_scorer
from detector.core.predictor import Predictor
from detector.core.readout import RunningReadout
from detector.core.running import COLD_READINGS, RunningScaling
from detector.core.scoring import CALIBRATED, BandScorer, Usual
from detector.core.states import arrays_of
from detector.core.terms import BANDS
from detector.core.threshold import Prior
from detector.lab.reservoir import randomise
from detector.lab.synthetic import synthetic

F4 = NDArray[np.float32]
INPUTS = 128
"""Channels that have an input of the memory to themselves."""
READINGS = 4_096
"""Of a synthetic series."""
ONE = np.ones(1, np.float32)
EACH = np.ones(len(CALIBRATED), np.float32)
APART = np.eye(BANDS, dtype=np.float32)
PLAIN = BandScorer(
    ONE, 0 * ONE, np.ones((BANDS, 1), np.float32), APART, ONE, ONE, ONE, ONE[None], ONE,
    np.inf * ONE, -np.inf * ONE, 0 * ONE, EACH, EACH, 0 * ONE, ONE,
)  # fmt: skip
"""A score with nothing measured: it moves the memories of a score before there is one."""
SETTLED = 200
"""Calibration leaves out so many readings of a series: its memory and its scales are still young there."""
CALIBRATION_SEEDS, CALIBRATION_SERIES = (7, 8), 256


@dataclass(frozen=True, slots=True)
class Walked:
    """Series as the service sees them, without alerts.

    x, e   f4[S, T] scaled readings, and residuals in units of their usual size
    bands  f4[S, T, 4] usual size of the bands
    weight f4[S, T] of the channel
    """

    x: F4
    e: F4
    bands: F4
    weight: F4

    def usual(self) -> list[Usual]:
        """Of each series from its SETTLED-th reading on."""
        return [Usual(bands[SETTLED:, :, None], weight[SETTLED:, None]) for bands, weight in zip(self.bands, self.weight, strict=True)]


def walk(values: F4, memory: Predictor) -> Walked:
    """Scale series of one channel, and expect them, as the service would.

    values  f4[S, T]; S a multiple of STEP_ROWS_MULTIPLE
    """
    network, readout = memory.of_channels(1), RunningReadout(1, memory.hidden)
    scaling, (series, readings) = RunningScaling(1), values.shape
    columns = scaling.columns() | readout.columns() | network.columns() | PLAIN.columns()
    states = arrays_of(columns, series)
    memories = {name: states[name] for name in network.columns()}
    rows, teaches = np.arange(series, dtype=np.int32), np.ones(series, bool)
    bands = np.empty((series, readings, BANDS), np.float32)
    walked = Walked(np.empty_like(values), np.empty_like(values), bands, np.empty_like(values))
    for t in range(readings):
        value = np.ascontiguousarray(values[:, t : t + 1])
        units = scaling.of(rows, states)
        x = units.scaled(value)
        expected, said = readout.expected(rows, network.step(x, **memories), states)
        e = units.residuals(x, expected)
        walked.x[:, t], walked.e[:, t] = x[:, 0], e[:, 0]
        walked.bands[:, t] = np.asarray(units.usual.bands)[:, :, 0]
        walked.weight[:, t] = np.asarray(units.usual.weight)[:, 0]
        moved = PLAIN.moved(rows, value, states)
        terms = PLAIN.judged(rows, value, x, e, states, units.usual)[1]
        scaling.learn(rows, value, moved, x, x - expected, terms, teaches, states)
        readout.learn(rows, x, said, teaches, states)
    return walked


def batch_of(seed: int, series: int, readings: int) -> F4:
    """Series of one length, f4[S, T]."""
    return np.stack([value[:, 0] for value in synthetic(seed, series, readings)])


def memory(hidden: int, seed: int) -> Predictor:
    """A memory of random weights with as many inputs as a stream may have channels; whoever has more shares them."""
    torch.manual_seed(seed)
    network = Predictor(INPUTS, hidden)
    randomise(network.lstm)
    return network.eval()


def calibrated(network: Predictor) -> tuple[BandScorer, Prior]:
    """The score and its prior, measured on synthetic series."""
    values = np.concatenate([batch_of(seed, CALIBRATION_SERIES, READINGS) for seed in CALIBRATION_SEEDS])
    walked = walk(values, network)
    value, x, e = ([each[SETTLED:, None] for each in series] for series in (values, walked.x, walked.e))
    usual = walked.usual()
    scorer = fit_scorer(value, x, e, [0] * len(e), usual)
    priors = [Prior.fit(scorer.of_one_stream(*series)[0][SETTLED:]) for series in zip(value, x, e, usual, strict=True)]
    # What a usual stream shows: over all of them together, the excess would say how unlike they are.
    quantile, excess = (float(np.median([getattr(prior, name) for prior in priors])) for name in ("quantile", "excess"))
    return scorer, Prior(quantile, excess, COLD_READINGS)
