"""`detector inspect`: what a recording or a topic holds, before anything runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli.options import (
    ChannelColumns,
    ConfigFile,
    DecimalMark,
    Every,
    MissingValues,
    Servers,
    StreamColumn,
    TimeColumn,
    TimeFormat,
    Zone,
    overrides,
)
from detector.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from detector.cli.inspection_report import Inspection
    from detector.config import Config, FileInput
    from detector.tables.recording import Recording


def inspect(
    recording: Annotated[
        Path | None, typer.Argument(help="Recorded readings: .parquet, .csv, .tsv, .txt or .jsonl.", show_default=False)
    ] = None,
    write: Annotated[Path | None, typer.Option(help="Write a configuration for what was found to this file.")] = None,
    config: ConfigFile = None,
    time: TimeColumn = None,
    time_format: TimeFormat = None,
    zone: Zone = None,
    every: Every = None,
    stream: StreamColumn = None,
    channels: ChannelColumns = None,
    missing: MissingValues = None,
    decimal: DecimalMark = None,
    topic: Annotated[str | None, typer.Option("--topic", help="A topic instead; no group is joined, nothing is committed.")] = None,
    messages: Annotated[int, typer.Option(min=1, max=1_000_000, help="So many messages of the topic are looked at.")] = 5_000,
    bootstrap_servers: Servers = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as one JSON object.")] = False,
) -> None:
    """Say what a recording or a topic holds, and propose a configuration that judges it.

    Nothing is judged, and nothing is written but what --write names.

    Example: [bold]detector inspect export.csv --write detector.yaml[/bold]

    Example: [bold]detector inspect --topic sensors --bootstrap-servers kafka:9092 --write detector.yaml[/bold]
    """
    from detector.cli import recording_source
    from detector.config import load_config

    if (recording is None) == (topic is None):
        raise ConfigError(
            "say what to inspect: a recording or a topic", fix="detector inspect export.csv, or detector inspect --topic sensors"
        )
    settings = load_config(config, overrides=overrides(bootstrap_servers=bootstrap_servers))
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
    if recording is not None:
        found = of_recording(settings, recording, options)
    else:
        from detector.cli.inspect_topic import of_topic

        assert topic is not None
        found = of_topic(settings, topic, options, messages)
    if write is not None:
        _write(write, found.proposal or _nothing_to_write())
    if as_json:
        typer.echo(found.as_json())
        return
    for line in found.lines:
        typer.echo(line)
    if write is not None:
        typer.echo(f"proposed configuration -> {write}")
    elif found.proposal:
        typer.echo(f"\n{found.proposal}", nl=False)


def of_recording(settings: Config, path: Path, options: FileInput) -> Inspection:
    """Inspect a recording. Numbers that look like ones for a missing value are taken as such, as the proposed configuration does.

    raises DataError, ConfigError  it cannot be read as it is
    """
    from detector.adapters.recordings.files import is_json
    from detector.cli import recording_source
    from detector.inspection.proposal import for_recording, sentinels_of

    source = recording_source.open_source(settings, path, options)
    found = recording_source.as_recording(source)
    sentinels = sentinels_of(found.understanding.channels)
    if sentinels and source.recording is not None:
        options = options.model_copy(update={"missing_values": (*options.missing_values, *sentinels)})
        found = recording_source.as_recording(recording_source.open_source(settings, path, options))
    proposal = for_recording(path.name, found.understanding, options, sentinels) if source.recording is not None else ""
    if is_json(path) and source.recording is not None and (read := _as_messages(path, options, found, sentinels)) is not None:
        found, proposal = read
    return _inspection(settings, path.name, found, proposal, tuple(("missing?", why) for why in sentinels.values()))


def _as_messages(path: Path, options: FileInput, whole: Recording, sentinels: dict[float, str]) -> tuple[Recording, str] | None:
    """A file's messages as the service would read them, and a configuration that does; None: it would read less than there is."""
    import numpy as np

    from detector.adapters.recordings.json_lines import read_lines
    from detector.adapters.recordings.messages import as_messages
    from detector.cli import wiring
    from detector.core.readings import StreamNames
    from detector.inspection.messages import understand_messages
    from detector.inspection.proposal import configuration, for_messages
    from detector.tables.json_table import table_of

    lines, _ = read_lines(path)
    found = understand_messages(table_of(lines, options, path.name), options, path.name)
    if found.problem:
        return None
    understood = replace(found.recording.understanding, file=whole.understanding.file, lines=whole.understanding.lines)
    proposal = for_messages(path.name, None, understood, found.shape, None, sentinels)
    written = wiring.reading_format(configuration(proposal).input, found.recording.channels)
    decoded = wiring.value_decoder(written, StreamNames()).decode(as_messages(lines, path.name, path.name))
    lost = sum(reject.readings for reject in decoded.rejects)
    is_all = lost <= whole.rejected and np.isfinite(decoded.batch.value).sum() >= np.isfinite(whole.value).sum()
    return (replace(found.recording, understanding=understood), proposal) if is_all else None


def _inspection(settings: Config, name: str, found: Recording, proposal: str, extra: Sequence[tuple[str, str]]) -> Inspection:
    import numpy as np

    from detector.cli import wiring
    from detector.cli.inspection_report import Inspection
    from detector.inspection.facts import facts_of

    understood = found.understanding
    if not len(found):
        reason = understood.rejected[0].reason if understood.rejected else "all rows are empty"
        raise DataError(f"{name} holds no reading that can be read: {reason}", fix="name the columns with --time and --channels")
    facts = facts_of(found.streams, found.stream, found.event_time_us)
    not_judged = Counter(row.reason for row in understood.rejected)
    if understood.lines_unkept:
        not_judged["lines that do not fit"] += understood.lines_unkept
    if empty := int(np.isnan(found.value).all(axis=1).sum()):
        not_judged["empty: without any of the channels"] = empty
    need = wiring.estimated(settings, facts.streams, facts.rate_hz, found.channels)
    return Inspection(name, understood, facts, need, dict(not_judged), proposal, extra=extra)


def _nothing_to_write() -> str:
    raise ConfigError("the configuration says already how messages are read", fix="leave out --write, or --config")


def _write(path: Path, text: str) -> None:
    """raises ConfigError  the file is there already, or cannot be written"""
    if path.exists():
        raise ConfigError(f"{path} is there already", fix="name another file with --write, or remove it first")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", fix="name another file with --write") from None
