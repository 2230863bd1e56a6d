"""`detector replay`: the same core as the service, without Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli.options import ConfigFile, ModelName, names_in, overrides
from detector.cli.progress import progress_bar

if TYPE_CHECKING:
    from detector.adapters.recordings.file_log import FileLog
    from detector.core.detector import Detector
    from detector.service.worker import Worker

Columns = Annotated[
    str | None,
    typer.Option(
        "--channels", help="Columns of the model's channels, in its order, as a,b,c; a universal model's are all numeric ones without it."
    ),
]


def replay(
    recording: Annotated[Path, typer.Argument(help="Recorded readings: .parquet, .csv, .tsv or .jsonl.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Parquet file of verdicts: one row per reading, in the recording's order.")],
    model: ModelName = None,
    alerts: Annotated[Path | None, typer.Option(help="File of alerts, one JSON object per line.")] = None,
    dead_letters: Annotated[Path | None, typer.Option(help="File of what could not be read, one JSON object per line.")] = None,
    config: ConfigFile = None,
    time: Annotated[str | None, typer.Option(help="Time column, if its name does not tell.")] = None,
    stream: Annotated[str | None, typer.Option(help="Stream column, if its name does not tell.")] = None,
    channels: Columns = None,
) -> None:
    """Judge recorded readings as the service would, and write every verdict to a file.

    Example: [bold]detector replay week.parquet --model models/mine --out verdicts.parquet --alerts alerts.jsonl[/bold]
    """
    from detector.adapters.bundle import for_channels, read_bundle
    from detector.adapters.recordings.file_log import FileLog, is_table
    from detector.adapters.recordings.reader import read_recording
    from detector.adapters.recordings.verdict_file import VerdictFile
    from detector.cli import logs, wiring
    from detector.config import load_config
    from detector.core.detector import Detector
    from detector.core.model import UniversalModel

    settings = load_config(config, overrides=overrides(model))
    logs.configure("warning", settings.log.format)
    stored = read_bundle(settings.model).model
    names = names_in(channels) or settings.input.channels
    if names is None and isinstance(stored, UniversalModel) and is_table(recording):
        names = read_recording(recording, time=time, stream=stream).channels
    bundle = for_channels(stored, names)
    columns = wiring.columns(channels, bundle.channels)
    written = wiring.reading_format(settings.input, bundle.channels)
    log = FileLog(recording, time=time, stream=stream, channels=columns, format=written, alerts=alerts, dead_letters=dead_letters)
    detector = Detector(bundle, wiring.settings(settings))
    with VerdictFile(out, detector.names) as verdict_file:
        worker = wiring.worker(log, log.format, detector, settings, [verdict_file])
        _step_to_the_end(worker, log, recording.name)
        _summarise(worker, detector, out)


def _step_to_the_end(worker: Worker, log: FileLog, name: str) -> None:
    """Step until the recording is read; on a terminal with a progress bar."""
    try:
        worker.step()  # takes the partition
        total = left = sum(log.lag().values()) + worker.stats.messages
        with progress_bar() as progress:
            task = progress.add_task(name, total=total)
            while left:
                worker.step()
                left = sum(log.lag().values())
                progress.update(task, completed=total - left)
        worker.drain()
    finally:
        worker.close()


def _summarise(worker: Worker, detector: Detector, out: Path) -> None:
    stats = worker.stats
    dead = sum(stats.dead_letters.values())
    ignored = "".join(f", {count} ignored as {what}" for what, count in (("late", stats.late), ("duplicates", stats.duplicates)) if count)
    typer.echo(
        f"{stats.readings} readings of {detector.streams} streams{ignored}, {stats.alerts_opened} alerts, {dead} dead letters -> {out}"
    )
