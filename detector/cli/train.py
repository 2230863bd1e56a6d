"""`detector train`: normal readings in, a bundle out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from detector.cli.options import ConfigFile, Servers, overrides
from detector.errors import ConfigError, DataError

if TYPE_CHECKING:
    from detector.config import Config
    from detector.lab.sequences import Recorded
    from detector.lab.train import Epoch, Options, Trained

DATES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]


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

    Example: [bold]detector train january.parquet february.parquet --out models/mine[/bold]

    Example: [bold]detector train january.parquet --quick --out models/first[/bold]

    Example: [bold]detector train --topic sensors --from 2026-11-01 --to 2026-11-14 --channels temperature,rpm --out models/mine[/bold]
    """
    if bool(recordings) == (topic is not None):
        raise ConfigError("say what to train on: recordings or a topic", fix="give files, or --topic")
    from detector.config import load_config
    from detector.lab.train import Options
    from detector.lab.train import train as train_model

    wanted = tuple(channels.split(",")) if channels else None
    if topic is not None:
        settings = load_config(config, overrides=overrides(bootstrap_servers=bootstrap_servers))
        names, sequences = _from_topic(settings, topic, _us(begin), _us(end), wanted)
        data = f"topic {topic}"
    else:
        names, sequences = _from_files(recordings or [], time, stream, wanted)
        data = ", ".join(path.name for path in recordings or [])
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
    streams, readings = len({sequence.stream for sequence in sequences}), sum(map(len, sequences))
    typer.echo(f"{readings:,} readings of {streams} streams, {len(names)} channels: {', '.join(names)}")
    with _Progress(options) as progress:
        trained = train_model(sequences, names, options, progress.tell)
    _save(out, trained, options, data, with_picture=picture)


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.replace(tzinfo=UTC).timestamp()) * 1_000_000


def _from_files(
    paths: Sequence[Path], time: str | None, stream: str | None, channels: tuple[str, ...] | None
) -> tuple[tuple[str, ...], list[Recorded]]:
    """Channels and sequences of several recordings; a stream that occurs in several of them is one stream."""
    import numpy as np

    from detector.adapters.recording import read_recording
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

    from detector.adapters.kafka_io import TopicReader
    from detector.cli.wiring import reading_format
    from detector.codec.readings import JsonReadings
    from detector.core.readings import StreamNames
    from detector.lab.sequences import sequences_of

    names = channels or settings.input.channels
    if names is None:
        raise ConfigError(
            "nothing says which fields of the messages are channels", fix="give --channels, or input.channels in the configuration"
        )
    if settings.input.narrow is not None:
        raise ConfigError("a topic of narrow readings cannot be trained on directly", fix="record whole readings to a file first")
    streams = StreamNames()
    decoder = JsonReadings(reading_format(settings.input, names), streams)
    batches, rejected = [], 0
    with TopicReader(settings.kafka_properties(), topic, from_us=from_us, to_us=to_us) as reader:
        for messages in reader.batches():
            decoded = decoder.decode(messages)
            rejected += sum(reject.readings for reject in decoded.rejects)
            batches.append(decoded.batch)
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


def _save(out: Path, trained: Trained, options: Options, data: str, *, with_picture: bool) -> None:
    """Write the bundle and say what came of it."""
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from detector.adapters.bundle import Bundle, save_bundle
    from detector.lab.picture import training_png

    channels = trained.model.channels
    about = {
        "data": data,
        "options": asdict(options),
        "device": trained.device,
        "split": trained.split.by,
        "epochs": len(trained.epochs),
        "errors": {name: dict(zip(channels, error.round(6).tolist(), strict=True)) for name, error in trained.errors.items()},
        "verdict": trained.verdict,
    }
    model = save_bundle(out, Bundle(trained.model, about, training_png(trained) if with_picture else b""))
    console = Console()
    table = Table("channel", *trained.errors, title="mean error on readings no weight saw, standard deviations of the channel")
    for k, channel in enumerate(channels[:20]):
        table.add_row(channel, *(f"{error[k]:.4f}" for error in trained.errors.values()))
    console.print(table)
    console.print(trained.verdict)
    console.print(f"{out}  fingerprint {model.fingerprint}", soft_wrap=True)
    console.print(f"Next: detector run --model {out} --topic TOPIC", soft_wrap=True)


class _Progress:
    """A bar with losses and time left on a terminal; elsewhere a line now and then."""

    LINES_EVERY = 10

    def __init__(self, options: Options) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(stderr=True)
        self._is_terminal = console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[facts]}"), console=console, transient=True
        )
        self._task = self._bar.add_task("training", total=options.epochs_max, facts="")

    def __enter__(self) -> _Progress:
        if self._is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def tell(self, epoch: Epoch) -> None:
        """Take one epoch's losses."""
        facts = f"epoch {epoch.number}  loss {epoch.train_loss:.3f}  held out {epoch.held_out_loss:.3f}  {epoch.seconds_left:.0f} s left at most"
        self._bar.update(self._task, completed=epoch.number, facts=facts)
        if not self._is_terminal and epoch.number % self.LINES_EVERY == 0:
            typer.echo(facts, err=True)
