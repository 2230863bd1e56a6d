"""The set HOME of `detector evaluate`: how calm alerts are on machines without faults, and on recordings as people keep them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.cli import calm_lines
from detector.cli.progress import progress_bar
from detector.inspection.facts import period

if TYPE_CHECKING:
    from rich.table import Table

    from detector.lab.calm import Calm
    from detector.lab.evaluate.home import HomeRecording

SEED = 7
RECORDINGS = (".csv", ".tsv", ".txt", ".parquet")


def calm_of_home(data: Path | None, model: str, left: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Per plant and recording how calm alerts are, with the settings that ship.

    data   a folder with recordings; None: plants only
    model  a universal bundle
    left   is told of files that cannot be read, and why

    raises BundleError  the bundle judges channels of its own only
    """
    from detector.adapters.bundle import load_bundle
    from detector.core.rules import Settings
    from detector.lab.evaluate.home import PLANTS, calm_of, simulated

    found: dict[str, dict[str, Any]] = {}
    settings = Settings()
    recordings = [*_recordings(data, left)] if data is not None else []
    with progress_bar() as progress:
        task = progress.add_task("HOME", total=len(PLANTS) + len(recordings))
        for recording in chain((simulated(plant, SEED) for plant in PLANTS), recordings):
            calm = calm_of(recording, load_bundle(model, recording.channels), settings)
            found[recording.name] = _figures(calm, settings.budget_period_us / calm_lines.SECOND_US)
            progress.advance(task)
    return found


def _figures(calm: Calm, period_s: float) -> dict[str, Any]:
    return {"readings": calm.readings, **calm_lines.as_json(calm, period_s)}


def _recordings(data: Path, left: dict[str, str]) -> Iterator[HomeRecording]:
    """Recordings of a folder, as `inspect` proposes to read them."""
    import numpy as np

    from detector.adapters.recordings.reader import read_recording
    from detector.config import FileInput
    from detector.errors import DetectorError
    from detector.inspection.proposal import sentinels_of
    from detector.lab.evaluate.home import HomeRecording

    for path in sorted(path for path in data.iterdir() if path.suffix in RECORDINGS):
        try:
            read = read_recording(path)
            if sentinels := sentinels_of(read.understanding.channels):
                read = read_recording(path, FileInput(missing_values=tuple(sentinels)))
        except DetectorError as why:
            left[str(path)] = str(why)
            continue
        yield HomeRecording(path.name, read.streams, read.stream, read.event_time_us, read.value.astype(np.float32), read.channels)


def table(found: dict[str, dict[str, Any]]) -> Table:
    """A row per plant and recording."""
    from rich.table import Table

    shown = Table(title="HOME: how calm alerts are where nothing is wrong; default settings, 1 false alert per stream per week")
    for column in ("", "readings", "inside an alert", "alerts", "of the budget", "median", "longest", "first channel outside its band"):
        shown.add_column(column, justify="right" if column else "left")
    for name, one in found.items():
        shown.add_row(
            name,
            f"{one['readings']:,}",
            f"{one['inside_share']:.1%}",
            f"{one['opened'].get('score', 0):,}",
            f"{one['over_budget']:.2f}",
            period(one["median_s"] * calm_lines.SECOND_US) if one["median_s"] else "-",
            period(one["longest_s"] * calm_lines.SECOND_US) if one["longest_s"] else "-",
            f"{one['named_outside_band']} of {one['named']}",
        )
    return shown
