"""`detector replay`: the same core as the service, without Kafka."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli.options import (
    AsJson,
    ChannelColumns,
    ConfigFile,
    DecimalMark,
    Every,
    MissingValues,
    ModelName,
    StreamColumn,
    Strict,
    TimeColumn,
    TimeFormat,
    Zone,
    names_in,
    overrides,
)
from detector.cli.progress import progress_bar
from detector.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from detector.adapters.recordings.file_log import FileLog
    from detector.cli.recording_source import Source
    from detector.codec.reading_format import ReadingFormat
    from detector.core.model import Model
    from detector.service.worker import Worker


def replay(
    recording: Annotated[Path, typer.Argument(help="Recorded readings: .parquet, .csv, .tsv, .txt or .jsonl.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Parquet file of verdicts: one row per reading, in the order in which they were judged.")],
    model: ModelName = None,
    alerts: Annotated[Path | None, typer.Option(help="File of alerts, one JSON object per line.")] = None,
    dead_letters: Annotated[Path | None, typer.Option(help="File of what could not be read, one JSON object per line.")] = None,
    config: ConfigFile = None,
    time: TimeColumn = None,
    time_format: TimeFormat = None,
    zone: Zone = None,
    every: Every = None,
    stream: StreamColumn = None,
    channels: ChannelColumns = None,
    missing: MissingValues = None,
    decimal: DecimalMark = None,
    summary: Annotated[bool, typer.Option("--summary", help="Also say how long and how often alerts were open.")] = False,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Judge recorded readings as the service would, and write every verdict to a file.

    A file that is not in the order of its times is sorted. JSON messages are read as the configuration's `input:` says; without one, as a
    table of their fields. At the end stands what was taken for what, and what was left.

    Example: [bold]detector replay week.parquet --model models/mine --out verdicts.parquet --alerts alerts.jsonl[/bold]

    Example: [bold]detector replay export.csv --time Date,Time --zone Europe/Berlin --missing -200 --out verdicts.parquet[/bold]
    """

    from detector.adapters.bundle import for_channels, read_bundle
    from detector.adapters.recordings.verdict_file import VerdictFile
    from detector.cli import calm_lines, logs, recording_source, wiring
    from detector.cli.reading_report import ReadingReport, Tally
    from detector.config import load_config
    from detector.core.detector import Detector
    from detector.core.model import Model
    from detector.lab.calm import CalmTally

    settings = load_config(config, overrides=overrides(model))
    logs.configure("warning", settings.log.format)
    options = recording_source.file_options(
        settings,
        time=time,
        time_format=time_format,
        zone=zone,
        every=every,
        stream=stream,
        channels=channels,
        missing=missing,
        decimal=decimal,
    )
    stored = read_bundle(settings.model).model
    wanted = columns(options.channels, stored) if isinstance(stored, Model) else options.channels
    source = recording_source.open_source(settings, recording, options, wanted)
    bundle = for_channels(stored, source.channels if not isinstance(stored, Model) else names_in(channels))
    log, written = _log(source, alerts, dead_letters)
    report = ReadingReport(recording.name, source.channels, source.understanding)
    detector, tally = Detector(bundle, wiring.settings(settings)), CalmTally()
    with VerdictFile(out, detector.names) as verdict_file:
        observers = [verdict_file, Tally(report), *([calm_lines.CalmObserver(tally)] if summary else [])]
        worker = wiring.worker(log, written, detector, settings, observers)
        _step_to_the_end(worker, log, recording.name)
    report.counts["invalid"] += source.understanding.lines_unkept
    report.streams = detector.streams
    alerts_opened = worker.stats.alerts_opened
    budget_s = settings.alerts.budget_period_us / calm_lines.SECOND_US
    if as_json:
        calm = {"calm": calm_lines.as_json(tally.calm, budget_s)} if summary else {}
        typer.echo(report.as_json(alerts=alerts_opened, verdicts=str(out), **calm))
    else:
        for line in [*report.lines(), *(calm_lines.lines(tally.calm, settings.alerts.budget, budget_s) if summary else [])]:
            typer.echo(line)
    last = f"{report.total:,} readings of {report.streams:,} stream{'s' * (report.streams != 1)}, {alerts_opened:,} alert{'s' * (alerts_opened != 1)} -> {out}"
    report.end(last, is_strict=strict, to_error=as_json)


def columns(given: Sequence[str] | None, model: Model) -> Sequence[str]:
    """The columns of a recording that are the model's channels, in its order.

    raises BundleError  their number is not the model's
    """
    if given is None:
        return model.channels
    if len(given) != len(model.channels):
        raise BundleError(
            f"the model has {len(model.channels)} channels ({', '.join(model.channels)}), --channels names {len(given)}",
            fix="name one column per channel of the model, in its order, or choose another model",
        )
    return given


def _log(source: Source, alerts: Path | None, dead_letters: Path | None) -> tuple[FileLog, ReadingFormat]:
    """The recording as a log, and how its messages are decoded."""
    from detector.adapters.recordings.file_log import FileLog, recorded_format

    name = source.path.name
    if source.recording is not None:
        log = FileLog.of_recording(source.recording, name, alerts=alerts, dead_letters=dead_letters)
        return log, recorded_format(source.channels)
    assert source.lines is not None
    assert source.format is not None
    return FileLog.of_lines(source.lines, name, alerts=alerts, dead_letters=dead_letters), source.format


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
