"""A trained model, whole: all that judging needs and no more."""

from __future__ import annotations

from dataclasses import dataclass

from detector.core.predictor import Predictor
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
    predictor: Predictor
    scaling: Scaling
    scorer: BandScorer
    prior: Prior
