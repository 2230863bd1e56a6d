"""The verdicts of a replay as a Parquet file: one row per reading, in the recording's order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from detector.adapters.recordings.atomic_file import AtomicFile
from detector.codec.readings import Decoded
from detector.core.batch_result import BatchResult
from detector.core.readings import Disposition, StreamNames
from detector.ports import Observer

SCHEMA = pa.schema(
    [
        ("stream", pa.string()),
        ("event_time_us", pa.int64()),
        ("score", pa.float32()),
        ("tail_probability", pa.float64()),
        ("disposition", pa.string()),
        ("alert", pa.string()),
    ]
)
DISPOSITIONS = np.array(["", *(disposition.name for disposition in Disposition)])  # 0 is none


class VerdictFile(Observer):
    """Writes what became of every reading (a `ports.Observer`); use as a context manager.

        stream            name; null where the reading could not be read
        event_time_us     microseconds since the epoch, UTC; null where the reading could not be read
        score             null where the reading was not judged
        tail_probability  the same
        disposition       SCORED, WARMUP, LATE, DUPLICATE, INVALID, PARTIAL
        alert             id of the alert that is open after this reading, or null

    The file appears under its name when it is whole.

    raises DataError  the file cannot be written
    """

    def __init__(self, path: Path, names: StreamNames) -> None:
        self._file = AtomicFile(path)
        self._names = names
        try:
            self._writer = pq.ParquetWriter(self._file.partial, SCHEMA)
        except OSError as error:
            raise self._file.refusal(error) from None

    def observe(self, decoded: Decoded, result: BatchResult, seconds: Mapping[str, float]) -> None:
        """Write the rows of a batch."""
        rejects = sorted(decoded.rejects, key=lambda reject: reject.position)
        lost = np.repeat([reject.position for reject in rejects], [reject.readings for reject in rejects]).astype(np.int64)
        # What could not be read stands behind the readings of the same message that could.
        order = np.argsort(np.concatenate([decoded.message, lost]), kind="stable")
        absent = np.full(len(lost), np.nan)
        is_lost = np.append(np.zeros(len(result), bool), np.ones(len(lost), bool))[order]
        score = np.concatenate([result.score, absent.astype(np.float32)])[order]
        tail = np.concatenate([result.tail_probability, absent])[order]
        disposition = np.append(result.disposition, np.full(len(lost), Disposition.INVALID, np.uint8))[order]
        event_time_us = np.append(decoded.batch.event_time_us, np.zeros(len(lost), np.int64))[order]
        stream = [*map(self._names.name, decoded.batch.stream_id.tolist()), *[None] * len(lost)]
        rows = pa.table(
            [
                pa.array([stream[position] for position in order.tolist()], pa.string()),
                pa.array(event_time_us, mask=is_lost),
                pa.array(score, mask=np.isnan(score)),
                pa.array(tail, mask=np.isnan(tail)),
                pa.array(DISPOSITIONS[disposition]),
                pa.array(list(map(result.alert.get, order.tolist())), pa.string()),
            ],
            schema=SCHEMA,
        )
        self._writer.write_table(rows)

    def close(self, *, is_whole: bool = True) -> None:
        """Finish the file; without `is_whole` remove what was written."""
        self._writer.close()
        self._file.end(is_whole=is_whole)

    def __enter__(self) -> VerdictFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(is_whole=kind is None)
