"""`detector explain`: the gates and the cell state of one stream over time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detector.cli.options import (
    ChannelColumns,
    ConfigFile,
    DecimalMark,
    Every,
    MissingValues,
    ModelName,
    StreamColumn,
    TimeColumn,
    TimeFormat,
    Zone,
    names_in,
    overrides,
)
from detector.cli.replay import columns
from detector.errors import ConfigError, DataError


def explain(
    recording: Annotated[Path, typer.Argument(help="Recorded readings: .parquet, .csv, .tsv, .txt or .jsonl.", show_default=False)],
    name: Annotated[str | None, typer.Option("--name", help="The stream to explain; without it the recording's first.")] = None,
    out: Annotated[Path | None, typer.Option(help="Parquet file: one row per reading, each gate a list of its units.")] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG of the gates over time (needs matplotlib).")] = None,
    model: ModelName = None,
    time: TimeColumn = None,
    time_format: TimeFormat = None,
    zone: Zone = None,
    every: Every = None,
    stream: StreamColumn = None,
    channels: ChannelColumns = None,
    missing: MissingValues = None,
    decimal: DecimalMark = None,
    config: ConfigFile = None,
) -> None:
    """Show the input, forget and output gates, candidate and cell state of one stream over time, by name.

    Example: [bold]detector explain week.parquet --name plant1/pump07 --picture gates.png[/bold]
    """
    if out is None and picture is None:
        raise ConfigError("say what to make", fix="give --out, --picture, or both")
    import numpy as np

    from detector.adapters.bundle import for_channels, read_bundle
    from detector.adapters.recordings.atomic_file import write_table
    from detector.cli import recording_source
    from detector.config import load_config
    from detector.core.model import Model
    from detector.lab.explain import explain as gates_over_time
    from detector.lab.explain import gates_png, gates_table

    settings = load_config(config, overrides=overrides(model))
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
    recorded = recording_source.as_recording(recording_source.open_source(settings, recording, options, wanted))
    bundle = for_channels(stored, recorded.channels if not isinstance(stored, Model) else names_in(channels))
    name = name or recorded.streams[0]
    if name not in recorded.streams:
        raise DataError(f"{recording.name} has no stream {name!r}", fix=f"it has {', '.join(recorded.streams[:10])}")
    at = np.flatnonzero(recorded.stream == recorded.streams.index(name))
    at = at[np.argsort(recorded.event_time_us[at], kind="stable")]
    event_time_us, value = recorded.event_time_us[at], recorded.value[at].astype(np.float32)
    found, network = gates_over_time(bundle, value), bundle.network
    if out is not None:
        write_table(out, gates_table(event_time_us, found))
    if picture is not None:
        picture.write_bytes(gates_png(bundle, event_time_us, found))
    typer.echo(f"{len(at)} readings of {name}, {network.layers} x {network.hidden} units -> {out or picture}")
