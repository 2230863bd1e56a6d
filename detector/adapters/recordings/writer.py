"""Readings as a recording: Parquet, CSV or JSON lines, by the file's suffix."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from detector.adapters.recordings.atomic_file import AtomicFile
from detector.errors import ConfigError

SUFFIXES = (".parquet", ".csv", ".jsonl")


class _Tables(Protocol):
    def write_table(self, table: Any) -> None: ...

    def close(self) -> None: ...


class RecordingWriter:
    """Writes readings with columns `time` (UTC), `stream` and one per channel; use as a context manager.

    A missing value is null. The file appears under its name when it is whole.

    raises ConfigError  a suffix other than .parquet, .csv, .jsonl
    raises DataError    the file cannot be written
    """

    def __init__(self, path: Path, streams: Sequence[str], channels: Sequence[str]) -> None:
        if path.suffix not in SUFFIXES:
            raise ConfigError(f"{path}: unknown kind of recording", fix=f"name a file that ends in {', '.join(SUFFIXES)}")
        self._file = AtomicFile(path)
        self._streams = pa.array(streams, pa.string())
        self._schema = pa.schema(
            [("time", pa.timestamp("us", "UTC")), ("stream", pa.string()), *((channel, pa.float64()) for channel in channels)]
        )
        try:
            self._tables = _open(self._file.partial, path.suffix, self._schema)
        except OSError as error:
            raise self._file.refusal(error) from None

    def write(self, stream: NDArray[np.int32], event_time_us: NDArray[np.int64], value: NDArray[np.float64]) -> None:
        """Append readings.

        stream i4[N] index into the streams, event_time_us i8[N], value f8[N, D] (NaN: missing)
        """
        columns = [
            pa.array(event_time_us, pa.int64()).cast(self._schema.field("time").type),
            self._streams.take(pa.array(stream)),
            *(pa.array(column, mask=np.isnan(column)) for column in value.T),
        ]
        self._tables.write_table(pa.table(columns, schema=self._schema))

    def __enter__(self) -> RecordingWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._tables.close()
        self._file.end(is_whole=kind is None)


def _open(path: Path, suffix: str, schema: Any) -> _Tables:
    if suffix == ".parquet":
        parquet: _Tables = pyarrow.parquet.ParquetWriter(path, schema)
        return parquet
    if suffix == ".csv":
        csv: _Tables = pyarrow.csv.CSVWriter(path, schema)
        return csv
    return _JsonLines(path)


class _JsonLines:
    """One JSON object per reading; what is missing is left out."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def write_table(self, table: Any) -> None:
        time = table.column("time").cast(pa.int64()).to_numpy()
        shown = np.datetime_as_string(time.astype("datetime64[us]"), unit="ms", timezone="UTC")
        for moment, row in zip(shown.tolist(), table.drop_columns(["time"]).to_pylist(), strict=True):
            present = {name: value for name, value in row.items() if value is not None}
            self._file.write(json.dumps({"time": moment, **present}, separators=(",", ":")) + "\n")

    def close(self) -> None:
        self._file.close()
