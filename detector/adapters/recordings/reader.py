"""Recorded readings on disk: Parquet, or CSV of any of the usual kinds -> columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from numpy.typing import NDArray

from detector.codec.event_time import UNREAD, event_times_us
from detector.errors import DataError

TIME_NAMES = ("event_time_us", "event_time", "time", "timestamp", "datetime", "date_time", "date", "ts", "t")
STREAM_NAMES = ("stream", "machine", "host", "device", "sensor", "asset", "equipment", "id")
STREAM_ID_NAMES = ("stream_id", "machine_id", "host_id", "device_id", "sensor_id", "asset_id", "equipment_id")
SAMPLE_BYTES = 65_536
SAMPLE_ROWS = 100


@dataclass(frozen=True, slots=True)
class Recording:
    """Recorded readings as columns, in the file's order.

    streams        names of the S streams
    stream         i4[T]     index into `streams`
    event_time_us  i8[T]     microseconds since the epoch, UTC
    value          f8[T, D]  engineering units; NaN where missing (empty, NaN or infinite in the file)
    channels       names of the D channels
    """

    streams: tuple[str, ...]
    stream: NDArray[np.int32]
    event_time_us: NDArray[np.int64]
    value: NDArray[np.float64]
    channels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.event_time_us)


def read_recording(path: Path, *, time: str | None = None, stream: str | None = None, channels: Sequence[str] | None = None) -> Recording:
    """Read a recording (`.parquet`; `.csv`, `.tsv`, `.txt`, also `.gz`).

    time      its time column; without it one with a usual name (`time`, `timestamp`, `datetime`...), else the first that holds
              times. Times are ISO 8601, or numbers since the epoch whose size tells their unit; without an offset they are UTC
    stream    its stream column; without it one of text with a usual name (`stream`, `machine`, `device`...), or of text or integers
              called `machine_id` and the like; without one all readings are of one stream, named after the file
    channels  its channels; without it all other numeric columns

    raises DataError  what is missing or cannot be read, and which columns there are
    """
    table = read_table(path)
    where = path.name
    if table.num_rows == 0:
        raise DataError(f"{where} holds no readings")
    for option, column in (("--time", time), ("--stream", stream), *(("--channels", name) for name in channels or ())):
        if column is not None and column not in table.column_names:
            raise DataError(f"{where} has no column {column!r}; it has {_listed(table.column_names)}", fix=f"name another with {option}")
    time_column, event_time_us = _find_time(table, time, where)
    stream_column = stream if stream is not None else _find_stream(table, time_column, set(channels or ()))
    names, index = _streams(table, stream_column, path)
    if channels is None:
        channels = [name for name in table.column_names if name not in (time_column, stream_column) and _is_numeric(table[name].type)]
    if not channels:
        raise DataError(
            f"{where} has no numeric column besides {time_column!r}; it has {_listed(table.column_names)}",
            fix="name the channels with --channels, or check the decimal separator",
        )
    value = np.stack([_values(table[name], name, where) for name in channels], axis=1)
    return Recording(names, index, event_time_us, value, tuple(channels))


def read_table(path: Path) -> pa.Table:
    """The file as it is.

    raises DataError  no such file, no such format, not readable
    """
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    kind = suffixes[-1] if suffixes else ""
    try:
        if kind in (".parquet", ".pq"):
            return pa_parquet.read_table(path)
        if kind in (".csv", ".tsv", ".txt"):
            return _read_csv(path)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from None
    raise DataError(
        f"{path.name} is of no known kind", fix="recordings are .parquet, .csv, .tsv or .jsonl files (CSV and JSON also as .gz)"
    )


def _read_csv(path: Path) -> pa.Table:
    with pa.input_stream(path, compression="detect") as file:
        sample = file.read(SAMPLE_BYTES).decode("utf-8", "replace")
    head, _, body = sample.partition("\n")
    separator = max(",;\t", key=head.count)
    # Where commas separate decimals, columns are separated by something else.
    decimal = "," if separator != "," and re.search(r"(^|[;\t])-?\d+,\d", body) else "."
    return pa_csv.read_csv(
        path,
        parse_options=pa_csv.ParseOptions(delimiter=separator),
        convert_options=pa_csv.ConvertOptions(decimal_point=decimal, strings_can_be_null=True),
    )


def _find_time(table: pa.Table, wanted: str | None, where: str) -> tuple[str, NDArray[np.int64]]:
    """The time column and its times."""
    by_name = {name.strip().lower(): name for name in reversed(table.column_names)}
    named = [by_name[name] for name in TIME_NAMES if name in by_name]
    typed = [name for name in table.column_names if pa.types.is_timestamp(table[name].type) or pa.types.is_date(table[name].type)]
    for column in [wanted] if wanted is not None else [*named, *typed, *table.column_names]:
        if (_times(table[column].slice(0, SAMPLE_ROWS)) != UNREAD).any():
            times = _times(table[column])
            unread = np.flatnonzero(times == UNREAD)
            if len(unread):
                row = int(unread[0])
                raise DataError(
                    f"{where}: row {row + 1} has no readable time in column {column!r}: {str(table[column][row])[:40]!r} "
                    f"({len(unread)} such rows)",
                    fix="correct or remove these rows, or name another column with --time",
                )
            return column, times
    looked = repr(wanted) if wanted is not None else f"any of {_listed(table.column_names)}"
    raise DataError(
        f"{where}: no times in {looked}: ISO 8601, or numbers since the epoch, 1973 to 2286", fix="name the time column with --time"
    )


def _times(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """A column as event times; UNREAD where there is none."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        as_us = pc.cast(column, pa.timestamp("us", tz=kind.tz if pa.types.is_timestamp(kind) else None), safe=False)
        times: NDArray[np.int64] = pc.fill_null(pc.cast(as_us, pa.int64()), UNREAD).to_numpy()
        return times
    if _is_text(kind) or (_is_numeric(kind) and not pa.types.is_boolean(kind)):
        return event_times_us(column.to_pylist(), "auto")
    return np.full(len(column), UNREAD, np.int64)


