"""Readings to train on: of recordings, or of a topic; and what was left of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import typer

from detector.cli import recording_source
from detector.cli.reading_report import ReadingReport
from detector.cli.training import LINES_EVERY_S
from detector.errors import ConfigError, DataError

if TYPE_CHECKING:
    from detector.config import Config, FileInput
    from detector.lab.sequences import Recorded
    from detector.tables.recording import Recording


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Sequences of readings; `lines` say what was taken for what, and what was left."""

    channels: tuple[str, ...]
    sequences: list[Recorded]
    report: ReadingReport
    lines: list[str] = field(default_factory=list)


def from_files(config: Config, paths: Sequence[Path], options: FileInput) -> TrainingData:
    """Channels and sequences of several recordings; a stream that occurs in several of them is one stream.

    raises DataError, ConfigError  one cannot be read as it is; they have different channels
    """
    recordings = [recording_source.as_recording(recording_source.open_source(config, path, options)) for path in paths]
    names = recordings[0].channels
    lines = []
    for path, recording in zip(paths, recordings, strict=True):
        if recording.channels != names:
            raise DataError(
                f"{path.name} has the channels {', '.join(recording.channels)}; {paths[0].name} has {', '.join(names)}",
                fix="name those that all files have with --channels",
            )
        one = ReadingReport(path.name, names, recording.understanding)
        one.streams = len(recording.streams)
        one.took(recording.event_time_us, recording.value)
        one.counts["used"] = len(recording)
        lines += one.lines()
    report = ReadingReport(", ".join(path.name for path in paths), names, recordings[0].understanding)
    for recording in recordings:
        _count_rejected(report, recording)
    return TrainingData(names, _sequences(recordings, report), report, lines)


def _count_rejected(report: ReadingReport, recording: Recording) -> None:
    report.counts["invalid"] += recording.rejected
    report.reasons.update(one.reason for one in recording.understanding.rejected)


def _sequences(recordings: Sequence[Recording], report: ReadingReport) -> list[Recorded]:
    """Unbroken sequences; what is left of the readings is counted."""
    import numpy as np

    from detector.lab.sequences import sequences_of

    index: dict[str, int] = {}
    for recording in recordings:
        for name in recording.streams:
            index.setdefault(name, len(index))
    stream = np.concatenate([np.array([index[name] for name in each.streams], np.int32)[each.stream] for each in recordings])
    event_time_us = np.concatenate([each.event_time_us for each in recordings])
    value = np.concatenate([each.value for each in recordings]).astype(np.float32)
    sequences = sequences_of(stream, list(index), event_time_us, value)
    pairs = np.empty(len(stream), [("stream", "<i4"), ("time", "<i8")])
    pairs["stream"], pairs["time"] = stream, event_time_us
    distinct, used = len(np.unique(pairs)), sum(map(len, sequences))
    report.streams = len({sequence.stream for sequence in sequences})
    report.counts["used"] += used
    report.counts["duplicate"] += len(stream) - distinct
    report.counts["short"] += distinct - used
    report.took(event_time_us, value)
    return sequences


def from_topic(config: Config, topic: str, from_us: int | None, to_us: int | None, channels: tuple[str, ...] | None) -> TrainingData:
    """Channels and sequences of a topic's messages.

    from_us, to_us   log times, microseconds since the epoch

    raises ConfigError              nothing says which fields are channels
    raises DataError, LogUnavailable  there are no readings; the brokers do not answer
    """
    from detector.adapters.kafka.topic_io import TopicReader
    from detector.adapters.recordings.messages import recording_of
    from detector.cli.registry_wiring import decoder as configured_decoder
    from detector.cli.wiring import reading_format
    from detector.core.readings import StreamNames

    names = channels or config.input.channels
    if names is None:
        raise ConfigError(
            "nothing says which fields of the messages are channels", fix="give --channels, or input.channels in the configuration"
        )
    streams = StreamNames()
    decoder = configured_decoder(config, reading_format(config.input, names), streams)
    decoded, read, next_line_s = [], 0, monotonic() + LINES_EVERY_S
    with TopicReader(config.kafka_properties(), topic, from_us=from_us, to_us=to_us) as reader:
        for messages in reader.batches():
            decoded.append(decoder.decode(messages))
            read += len(decoded[-1].batch)
            if monotonic() >= next_line_s:
                next_line_s = monotonic() + LINES_EVERY_S
                typer.echo(f"{read:,} readings so far", err=True)
    if not read:
        rejects = [reject for each in decoded for reject in each.rejects]
        because = f"; {len(rejects):,} messages could not be read: {rejects[0].reason}" if rejects else ""
        raise DataError(f"there are no readings in {topic} at that time{because}", fix="check --from, --to and `input:`")
    recording = recording_of(decoded, streams, names, None, "")
    report = ReadingReport(topic, names)
    _count_rejected(report, recording)
    sequences = _sequences([recording], report)
    return TrainingData(names, sequences, report, report.lines())
