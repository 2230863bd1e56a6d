"""Recordings as a log: each row a message that decodes to what was recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from detector.adapters.recordings.file_log import FileLog, recorded_format
from detector.adapters.recordings.json_lines import read_lines
from detector.adapters.recordings.reader import read_recording
from detector.codec.messages import Message
from detector.codec.readings import JsonReadings
from detector.config import FileInput
from detector.core.readings import Partition, StreamNames
from detector.errors import DataError
from detector.ports import CommitBatch


def begin(log: FileLog, partitions: Sequence[Partition]) -> None:
    """Read from where the log says."""
    log.resume({partition: at.offset for partition, at in log.restore(partitions).items()})


def test_rows_decode_to_float32_of_what_was_recorded(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    value = rng.normal(size=(500, 3)) * 10.0 ** rng.integers(-30, 30, (500, 3))
    value[rng.random((500, 3)) < 0.1] = np.nan
    times = 1_767_225_600_000_000 + np.arange(500) * 1_000_003
    names = [f"m{number % 7}" for number in range(500)]
    table = {"event_time_us": times, "machine": names, "a": value[:, 0], "b.c": value[:, 1], "d": value[:, 2].astype(np.float32)}
    path = tmp_path / "plant.parquet"
    pa_parquet.write_table(pa.table(table), path)

    recording = read_recording(path)
    log = FileLog.of_recording(recording, path.name)
    (partition,) = log.poll(10, 0).assigned
    assert partition == Partition("plant.parquet", 0)
    begin(log, [partition])
    streams = StreamNames()
    decoder = JsonReadings(recorded_format(recording.channels), streams)
    position = 0
    while log.lag()[partition]:
        messages = log.poll(64, 0).messages
        decoded = decoder.decode(messages)
        assert decoded.rejects == ()
        batch = decoded.batch
        rows = slice(position, position + len(batch))
        np.testing.assert_array_equal(batch.value, value[rows].astype(np.float32))
        assert batch.event_time_us.tolist() == times[rows].tolist()
        assert [streams.name(stream) for stream in batch.stream_id.tolist()] == names[rows]
        assert batch.offset.tolist() == list(range(500))[rows]
        position += len(batch)
    assert position == 500


def test_missing_channels_are_left_out_of_the_message(tmp_path: Path) -> None:
    path = tmp_path / "pump.csv"
    path.write_text("time,a,b\n2026-01-01T00:00:00Z,1.5,\n2026-01-01T00:00:01Z,,\n")
    log = FileLog.of_recording(read_recording(path), path.name)
    begin(log, log.poll(10, 0).assigned)
    messages = log.poll(10, 0).messages
    assert [json.loads(value or b"") for value in messages.value] == [
        {"event_time_us": 1_767_225_600_000_000, "a": 1.5},
        {"event_time_us": 1_767_225_601_000_000},
    ]
    assert messages.key == [b"pump", b"pump"]


def test_json_lines_come_as_they_are_and_decisions_go_to_files(tmp_path: Path) -> None:
    path, alerts, dead = tmp_path / "gateway.jsonl", tmp_path / "out" / "alerts.jsonl", tmp_path / "out" / "dead.jsonl"
    path.write_bytes(b'{"t": 1}\n\n{"t": broken\n\xff\n')
    log = FileLog.of_lines(read_lines(path)[0], path.name, alerts=alerts, dead_letters=dead)
    (partition,) = log.poll(10, 0).assigned
    begin(log, [partition])
    messages = log.poll(10, 0).messages
    assert messages.value == [b'{"t": 1}', b'{"t": broken', b"\xff"]
    assert set(messages.key) == {b"gateway"}
    dead_letters = [
        Message(key, value, [("reason", b"unreadable")]) for key, value in zip(messages.key[1:], messages.value[1:], strict=True)
    ]
    log.commit(CommitBatch([Message(b"gateway", b'{"id":"1"}')], dead_letters, offsets={partition: 3}))
    log.close()
    assert alerts.read_text() == '{"id":"1"}\n'
    assert [json.loads(line) for line in dead.read_text().splitlines()] == [
        {"key": "gateway", "value": '{"t": broken', "headers": {"reason": "unreadable"}},
        {"key": "gateway", "value_base64": "/w==", "headers": {"reason": "unreadable"}},
    ]


def test_rows_that_are_no_readings_become_dead_letters(tmp_path: Path) -> None:
    path = tmp_path / "plant.csv"
    path.write_text("time,a\n2026-01-01T00:00:00Z,1\nnoon,2\n2026-01-01T00:00:02Z,3\n2026-01-01T00:00:03Z,4,5\n")
    recording = read_recording(path)
    log = FileLog.of_recording(recording, path.name)
    begin(log, log.poll(10, 0).assigned)
    decoded = JsonReadings(recorded_format(recording.channels), StreamNames()).decode(log.poll(10, 0).messages)
    assert decoded.batch.value.ravel().tolist() == [1, 3]
    assert [(reject.position, reject.error) for reject in decoded.rejects] == [(2, "MissingEventTime"), (3, "MissingEventTime")]


def test_what_cannot_be_a_log_is_said(tmp_path: Path) -> None:
    (tmp_path / "gateway.jsonl").touch()
    with pytest.raises(DataError, match="holds no readings"):
        read_lines(tmp_path / "gateway.jsonl")
    with pytest.raises(DataError, match="there is no file"):
        read_lines(tmp_path / "absent.jsonl")
    path = tmp_path / "plant.csv"
    path.write_text("time,event_time_us\n2026-01-01T00:00:00Z,1767225600000000\n")
    with pytest.raises(DataError, match="a channel cannot be called 'event_time_us'"):
        FileLog.of_recording(read_recording(path, FileInput(time=("time",))), path.name)
