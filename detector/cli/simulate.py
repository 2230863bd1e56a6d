"""`detector simulate`: readings of a plant with labelled faults, or of a recording, to a topic or a file."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli.options import AsJson, ConfigFile, Servers, Strict, overrides
from detector.cli.playing import input_shape, play, recorded, simulated
from detector.cli.progress import progress_bar
from detector.errors import ConfigError

if TYPE_CHECKING:
    from detector.config import Config, Input
    from detector.lab.faults import Fault, FaultKind
    from detector.lab.plant import Plant
    from detector.lab.replay_clock import ReplayClock

HOUR_US = 3_600_000_000


def simulate(
    topic: Annotated[str | None, typer.Option(help="Topic to write to.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write to instead: .parquet, .csv or .jsonl.")] = None,
    recording: Annotated[Path | None, typer.Option("--from", help="Play this recording instead of a simulated plant.")] = None,
    speed: Annotated[str, typer.Option(help="Into a topic: 1 is the readings' own pace, 60 a minute per second, or 'full'.")] = "1",
    live: Annotated[
        bool, typer.Option("--live", help="Into a topic: never ahead of the clock; once that is reached, readings come as time goes.")
    ] = False,
    machines: Annotated[int, typer.Option(min=1, max=100_000, help="Machines of the plant; each is a stream.")] = 24,
    interval_s: Annotated[float, typer.Option(min=0.001, help="Seconds between two readings of a machine.")] = 10.0,
    hours: Annotated[float, typer.Option(min=0.01, help="Event time to simulate.")] = 24.0,
    faults: Annotated[int, typer.Option(min=0, help="Faults to inject, their kinds equally often; 0 for data to train on.")] = 0,
    kinds: Annotated[
        str | None,
        typer.Option(
            help="Kinds of faults, comma-separated, or 'all'; if left out, all but phase_skipped, phase_stuck and cycle_reversed."
        ),
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="File for the faults injected, one JSON object per line.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same readings.")] = 1,
    start: Annotated[datetime | None, typer.Option(help="Event time of the first reading, UTC; now for a topic.")] = None,
    bootstrap_servers: Servers = None,
    config: ConfigFile = None,
    strict: Strict = False,
    as_json: AsJson = False,
) -> None:
    """Produce readings: of a simulated plant with labelled faults, or of a recording.

    Into a topic they are written as the configuration's `input:` reads them: its fields, shapes and units; where it names no field of the
    event time, as Kafka's own time of the message. Without --config each is a JSON object with its channels and `time`, milliseconds; a
    recording's with `event_time_us`. The key is the stream's name. JSON lines (.jsonl) are played as they are.

    Example: [bold]detector simulate --out week.parquet --hours 168 --seed 7[/bold]

    Example: [bold]detector simulate --topic sensors --faults 20 --labels faults.jsonl --speed 60[/bold]

    Example: [bold]detector simulate --out timing.csv --faults 9 --kinds phase_skipped,phase_stuck,cycle_reversed[/bold]

    Example: [bold]detector simulate --from week.parquet --topic sensors --speed full --config detector.yaml[/bold]
    """
    if (topic is None) == (out is None):
        raise ConfigError("say where the readings go: to a topic or to a file", fix="give one of --topic and --out")
    from detector.config import load_config
    from detector.lab.replay_clock import ReplayClock

    replay_clock = ReplayClock(_speed(speed), time.monotonic, time.time if live else None)
    settings = load_config(config, overrides=overrides(bootstrap_servers=bootstrap_servers))
    shape = input_shape(settings.input, is_file_given=config is not None)
    if recording is not None:
        if topic is None:
            raise ConfigError("a recording is played into a topic", fix="give --topic with --from")
        _play_recording(settings, topic, shape, recording, replay_clock, is_strict=strict, as_json=as_json)
        return
    plant = _plant(seed, machines, interval_s, _start_us(start, is_live=topic is not None))
    injected = _faults(plant, faults, _kinds(kinds), seed, hours)
    if labels is not None:
        _write_labels(labels, injected)
    end_us = plant.start_us + int(hours * HOUR_US)
    if out is not None:
        _write_file(out, plant, injected, end_us)
    elif topic is not None:
        typer.echo(f"{play(settings, topic, simulated(shape, plant, injected, end_us), replay_clock):,} messages -> {topic}")


def _play_recording(
    settings: Config, topic: str, shape: Input | None, recording: Path, replay_clock: ReplayClock, *, is_strict: bool, as_json: bool
) -> None:
    """Play a recording, and say what of it was played. `recording:` in the configuration says what its columns are."""

    from detector.cli.reading_report import ReadingReport

    report = ReadingReport(recording.name, ())
    sent = play(settings, topic, recorded(settings, shape, recording, report, settings.recording), replay_clock)
    if as_json:
        typer.echo(report.as_json(messages=sent, topic=topic))
    else:
        for line in report.lines():
            typer.echo(line)
    report.end(f"{sent:,} messages -> {topic}", is_strict=is_strict, to_error=as_json)


def _speed(text: str) -> float | None:
    if text == "full":
        return None
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise ConfigError(f"--speed {text} is no pace", fix="give a positive number, or 'full'")
    return speed


def _start_us(start: datetime | None, *, is_live: bool) -> int | None:
    """Event time of the first reading; None: the plant's own, always the same."""
    from datetime import UTC

    if start is not None:
        return int(start.replace(tzinfo=UTC).timestamp()) * 1_000_000
    return int(time.time()) * 1_000_000 if is_live else None


