"""A trained model, whole: all that judging needs and no more.

Two kinds, with the same interface part by part:

    fleet      its memory and what is read from it, its scaling and score were measured in training
    universal  judges any stream: its scaling and what is read from its memory are the stream's own (`RunningScaling`,
               `RunningReadout`), and a score that was measured on one channel is tiled
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.predictor import Predictor
from detector.core.readout import RunningReadout
from detector.core.running import RunningScaling
from detector.core.scaling import Scaling
from detector.core.scoring import BandScorer
from detector.core.threshold import Prior


@dataclass(frozen=True)
class Model:
    """What a bundle holds.

    name, fingerprint  of the bundle; the fingerprint covers weights and calibration
    channels           names of the D channels, in the order of the columns
    readout            what each stream learns to read from its memory; None: the predictor knows
    """

    name: str
    fingerprint: str
    channels: tuple[str, ...]
    predictor: Predictor
    scaling: Scaling | RunningScaling
    scorer: BandScorer
    prior: Prior
    readout: RunningReadout | None = None

    def reach(self, units: Scaling) -> NDArray[np.floating[Any]]:
        """How far from what is expected 99 % of normal readings lie at most, engineering units, f[D]; f[B, D] where every stream has its own."""
        reach: NDArray[np.floating[Any]] = self.scorer.error_scale * units.residual * units.scale
        return reach


@dataclass(frozen=True)
class Universal:
    """A model of any stream, before it is known which channels it will judge.

    fingerprint  of the bundle, whatever the channels
    network      a memory of many channels, of which as many are used as there are
    scorer       fitted on one channel
    """

    name: str
    fingerprint: str
    network: Predictor
    scorer: BandScorer
    prior: Prior

    def model(self, fingerprint: str, channels: tuple[str, ...]) -> Model:
        """The model of these channels."""
        d = len(channels)
        scorer, readout = self.scorer.tiled(d), RunningReadout(d, self.network.hidden)
        return Model(self.name, fingerprint, channels, self.network.of_channels(d), RunningScaling(d), scorer, self.prior, readout)
