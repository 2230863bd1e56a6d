"""Recorded readings as a `Log`: one partition, read from the beginning; what is decided goes to files or nowhere."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias

import msgspec
import numpy as np

from detector.codec.event_time import FAR_US
from detector.codec.messages import Message, Messages
from detector.codec.reading_format import ReadingFormat
from detector.codec.writing import JsonWriter
from detector.core.readings import Partition
from detector.errors import DataError
from detector.ports import CommitBatch, PartitionPosition, PollResult, RevokeCallback, ignore_revoke
from detector.tables.recording import Recording

EVENT_TIME = "event_time_us"


Rows: TypeAlias = tuple[Sequence[bytes | None], Sequence[bytes | None]]
"""Keys and values of messages."""


class FileLog:
    """A recording as a log of one partition, named after the file; a message's offset is its place, from 0.

    alerts, dead_letters   files for what is decided, one JSON object per line; None: dropped

    raises DataError  a file cannot be written
    """

    def __init__(
        self, name: str, count: int, rows: Callable[[int, int], Rows], *, alerts: Path | None = None, dead_letters: Path | None = None
    ) -> None:
        self._partition = Partition(name, 0)
        self._end, self._rows = count, rows
        self._gained = True
        self._position: int | None = None  # None until resumed
        self._committed = 0
        self._files: list[BinaryIO] = []
        self._alerts = self._open(alerts)
        self._dead_letters = self._open(dead_letters)

    @classmethod
    def of_recording(cls, recording: Recording, name: str, *, alerts: Path | None = None, dead_letters: Path | None = None) -> FileLog:
        """Each reading is a message, its key the stream's name, its value JSON with the channels under their names (missing ones left out)
        and `event_time_us`. Decoded as `recorded_format` says, it gives `numpy.float32` of the recorded value, exactly.

        What is rejected follows as messages without an event time, so that each is a dead letter.

        raises DataError  a channel bears the name of the event time
        """
        if EVENT_TIME in recording.channels:
            raise DataError(f"{name}: a channel cannot be called {EVENT_TIME!r}", fix="name the channels with --channels")
        writer = JsonWriter(recorded_format(recording.channels), recording.streams)
        rejected = recording.understanding.rejected
        readings = len(recording)

        def rows(start: int, stop: int) -> Rows:
            written = writer.write(recording.stream[start:stop], recording.event_time_us[start:stop], recording.value[start:stop])
            lost = [
                msgspec.json.encode({"row": one.row, "reason": one.reason, "text": one.text})
                for one in rejected[max(start - readings, 0) : max(stop - readings, 0)]
            ]
            return [*written.keys, *[name.encode()] * len(lost)], [*written.values, *lost]

        return cls(name, readings + len(rejected), rows, alerts=alerts, dead_letters=dead_letters)

    @classmethod
    def of_lines(cls, lines: Sequence[bytes], name: str, *, alerts: Path | None = None, dead_letters: Path | None = None) -> FileLog:
        """Each line is a message as it is, its key the file's name without ending."""
        key = name.split(".", maxsplit=1)[0].encode()
        return cls(
            name,
            len(lines),
            lambda start, stop: ([key] * (stop - start), list(lines[start:stop])),
            alerts=alerts,
            dead_letters=dead_letters,
        )

    def _open(self, path: Path | None) -> BinaryIO | None:
        if path is None:
            return None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._files.append(path.open("wb"))
        except OSError as error:
            raise DataError(f"{path} cannot be written: {error.strerror}") from None
        return self._files[-1]

    def poll(self, messages_max: int, timeout_s: float, on_revoke: RevokeCallback = ignore_revoke) -> PollResult:
        """See `ports.Log`; never waits, and takes nothing away. The end is reached when `lag` is 0."""
        assigned = (self._partition,) if self._gained else ()
        self._gained = False
        if self._position is None or self._position >= self._end:
            return PollResult(assigned=assigned)
        start, stop = self._position, min(self._position + messages_max, self._end)
        self._position = stop
        key, value = self._rows(start, stop)
        count = stop - start
        messages = Messages(key, value, np.zeros(count, np.int32), np.arange(start, stop), np.full(count, -1, np.int64), (self._partition,))
        return PollResult(messages, assigned)

    def commit(self, batch: CommitBatch) -> None:
        """See `ports.Log`. Writes to the files in the order alerts, dead letters; state is dropped: a recording can be read again."""
        if self._alerts is not None:
            self._alerts.writelines((message.value or b"null") + b"\n" for message in batch.alerts)
            self._alerts.flush()
        if self._dead_letters is not None:
            self._dead_letters.writelines(msgspec.json.encode(as_json(message)) + b"\n" for message in batch.dead_letters)
            self._dead_letters.flush()
        self._committed = batch.offsets.get(self._partition, self._committed)

    def restore(self, partitions: Sequence[Partition]) -> Mapping[Partition, PartitionPosition]:
        """See `ports.Log`. The offset is always a committed one: a recording is read from its first row."""
        if self._partition in partitions:
            self._position = None
        return {partition: PartitionPosition(self._committed, end=self._end) for partition in partitions}

    def state(self, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Mapping[bytes, bytes | None]]]:
        """See `ports.Log`. None is kept."""
        return iter(())

    def resume(self, offsets: Mapping[Partition, int]) -> None:
        """See `ports.Log`."""
        self._position = offsets.get(self._partition, self._position)

    def topics_missing(self) -> Sequence[str]:
        """See `ports.Log`."""
        return ()

    def lag(self) -> Mapping[Partition, int]:
        """See `ports.Log`."""
        return {} if self._position is None else {self._partition: self._end - self._position}

    def close(self) -> None:
        """See `ports.Log`."""
        for file in self._files:
            file.close()


def recorded_format(channels: tuple[str, ...]) -> ReadingFormat:
    """How a table's rows are written as messages. Event times are any: a recording may be of the last century, or count from 0."""
    return ReadingFormat(channels=channels, event_time=EVENT_TIME, event_time_unit="us", earliest_us=-FAR_US, latest_us=FAR_US)


def as_json(message: Message) -> dict[str, object]:
    """A message for a line of JSON: bytes as text, or as base64 under `NAME_base64` where they are not UTF-8."""
    headers: dict[str, object] = {}
    for name, entry in message.headers:
        headers.update(_text(name, entry))
    return {**_text("key", message.key), **_text("value", message.value), "headers": headers}


def _text(name: str, data: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if data is None else data.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data or b"").decode("ascii")}
