"""`detector train`: trains a bundle on readings of normal operation."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer

from detector.cli.options import (
    AsJson,
    ChannelColumns,
    ConfigFile,
    DecimalMark,
    Every,
    MissingValues,
    Servers,
    StreamColumn,
    Strict,
    TimeColumn,
    TimeFormat,
    Zone,
    overrides,
)
from detector.cli.training import Work
from detector.errors import ConfigError

DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
QUICK_S_MIN, PRODUCTS_PER_S = 3.0, 1e10
"""Of a quick fit: what it takes however little there is to read, and what one core of a server multiplies; measured on an AMD EPYC."""


def train(
    recordings: Annotated[
        list[Path] | None, typer.Argument(help="Recordings of normal operation: Parquet, CSV or JSON lines.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the bundle; its last part is the model's name.")] = Path("models/mine"),
    time: TimeColumn = None,
    time_format: TimeFormat = None,
    zone: Zone = None,
    every: Every = None,
    stream: StreamColumn = None,
    channels: ChannelColumns = None,
    missing: MissingValues = None,
    decimal: DecimalMark = None,
    topic: Annotated[
        str | None, typer.Option(help="Train on a topic's messages instead, read as the configuration's `input:` says.")
    ] = None,
    begin: Annotated[datetime | None, typer.Option("--from", formats=DATES, help="First log time to read from the topic, UTC.")] = None,
    end: Annotated[datetime | None, typer.Option("--to", formats=DATES, help="Log time before which to stop, UTC.")] = None,
    kind: Annotated[Literal["prediction", "reconstruction"], typer.Option(help="What the network learns to do.")] = "prediction",
    hidden: Annotated[int, typer.Option(min=1, max=1024, help="Units per layer.")] = 64,
    layers: Annotated[int, typer.Option(min=1, max=8, help="Stacked cells.")] = 1,
    dropout: Annotated[float, typer.Option(min=0, max=0.9, help="Share of units left out while learning.")] = 0.0,
    noise: Annotated[
        float | None, typer.Option(min=0, help="Noise fed while learning, standard deviations; 0.3 for reconstruction.")
    ] = None,
    window: Annotated[int, typer.Option(min=8, max=4096, help="Readings of truncated back-propagation.")] = 256,
    epochs: Annotated[int, typer.Option(min=1, help="At most so many passes over the data.")] = 200,
    minutes: Annotated[float, typer.Option(min=0.01, help="At most so many minutes.")] = 30.0,
    quick: Annotated[bool, typer.Option("--quick", help="A random memory with a head in closed form: seconds instead of minutes.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed on the same machine gives the same weights.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, or auto: a GPU where there is one.")] = "auto",
    picture: Annotated[bool, typer.Option(help="Draw the training (needs matplotlib).")] = True,
    bootstrap_servers: Servers = None,
    config: ConfigFile = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Train a model on recordings of normal operation, and say in plain words whether it is worth having.

    First it writes what --quick gives, so that there is a model to use and to keep with Ctrl-C; a model that is there already stays until
    the end. The trained one takes its place if its error is smaller on readings that no weight saw. It trains on one core: threads wait
    for each other at every step of so small a network; for one of many hundred units set OMP_NUM_THREADS.

    Example: [bold]detector train january.parquet february.parquet --out models/mine[/bold]

    Example: [bold]detector train january.parquet --quick --out models/first[/bold]

    Example: [bold]detector train --topic sensors --from 2026-11-01 --to 2026-11-14 --channels temperature,rpm --out models/mine[/bold]
    """
    if bool(recordings) == (topic is not None):
        raise ConfigError("say what to train on: recordings or a topic", fix="give files, or --topic")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # read when numpy and torch are imported
        os.environ.setdefault(name, "1")
    data = f"topic {topic}" if topic is not None else ", ".join(path.name for path in recordings or [])
    typer.echo(f"reading {data} ...", err=True)
    from detector.cli import recording_source, training_data
    from detector.config import load_config
    from detector.lab.options import Options
    from detector.lab.train import require_torch

    if not quick:
        require_torch()
    settings = load_config(config, overrides=overrides(bootstrap_servers=bootstrap_servers))
    file = recording_source.file_options(
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
    if topic is not None:
        taken = training_data.from_topic(settings, topic, _us(begin), _us(end), file.channels)
    else:
        taken = training_data.from_files(settings, recordings or [], file)
    names, sequences, report = taken.channels, taken.sequences, taken.report
    readings = sum(map(len, sequences))
    for line in taken.lines:
        typer.echo(line, err=as_json)
    report.end(
        f"{readings:,} readings of {report.streams:,} stream{'s' * (report.streams != 1)}, {len(names)} channels: {', '.join(names)}",
        is_strict=strict,
        to_error=as_json,
    )
    quick_s = f"in about {_quick_s(readings, len(names), hidden, layers):.0f} s on an idle core"
    trained_in = f"training for at most {minutes:g} min (--minutes)"
    typer.echo(
        f"a model {quick_s}" if quick else trained_in if kind != "prediction" else f"a first model {quick_s}, then {trained_in}", err=True
    )
    options = Options(
        kind=kind,
        hidden=hidden,
        layers=layers,
        dropout=dropout,
        window_readings=window,
        epochs_max=epochs,
        minutes_max=minutes,
        noise=noise if noise is not None else 0.3 if kind == "reconstruction" else 0.0,
        seed=seed,
        device=device,
        is_quick=quick,
    )
    work = Work(out, names, sequences, data, with_picture=picture, to_error=as_json)
    if quick or kind != "prediction":
        work.save(work.train(options), options)
    else:
        work.train_in_two(options)
    if as_json:
        typer.echo(report.as_json(model=str(out)))


def _quick_s(readings: int, channels: int, hidden: int, layers: int) -> float:
    """About how long a quick fit takes, seconds: every reading goes through the network and into the sums of the head."""
    features = 2 * hidden + 5 * channels + 1
    return QUICK_S_MIN + readings * (4 * layers * hidden * (hidden + channels) + features**2) / PRODUCTS_PER_S


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.replace(tzinfo=UTC).timestamp()) * 1_000_000
