"""`detector train`: trains a bundle on readings of normal operation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from detector.cli.options import ConfigFile, Servers, overrides
from detector.cli.training import LINES_EVERY_S, Work
from detector.errors import ConfigError, DataError

if TYPE_CHECKING:
    from detector.config import Config
    from detector.lab.sequences import Recorded

DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
QUICK_S_MIN, PRODUCTS_PER_S = 3.0, 1e10
"""Of a quick fit: what it takes however little there is to read, and what one core of a server multiplies; measured on an AMD EPYC."""


def train(
    recordings: Annotated[
        list[Path] | None, typer.Argument(help="Recordings of normal operation: Parquet or CSV.", show_default=False)
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the bundle; its last part is the model's name.")] = Path("models/mine"),
    time: Annotated[str | None, typer.Option(help="Time column, if its name does not tell.")] = None,
    stream: Annotated[str | None, typer.Option(help="Stream column, if its name does not tell.")] = None,
    channels: Annotated[str | None, typer.Option(help="Channels, as a,b,c; without it all other numeric columns.")] = None,
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
    from detector.config import load_config
    from detector.lab.options import Options
    from detector.lab.train import require_torch

    if not quick:
        require_torch()
    wanted = tuple(channels.split(",")) if channels else None
    if topic is not None:
        settings = load_config(config, overrides=overrides(bootstrap_servers=bootstrap_servers))
        names, sequences = _from_topic(settings, topic, _us(begin), _us(end), wanted)
    else:
        names, sequences = _from_files(recordings or [], time, stream, wanted)
    streams, readings = len({sequence.stream for sequence in sequences}), sum(map(len, sequences))
    typer.echo(f"{readings:,} readings of {streams} streams, {len(names)} channels: {', '.join(names)}")
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
    work = Work(out, names, sequences, data, with_picture=picture)
    if quick or kind != "prediction":
        work.save(work.train(options), options)
    else:
        work.train_in_two(options)


def _quick_s(readings: int, channels: int, hidden: int, layers: int) -> float:
    """About how long a quick fit takes, seconds: every reading goes through the network and into the sums of the head."""
    features = 2 * hidden + 5 * channels + 1
    return QUICK_S_MIN + readings * (4 * layers * hidden * (hidden + channels) + features**2) / PRODUCTS_PER_S


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.replace(tzinfo=UTC).timestamp()) * 1_000_000


def _from_files(
    paths: Sequence[Path], time: str | None, stream: str | None, channels: tuple[str, ...] | None
) -> tuple[tuple[str, ...], list[Recorded]]:
    """Channels and sequences of several recordings; a stream that occurs in several of them is one stream."""
    import numpy as np

    from detector.adapters.recordings.reader import read_recording
    from detector.lab.sequences import sequences_of

    recordings = [read_recording(path, time=time, stream=stream, channels=channels) for path in paths]
    names = recordings[0].channels
    for path, recording in zip(paths, recordings, strict=True):
        if recording.channels != names:
            raise DataError(
                f"{path.name} has the channels {', '.join(recording.channels)}; {paths[0].name} has {', '.join(names)}",
                fix="name those that all files have with --channels",
            )
    index: dict[str, int] = {}
    for recording in recordings:
        for name in recording.streams:
            index.setdefault(name, len(index))
    stream_id = np.concatenate([np.array([index[name] for name in r.streams], np.int32)[r.stream] for r in recordings])
    event_time_us = np.concatenate([r.event_time_us for r in recordings])
    value = np.concatenate([r.value for r in recordings]).astype(np.float32)
    return names, sequences_of(stream_id, list(index), event_time_us, value)


def _from_topic(
    settings: Config, topic: str, from_us: int | None, to_us: int | None, channels: tuple[str, ...] | None
) -> tuple[tuple[str, ...], list[Recorded]]:
    """Channels and sequences of a topic's messages, whole readings only."""
    import numpy as np

    from detector.adapters.kafka.topic_io import TopicReader
    from detector.cli.wiring import reading_format
    from detector.codec.readings import JsonReadings
    from detector.core.readings import StreamNames
    from detector.lab.sequences import sequences_of

    names = channels or settings.input.channels
    if names is None:
        raise ConfigError(
            "nothing says which fields of the messages are channels", fix="give --channels, or input.channels in the configuration"
        )
    if settings.input.long_format is not None:
        raise ConfigError("a topic in long format cannot be trained on directly", fix="record whole readings to a file first")
    streams = StreamNames()
    decoder = JsonReadings(reading_format(settings.input, names), streams)
    batches, rejected, read, next_line_s = [], 0, 0, monotonic() + LINES_EVERY_S
    with TopicReader(settings.kafka_properties(), topic, from_us=from_us, to_us=to_us) as reader:
        for messages in reader.batches():
            decoded = decoder.decode(messages)
            rejected += sum(reject.readings for reject in decoded.rejects)
            batches.append(decoded.batch)
            read += len(decoded.batch)
            if monotonic() >= next_line_s:
                next_line_s = monotonic() + LINES_EVERY_S
                typer.echo(f"{read:,} readings so far", err=True)
    if not batches or not any(map(len, batches)):
        raise DataError(
            f"there are no readings in {topic} at that time; {rejected} messages could not be read", fix="check --from, --to and `input:`"
        )
    if rejected:
        typer.echo(f"{rejected:,} readings could not be read and are left out", err=True)
    return names, sequences_of(
        np.concatenate([batch.stream_id for batch in batches]),
        [streams.name(stream_id) for stream_id in range(streams.ids_end)],
        np.concatenate([batch.event_time_us for batch in batches]),
        np.concatenate([batch.value for batch in batches]),
    )
