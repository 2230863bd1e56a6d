"""Making of the universal model: a memory that is drawn, and a score that is measured on synthetic series, scaled and forecast as the service
will."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.core.alarm import Prior
from detector.core.forecast import Network
from detector.core.model import UniversalModel
from detector.core.scaler import YOUNG_READINGS
from detector.core.score import Score
from detector.lab.calibration import OwnUnits, calibrate
from detector.lab.offline_inference import UNMEASURED
from detector.lab.playback import Playback, play
from detector.lab.reservoir import draw
from detector.lab.scoring import scored
from detector.lab.synthetic import synthetic

F4 = NDArray[np.float32]
INPUTS = 128
"""Channels that have an input of the memory to themselves."""
READINGS = 4_096
"""Of a synthetic series."""
SETTLED = 200
"""Calibration leaves out so many readings of a series: its memory and its scales are still young there."""
CALIBRATION_SEEDS, CALIBRATION_SERIES = (7, 8), 256


def memory(hidden: int, seed: int) -> Network:
    """A memory of random weights with as many inputs as a stream may have channels; whoever has more shares them."""
    return Network.persistent(INPUTS, hidden, 1, draw(INPUTS, hidden, 1, np.random.default_rng(seed)))


def series(seed: int, count: int, readings: int) -> F4:
    """Synthetic series of one channel and one length, f4[S, T, 1]."""
    return np.stack(list(synthetic(seed, count, readings)))


def played(network: Network, values: F4) -> Playback:
    """Series f4[S, T, 1] as the service sees them, without alerts."""
    return play(UniversalModel("", "", network, UNMEASURED, Prior(0.0, 0.0)).model("", ("",)), values)


def calibrated(network: Network) -> tuple[Score, Prior]:
    """The score and its prior, measured on synthetic series."""
    values = np.concatenate([series(seed, CALIBRATION_SERIES, READINGS) for seed in CALIBRATION_SEEDS])
    found = played(network, values)
    value, x, e = (list(array[:, SETTLED:]) for array in (values, found.x, found.residual))
    own = [OwnUnits(bands[SETTLED:], weight[SETTLED:]) for bands, weight in zip(found.band_size, found.weight, strict=True)]
    score = calibrate(value, x, e, [0] * len(e), own)
    streams = zip(value, x, e, own, strict=True)
    priors = [Prior.fit(scored(score, v, x, e, units.bands, units.weight)[0][SETTLED:]) for v, x, e, units in streams]
    # What a usual stream shows: over all of them together, the excess would say how unlike they are.
    quantile, excess = (float(np.median([getattr(prior, name) for prior in priors])) for name in ("quantile", "excess"))
    return score, Prior(quantile, excess, YOUNG_READINGS)
