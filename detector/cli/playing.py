"""Writes readings to a topic at their event times, in the format that the configuration reads."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from detector.cli.progress import progress_bar
from detector.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from detector.adapters.kafka.topic_io import TopicWriter
    from detector.cli.reading_report import ReadingReport
    from detector.cli.recording_source import Source
    from detector.codec.reading_format import ReadingFormat
    from detector.codec.writing import Written
    from detector.config import Config, FileInput, Input
    from detector.lab.faults import Fault
    from detector.lab.plant import Plant
    from detector.lab.replay_clock import ReplayClock

WAIT_S_MAX = 0.1  # between two looks at the clock and at the producer
BATCH_READINGS = 10_000


@dataclass(frozen=True, slots=True)
class ToSend:
    """Messages to send, in order.

    event_time_us   i8[M], microseconds since the epoch: when each is due
    with_log_time   it also becomes Kafka's own time of the message
    """

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    event_time_us: NDArray[np.int64]
    with_log_time: bool


def input_shape(input: Input, *, is_file_given: bool) -> Input | None:
    """The configured format of messages; None where neither a file nor the environment configures one."""
    from detector.config import Input

    return input if is_file_given or input.model_copy(update={"topics": ()}) != Input() else None


def simulated(shape: Input | None, plant: Plant, faults: Sequence[Fault], end_us: int) -> Iterator[ToSend]:
    """A plant's readings from its start to `end_us` (exclusive)."""
    from detector.codec.writing import JsonWriter
    from detector.lab.simulate import SIMULATED_FORMAT, simulate

    written_as, chosen = _written_as(shape, SIMULATED_FORMAT, "the plant")
    writer = JsonWriter(written_as, plant.streams)
    for chunk in simulate(plant, faults, end_us=end_us, chunk_readings_max=BATCH_READINGS):
        yield _to_send(writer.write(chunk.stream, chunk.event_time_us, chunk.value[:, chosen]), written_as)


def recorded(config: Config, shape: Input | None, path: Path, report: ReadingReport, options: FileInput) -> Iterator[ToSend]:
    """A recording's readings, in the order of their times. JSON messages are sent as they are."""
    from detector.adapters.recordings.file_log import recorded_format
    from detector.cli.recording_source import as_recording, open_source
    from detector.codec.writing import JsonWriter

    source = open_source(config, path, options, keeps_messages=True)
    report.understanding, report.channels = source.understanding, source.channels
    if source.lines is not None:
        yield from _as_they_are(source, report)
        return
    recording = as_recording(source)
    report.counts["invalid"] += recording.rejected
    report.reasons.update(one.reason for one in recording.understanding.rejected)
    report.streams = len(recording.streams)
    written_as, chosen = _written_as(shape, recorded_format(recording.channels), path.name)
    writer = JsonWriter(written_as, recording.streams)
    for start in range(0, len(recording), BATCH_READINGS):
        rows = slice(start, start + BATCH_READINGS)
        report.took(recording.event_time_us[rows], recording.value[rows])
        report.counts["used"] += len(recording.event_time_us[rows])
        yield _to_send(writer.write(recording.stream[rows], recording.event_time_us[rows], recording.value[rows][:, chosen]), written_as)


def _written_as(shape: Input | None, usual: ReadingFormat, whose: str) -> tuple[ReadingFormat, list[int]]:
    """The format to write readings in, `usual` without a configured one; and for each of its channels the index among the readings' channels.

    Channels that the configuration names as the readings do are found by name, others by position.
    """
    channels = usual.channels
    if shape is None:
        return usual, list(range(len(channels)))
    from detector.cli.wiring import reading_format

    if shape.format != "json":
        raise ConfigError(
            f"readings are written as plain JSON, and the configuration reads {shape.format}",
            fix="set input.format: json, or write the topic with a producer that knows the schema registry",
        )
    wanted = shape.channels or channels
    if set(wanted) <= set(channels):
        return reading_format(shape, wanted), [channels.index(name) for name in wanted]
    if len(wanted) == len(channels):
        return reading_format(shape, wanted), list(range(len(channels)))
    raise ConfigError(
        f"{whose} has {len(channels)} channels ({', '.join(channels)}), input.channels names {len(wanted)} ({', '.join(wanted)})",
        fix="name some of its channels, or as many paths as it has channels, in their order",
    )


def _to_send(written: Written, written_as: ReadingFormat) -> ToSend:
    return ToSend(written.keys, written.values, written.event_time_us, with_log_time=written_as.event_time is None)


def _as_they_are(source: Source, report: ReadingReport) -> Iterator[ToSend]:
    """Lines of JSON. A line that cannot be read has the event time of the line before it."""
    import numpy as np

    from detector.adapters.recordings.messages import as_messages
    from detector.cli.wiring import value_decoder
    from detector.core.readings import StreamNames

    assert source.lines is not None
    assert source.format is not None
    streams = StreamNames()
    decoder = value_decoder(source.format, streams)
    unknown_us = newest_us = np.iinfo(np.int64).min
    for start in range(0, len(source.lines), BATCH_READINGS):
        messages = as_messages(source.lines[start : start + BATCH_READINGS], source.path.name, source.path.name)
        decoded = decoder.decode(messages)
        report.took(decoded.batch.event_time_us, decoded.batch.value)
        report.counts["used"] += len(decoded.batch)
        report.counts["invalid"] += sum(reject.readings for reject in decoded.rejects)
        report.reasons.update(reject.reason for reject in decoded.rejects)
        report.streams = len(streams)
        event_time_us = np.full(len(messages), newest_us, np.int64)
        event_time_us[decoded.message] = decoded.batch.event_time_us
        event_time_us = np.maximum.accumulate(event_time_us)
        newest_us = int(event_time_us[-1])
        event_time_us[event_time_us == unknown_us] = decoded.batch.event_time_us[0] if len(decoded.batch) else 0
        yield ToSend(messages.key, messages.value, event_time_us, with_log_time=False)


def play(settings: Config, topic: str, batches: Iterator[ToSend], replay_clock: ReplayClock) -> int:
    """Write messages to a topic when they are due; on a terminal with a count.

    returns  how many

    raises ConfigError, LogUnavailable  there is no such topic; the brokers refuse or do not answer
    """
    from rich.progress import TextColumn

    from detector.adapters.kafka.topic_io import TopicWriter
    from detector.adapters.kafka.topics import check_topics
    from detector.cli import logs

    check_topics(settings.kafka_properties(), [topic], [])
    logs.configure(settings.log.level, settings.log.format, settings.secrets)
    sent = 0
    with (
        TopicWriter(settings.kafka_properties(), topic, on_log=logs.log_client_line) as writer,
        progress_bar(TextColumn("{task.completed:,} messages")) as progress,
    ):
        task = progress.add_task(topic, total=None)
        for batch in batches:
            for count in _send(writer, batch, replay_clock):
                sent += count
                progress.update(task, completed=sent)
    return sent


def _send(writer: TopicWriter, batch: ToSend, replay_clock: ReplayClock) -> Iterator[int]:
    """Send a batch, each message when it is due; yields how many went out, now and then."""
    begin, count = 0, len(batch.keys)
    log_time_us = batch.event_time_us.tolist() if batch.with_log_time else [None] * count
    while begin < count:
        end = begin + replay_clock.due(batch.event_time_us[begin:])
        for at in range(begin, end):
            writer.write(batch.keys[at], batch.values[at], log_time_us[at])
        writer.serve()
        yield end - begin
        begin = end
        if begin < count:
            time.sleep(min(replay_clock.delay_s(int(batch.event_time_us[begin])), WAIT_S_MAX))