def _find_stream(table: pa.Table, time: str, channels: set[str]) -> str | None:
    by_name: dict[str, str] = {name.strip().lower(): name for name in reversed(table.column_names) if name != time and name not in channels}
    for name in (*STREAM_NAMES, *STREAM_ID_NAMES):
        column = by_name.get(name)
        if column is None:
            continue
        kind = table[column].type
        if _is_text(kind) or (name in STREAM_ID_NAMES and pa.types.is_integer(kind)):
            return column
    return None


def _streams(table: pa.Table, column: str | None, path: Path) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Names of the streams in order of appearance, and each row's index among them."""
    if column is None:
        return (path.name.split(".")[0],), np.zeros(table.num_rows, np.int32)
    if table[column].null_count:
        row = pc.index(table[column].is_null(), True).as_py()
        raise DataError(f"{path.name}: row {row + 1} names no stream in column {column!r}", fix="correct the row, or choose with --stream")
    encoded = pc.cast(table[column], pa.string()).combine_chunks().dictionary_encode()
    return tuple(encoded.dictionary.to_pylist()), encoded.indices.to_numpy().astype(np.int32)


def _values(column: pa.ChunkedArray, name: str, where: str) -> NDArray[np.float64]:
    if not _is_numeric(column.type) and not pa.types.is_null(column.type):
        raise DataError(f"{where}: channel {name!r} holds {column.type}, not numbers", fix="name the channels with --channels")
    kind = pa.int8() if pa.types.is_boolean(column.type) else column.type
    values: NDArray[np.float64] = pc.fill_null(pc.cast(pc.cast(column, kind), pa.float64(), safe=False), np.nan).to_numpy()
    return np.where(np.isfinite(values), values, np.nan)


def _is_numeric(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind))


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown
