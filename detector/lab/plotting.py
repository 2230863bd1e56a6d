"""Plots as PNG, drawn by matplotlib, which is an extra: what all of them need, and the plot of a training."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from detector.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from detector.lab.train import Trained


def new_figure(width: float, height: float, *, without: str) -> Figure:
    """An empty figure, inches. without: the option that does without the plot.

    raises ConfigError  matplotlib is not installed (extra `train`)
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("a picture needs matplotlib", fix=f"pip install 'detector[train]', or {without}") from None
    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=110)
    return file.getvalue()


def training_png(trained: Trained) -> bytes:
    """Losses over epochs, errors beside those of the baselines, scores of normal readings.

    raises ConfigError  matplotlib is not installed (extra `train`)
    """
    figure = new_figure(12, 3.6, without="pass --no-picture")
    losses, errors, scores = figure.subplots(1, 3)

    numbers = [epoch.number for epoch in trained.epochs]
    losses.plot(numbers, [epoch.train_loss for epoch in trained.epochs], label="train")
    losses.plot(numbers, [epoch.held_out_loss for epoch in trained.epochs], label="held out")
    best = min(trained.epochs, key=lambda epoch: epoch.held_out_loss)
    losses.plot(best.number, best.held_out_loss, "o", color="C1", label="kept")
    losses.axhline(1, color="grey", lw=0.8, ls=":")
    losses.set(title="error relative to persistence", xlabel="epoch")
    losses.legend(frameon=False)

    channels = trained.model.channels
    at = np.arange(len(channels))
    for k, (name, error) in enumerate(trained.errors.items()):
        errors.bar(at + 0.27 * (k - 1), error / np.maximum(trained.errors["persistence"], 1e-9), 0.25, label=name)
    labels = channels if len(channels) <= 12 else [""] * len(channels)
    errors.set_xticks(at, labels, rotation=30, ha="right")
    errors.set(title="error on readings no weight saw\n(persistence = 1)")
    errors.legend(frameon=False)

    scores.hist(trained.scores, bins=100, log=True, color="C0")
    scores.axvline(trained.model.prior.quantile, color="C3", lw=1, label="95 % quantile")
    scores.set(title="scores of normal readings", xlabel="score", ylabel="readings")
    scores.legend(frameon=False)
    return png(figure)
