"""What a person may choose of a training."""

from __future__ import annotations

from dataclasses import dataclass

from detector.core.forecast import Kind


@dataclass(frozen=True, slots=True)
class Options:
    """With defaults that suit most fleets.

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
