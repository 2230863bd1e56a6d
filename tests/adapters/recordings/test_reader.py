"""Recordings as people have them: separators, time columns, streams, what is missing."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from detector.adapters.recordings.reader import read_recording
from detector.config import FileInput
from detector.errors import DataError
from detector.tables.recording import Recording

T0 = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z


def csv(folder: Path, text: str, name: str = "plant.csv") -> Recording:
    path = folder / name
    path.write_text(text)
    return read_recording(path)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_any_usual_separator(tmp_path: Path, separator: str) -> None:
    rows = [
        ["time", "machine", "temperature", "rpm"],
        ["2026-01-01T00:00:00Z", "m1", "21.5", "100"],
        ["2026-01-01T00:00:01Z", "m2", "", "101"],
    ]
    recording = csv(tmp_path, "\n".join(separator.join(row) for row in rows))
    assert recording.channels == ("temperature", "rpm")
    assert recording.streams == ("m1", "m2")
    assert recording.stream.tolist() == [0, 1]
    assert recording.event_time_us.tolist() == [T0, T0 + 1_000_000]
    np.testing.assert_array_equal(recording.value, [[21.5, 100], [np.nan, 101]])


def test_decimal_commas(tmp_path: Path) -> None:
    recording = csv(tmp_path, "Zeit;Druck\n2026-01-01 00:00:00;1,25\n2026-01-01 00:00:01;-0,5\n")
    assert recording.value.tolist() == [[1.25], [-0.5]]


@pytest.mark.parametrize(
    ("header", "first"),
    [
        ("time", "2026-01-01T00:00:00Z"),
        ("Timestamp", "2026-01-01 00:00:00"),
        ("DATETIME", "2026-01-01T01:00:00+01:00"),
        ("date", "2026-01-01"),
        ("event_time", "2026-01-01T00:00:00.000000000Z"),
        ("ts", "1767225600"),
        ("ts", "1767225600.0"),
        ("event_time_us", "1767225600000000"),
        ("time", "1767225600000"),
        ("time", "1767225600000000000"),
        ("measured at", "2026-01-01T00:00:00"),
    ],
)
def test_times_as_people_write_them(tmp_path: Path, header: str, first: str) -> None:
    recording = csv(tmp_path, f"value,{header}\n1.5,{first}\n")
    assert recording.event_time_us.tolist() == [T0]
    assert recording.channels == ("value",)
    assert recording.streams == ("plant",)


@pytest.mark.parametrize(
    "kind", [pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.timestamp("us", "Europe/Berlin"), pa.timestamp("ns"), pa.int64()]
)
def test_parquet_times(tmp_path: Path, kind: Any) -> None:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit if pa.types.is_timestamp(kind) else "ms"]
    times = pa.array([T0 // 10**6 * per_second, (T0 // 10**6 + 1) * per_second], pa.int64()).cast(kind)
    path = tmp_path / "plant.parquet"
    pa_parquet.write_table(pa.table({"when": times, "x": pa.array([1, None], pa.int32()), "on": [True, False], "note": ["a", "b"]}), path)
    recording = read_recording(path, FileInput(time=("when",)))
    assert recording.event_time_us.tolist() == [T0, T0 + 1_000_000]
    assert recording.channels == ("x", "on")
    np.testing.assert_array_equal(recording.value, [[1, 1], [np.nan, 0]])


def test_columns_can_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "plant.csv"
    path.write_text("time,b,line,a,anomaly\n2026-01-01T00:00:00Z,1,7,2,0\n")
    recording = read_recording(path, FileInput(stream=("line",)), channels=["a", "b"])
    assert recording.streams == ("7",)
    assert recording.channels == ("a", "b")
    assert recording.value.tolist() == [[2, 1]]


@pytest.mark.parametrize(
    ("header", "cell", "streams"),
    [
        ("machine", "m1", ("m1",)),
        ("id", "pump", ("pump",)),
        ("id", "7", ("plant",)),
        ("machine_id", "7", ("7",)),
        ("comment", "x", ("plant",)),
    ],
)
def test_the_stream_column_is_found_by_name(tmp_path: Path, header: str, cell: str, streams: tuple[str, ...]) -> None:
    assert csv(tmp_path, f"time,{header},a\n2026-01-01T00:00:00Z,{cell},1\n").streams == streams


def test_infinite_is_missing_and_gzip_is_read(tmp_path: Path) -> None:
    path = tmp_path / "plant.csv.gz"
    path.write_bytes(gzip.compress(b"time,a\n2026-01-01T00:00:00Z,inf\n2026-01-01T00:00:01Z,NaN\n2026-01-01T00:00:02Z,3\n"))
    recording = read_recording(path)
    np.testing.assert_array_equal(recording.value, [[np.nan], [np.nan], [3]])
    assert recording.streams == ("plant",)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("", {}, "is empty"),
        ("time,a\n", {}, "holds no readings"),
        ("time,a\n0,1\n5,2\n", {}, "no column holds times; it has 'time' \\(0\\), 'a' \\(1\\)"),
        ("a,b\nx,y\n", {}, "no column holds times"),
        ("time,a\n2026-01-01T00:00:00Z,x\n", {}, "no column of numbers that could be a channel; it has 'time'"),
        ("time,a\n2026-01-01T00:00:00Z,1\n", {"time": ("when",)}, "has no column 'when'; it has 'time' .*, 'a'"),
        ("time,a\n2026-01-01T00:00:00Z,1\n", {"time": ("a",)}, "'a' holds no times, but cells such as '1'"),
        ("time,a,b\n2026-01-01T00:00:00Z,1,x\n", {"channels": ("b",)}, "channel 'b' holds no numbers: text: x"),
        ("when,a\n01/02/2026 10:00,1\n01/02/2026 10:01,1\n", {}, "nothing in the file tells the day from the month"),
        ("time,a\nbad,1\n", {"time": ("time",)}, "'time' holds no times, but cells such as 'bad'"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, text: str, options: dict[str, Any], words: str) -> None:
    path = tmp_path / "plant.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_recording(path, FileInput(**options))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        read_recording(tmp_path / "absent.csv")
    (tmp_path / "plant.xlsx").touch()
    with pytest.raises(DataError, match="of no known kind"):
        read_recording(tmp_path / "plant.xlsx")
    (tmp_path / "plant.parquet").write_bytes(b"not parquet")
    with pytest.raises(DataError, match="cannot be read"):
        read_recording(tmp_path / "plant.parquet")