def _plant(seed: int, machines: int, interval_s: float, start_us: int | None) -> Plant:
    from detector.lab.plant import Plant

    return Plant(seed, machines, interval_s) if start_us is None else Plant(seed, machines, interval_s, start_us)


def _kinds(text: str | None) -> tuple[FaultKind, ...]:
    """The kinds that `--kinds` names, each once, in the order of `FaultKind`."""
    from detector.lab.faults import USUAL_KINDS, FaultKind

    if text is None:
        return USUAL_KINDS
    names = {name.strip() for name in text.split(",")}
    unknown = names.difference(FaultKind, ("all",))
    if unknown:
        raise ConfigError(f"--kinds: no kind of fault is named '{min(unknown)}'", fix=f"give 'all' or some of {', '.join(FaultKind)}")
    return tuple(kind for kind in FaultKind if kind in names or "all" in names)


def _faults(plant: Plant, count: int, kinds: tuple[FaultKind, ...], seed: int, hours: float) -> tuple[Fault, ...]:
    from detector.lab.faults import schedule_faults

    if not count:
        return ()
    duration_us = int(hours * HOUR_US)
    # The first quarter stays without faults: a detector that begins with the plant has to get to know it.
    first_us, end_us = plant.start_us + duration_us // 4, plant.start_us + duration_us
    return schedule_faults(plant, count, first_us, end_us, seed=seed, kinds=kinds)


def _write_labels(path: Path, faults: tuple[Fault, ...]) -> None:
    import json
    from dataclasses import asdict

    path.write_text("".join(json.dumps(asdict(fault)) + "\n" for fault in faults), encoding="utf-8")


def _write_file(path: Path, plant: Plant, faults: tuple[Fault, ...], end_us: int) -> None:
    from detector.adapters.recordings.writer import RecordingWriter
    from detector.lab.plant import CHANNELS
    from detector.lab.simulate import simulate as readings_of

    readings = 0
    with (
        RecordingWriter(path, plant.streams, CHANNELS) as writer,
        progress_bar() as progress,
    ):
        task = progress.add_task(path.name, total=end_us - plant.start_us)
        for chunk in readings_of(plant, faults, end_us=end_us):
            writer.write(chunk.stream, chunk.event_time_us, chunk.value)
            readings += len(chunk)
            progress.update(task, completed=int(chunk.event_time_us[-1]) - plant.start_us)
    typer.echo(f"{readings} readings of {plant.machines} machines, {len(faults)} faults -> {path}")
