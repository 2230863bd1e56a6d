"""The verdict file: one row per reading, in the recording's order, whatever became of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from detector.adapters.recordings.verdict_file import SCHEMA, VerdictFile
from detector.codec.readings import Decoded, Reject
from detector.core.batch_result import BatchResult
from detector.core.readings import Disposition, Partition, ReadingBatch, StreamNames
from detector.errors import DataError

NAN = float("nan")


def batch(message: list[int], rejects: tuple[Reject, ...]) -> tuple[Decoded, BatchResult]:
    n = len(message)
    readings = ReadingBatch(
        stream_id=np.zeros(n, np.int32),
        event_time_us=np.array(message, np.int64) * 10,
        value=np.zeros((n, 1), np.float32),
        partition=np.zeros(n, np.int32),
        offset=np.array(message, np.int64),
        item=np.zeros(n, np.int32),
        partitions=(Partition("recording", 0),),
    )
    disposition = np.full(n, Disposition.SCORED, np.uint8)
    disposition[-1:] = Disposition.LATE
    score = np.arange(n, dtype=np.float32) + np.float32(0.1)
    score[-1:] = NAN
    result = BatchResult(disposition, score, score.astype(np.float64) / 10, np.zeros((n, 1), np.float32), {1: "an-id"} if n > 1 else {}, ())
    return Decoded(readings, np.array(message, np.int64), rejects), result


def test_rows_in_the_recordings_order(tmp_path: Path) -> None:
    names = StreamNames()
    names[b"pump"]
    with VerdictFile(tmp_path / "verdicts.parquet", names) as file:
        file.observe(*batch([0, 2, 2, 4], (Reject(1, "WrongType", ""), Reject(2, "OutOfRange", "", 2), Reject(5, "NotUtf8", ""))), {})
        file.observe(*batch([], ()), {})
        file.observe(*batch([1], (Reject(0, "NullValue", ""),)), {})
        assert not (tmp_path / "verdicts.parquet").exists()
    table = pq.read_table(tmp_path / "verdicts.parquet")
    assert table.schema == SCHEMA
    rows = table.to_pydict()
    assert rows["event_time_us"] == [0, None, 20, 20, None, None, 40, None, None, 10]
    assert rows["disposition"] == ["SCORED", "INVALID", "SCORED", "SCORED", "INVALID", "INVALID", "LATE", "INVALID", "INVALID", "LATE"]
    assert rows["stream"] == ["pump", None, "pump", "pump", None, None, "pump", None, None, "pump"]
    assert rows["alert"] == [None, None, "an-id", None, None, None, None, None, None, None]
    score = [None if s is None else np.float32(s) for s in rows["score"]]
    assert score == [np.float32(0.1), None, np.float32(1.1), np.float32(2.1), *[None] * 6]
    assert [p is None for p in rows["tail_probability"]] == [s is None for s in score]
    assert [path.name for path in tmp_path.iterdir()] == ["verdicts.parquet"]


def test_a_replay_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), VerdictFile(tmp_path / "verdicts.parquet", StreamNames()):
        raise RuntimeError
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_a_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot write") as caught:
        VerdictFile(tmp_path / "absent" / "verdicts.parquet", StreamNames())
    assert "--out" in caught.value.fix
