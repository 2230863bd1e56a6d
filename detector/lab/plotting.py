"""The picture of a training: losses, errors beside the baselines, scores of normal readings."""

from __future__ import annotations

import numpy as np

from detector.lab.drawing import new_figure, png
from detector.lab.train import Trained


def training_png(trained: Trained) -> bytes:
    """Draw it.

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
