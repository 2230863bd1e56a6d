"""A trained model, whole: all that judging needs and no more.

Two kinds, with the same interface part by part:

    fleet      sees the D channels of its training together; scaling and score were measured in training
    universal  one channel at a time, of any stream: `SharedPredictor`, `RunningScaling`, and a score that was measured on one
               channel and is tiled
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.predictor import Predictor, SharedPredictor
from detector.core.running import RunningScaling
from detector.core.scaling import Scaling
from detector.core.scoring import BandScorer
from detector.core.threshold import Prior


@dataclass(frozen=True)
class Model:
    """What a bundle holds.

    name, fingerprint  of the bundle; the fingerprint covers weights and calibration
    channels           names of the D channels, in the order of the columns
    """

    name: str
    fingerprint: str
    channels: tuple[str, ...]
    predictor: Predictor | SharedPredictor
    scaling: Scaling | RunningScaling
    scorer: BandScorer
    prior: Prior

    def reach(self, units: Scaling) -> NDArray[np.floating[Any]]:
        """How far from what is expected 99 % of normal readings lie at most, engineering units, f[D]; f[B, D] where every stream has its own."""
        reach: NDArray[np.floating[Any]] = self.scorer.error_scale * units.residual * units.scale
        return reach


@dataclass(frozen=True)
class Universal:
    """A model of one channel, before it is known which channels it will judge.

    fingerprint  of the bundle, whatever the channels
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
        predictor = SharedPredictor(self.network, d)
        return Model(self.name, fingerprint, channels, predictor, RunningScaling(d), self.scorer.tiled(d), self.prior)
