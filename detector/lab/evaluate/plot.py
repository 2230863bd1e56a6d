"""The plot of one series and one detector: what was measured and expected, the score, the evidence, labels and alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from detector.lab.evaluate.alarms import episodes, evidence
from detector.lab.evaluate.detectors import Scorer
from detector.lab.evaluate.series import Series, calibration_start, runs
from detector.lab.plotting import new_figure, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CHANNELS_MAX = 3
NORMAL_SHARE = 0.99
"""The band around what was expected holds so much of the normal errors."""


def series_png(series: Series, scorer: Scorer, title: str, readings_per_alert: int) -> bytes:
    """Draw the test part: the channels that stray farthest from what was expected, the score, and the alarm at a budget.

    raises ConfigError  matplotlib is not installed (extra `train`)
    """
    n = len(series.train)
    scored = scorer(series.whole)
    calibration, deciding = scored.deciding[calibration_start(n) : n], scored.deciding[n:]
    expected = scored.expected if scored.expected is not None else np.tile(np.nanmean(series.train, axis=0), (len(scored.score), 1))
    band = np.nanquantile(np.abs(series.train - expected[:n]), NORMAL_SHARE, axis=0)
    strays = np.nanmean(np.abs(series.test - expected[n:]) / np.maximum(band, 1e-9), axis=0)
    chosen = np.argsort(-strays, kind="stable")[:CHANNELS_MAX].tolist()
    figure = new_figure(14, 1.7 * (len(chosen) + 2), without="leave out --plot")
    axes: list[Axes] = figure.subplots(len(chosen) + 2, 1, sharex=True).tolist()
    at = np.arange(len(series.test))
    for axis, k in zip(axes, chosen, strict=False):
        middle = expected[n:, k]
        axis.fill_between(at, middle - band[k], middle + band[k], color="C0", alpha=0.25, lw=0, label="expected")
        axis.plot(at, series.test[:, k], color="black", lw=0.6, label="measured")
        axis.set_ylabel(f"channel {k}")
    axes[0].legend(frameon=False, loc="upper left", ncols=2)
    axes[-2].plot(at, scored.score[n:], color="C1", lw=0.7)
    axes[-2].set_ylabel("score")
    gathered, needed = evidence(calibration, deciding, readings_per_alert)
    axes[-1].plot(at, np.minimum(gathered, 3 * needed.max()), color="C2", lw=0.8, label="evidence")
    axes[-1].plot(at, needed, color="C3", lw=0.8, ls="--", label="opens an alert")
    axes[-1].legend(frameon=False, loc="upper left", ncols=2)
    axes[-1].set(ylabel="alarm", xlabel="reading", yscale="symlog")
    alerts = episodes(calibration, deciding, readings_per_alert)
    for axis in axes:
        for start, end in runs(series.label):
            axis.axvspan(start, end, color="C3", alpha=0.15, lw=0)
        for alert in alerts:
            axis.axvline(alert.start, color="C3", lw=0.8)
    axes[0].set_title(f"{title}: {series.title}; shaded: labelled; lines: alerts at 1 per {readings_per_alert:,} readings", fontsize=10)
    return png(figure)
