"""`detector explain`: the gates and the cell state of one stream over time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from detector.cli.options import ModelName, names_in
from detector.errors import ConfigError, DataError


def explain(
    recording: Annotated[Path, typer.Argument(help="Recorded readings: .parquet, .csv or .tsv.", show_default=False)],
    name: Annotated[str | None, typer.Option("--name", help="The stream to explain; without it the recording's first.")] = None,
    out: Annotated[Path | None, typer.Option(help="Parquet file: one row per reading, each gate a list of its units.")] = None,
    picture: Annotated[Path | None, typer.Option(help="PNG of the gates over time (needs matplotlib).")] = None,
    model: ModelName = None,
    time: Annotated[str | None, typer.Option(help="Time column, if its name does not tell.")] = None,
    stream: Annotated[str | None, typer.Option(help="Stream column, if its name does not tell.")] = None,
    channels: Annotated[
        str | None,
        typer.Option(help="Columns of the model's channels, in its order, as a,b,c; a universal model's are all numeric ones without it."),
    ] = None,
) -> None:
    """Show the input, forget and output gates, candidate and cell state of one stream over time, by name.

    Example: [bold]detector explain week.parquet --name plant1/pump07 --picture gates.png[/bold]
    """
    if out is None and picture is None:
        raise ConfigError("say what to make", fix="give --out, --picture, or both")
    import numpy as np

    from detector.adapters.bundle import for_channels, read_bundle
    from detector.adapters.recordings.atomic_file import write_table
    from detector.adapters.recordings.reader import read_recording
    from detector.cli import wiring
    from detector.config import Config
    from detector.core.model import Model
    from detector.lab.explain import explain as gates_over_time
    from detector.lab.explain import gates_png, gates_table

    stored, names = read_bundle(model or Config().model).model, names_in(channels)
    wanted = wiring.columns(channels, stored.channels) if isinstance(stored, Model) else names
    recorded = read_recording(recording, time=time, stream=stream, channels=wanted)
    bundle = for_channels(stored, names or recorded.channels)
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
