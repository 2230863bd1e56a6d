"""A trained model, whole: all that judging needs and no more.

Two kinds:

    fleet      its memory, forecast, scaling and score were measured in training
    universal  judges any stream: scaling and forecast are the stream's own (`scaler.py`, `online_ridge.py`), and a score that was measured
               on one channel is tiled
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core import online_ridge, scaler, stopped
from detector.core.alarm import Prior
from detector.core.compiled_model import CompiledModel, Room, compile_model
from detector.core.forecast import Network
from detector.core.scaler import Scaling
from detector.core.score import Score
from detector.core.stream_state import Layout, Part, layout_of


@dataclass(frozen=True)
class Model:
    """What a bundle holds.

    name, fingerprint  of the bundle; the fingerprint covers weights and calibration
    channels           names of the D channels, in the order of the columns
    scaling            of all streams; None: every stream has a scaling, and a forecast, of its own
    """

    name: str
    fingerprint: str
    channels: tuple[str, ...]
    network: Network
    scaling: Scaling | None
    score: Score
    prior: Prior

    @property
    def is_universal(self) -> bool:
        """Whether streams measure themselves."""
        return self.scaling is None

    def layout(self) -> Layout:
        """The record of a stream."""
        d = len(self.channels)
        partial: list[Part] = [("partial", (d,), np.nan), ("has_partial", (d,), 0)]
        parts = [*self.network.parts, *self.score.parts, *stopped.parts(d), *partial]
        if self.is_universal:
            parts += [*scaler.online_parts(d), *online_ridge.parts(d, self.network.hidden)]
        return layout_of(parts, self.prior.starts)

    def compiled(self, layout: Layout) -> tuple[CompiledModel, Room]:
        """What the compiled code reads, and the room for a block."""
        described = [*self.network.describe(), self.score.describe(), scaler.describe(self.scaling, self.score.weight)]
        if self.is_universal:
            described.append(online_ridge.describe(len(self.channels), self.network.hidden))
        return compile_model(layout, described)


@dataclass(frozen=True)
class UniversalModel:
    """A model of any stream, before it is known which channels it will judge.

    fingerprint  of the bundle, whatever the channels
    network      a memory of many channels, of which as many are used as there are
    score        fitted on one channel
    """

    name: str
    fingerprint: str
    network: Network
    score: Score
    prior: Prior

    def model(self, fingerprint: str, channels: tuple[str, ...]) -> Model:
        """The model of these channels."""
        d = len(channels)
        return Model(self.name, fingerprint, channels, self.network.of_channels(d), None, self.score.tiled(d), self.prior)
