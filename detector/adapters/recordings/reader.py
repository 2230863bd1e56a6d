"""Recorded readings on disk -> columns: Parquet, or text of any of the usual kinds. `detector.tables` says what is what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pa_parquet

from detector.adapters.recordings.files import PARQUET, TEXT, is_json, read_bytes, suffix
from detector.adapters.recordings.json_lines import read_lines
from detector.config import FileInput
from detector.errors import DataError
from detector.tables.delimited import TextTable, read_text_table
from detector.tables.json_table import table_of
from detector.tables.numbers import Decimal
from detector.tables.recording import Recording, RejectedRow
from detector.tables.table import Table
from detector.tables.understanding import understand

SEPARATORS = {"tab": "\t", "blanks": " "}
ANYTHING = FileInput()


def read_recording(path: Path, options: FileInput = ANYTHING, *, channels: Sequence[str] | None = None) -> Recording:
    """Read a recording: Parquet, or text with one reading per line (`.csv`, `.tsv`, `.txt`..., also `.gz`).

    options   what is known of it; what is not is found in the file
    channels  the columns to take, in this order; None: those of `options`, or all that are channels

    raises DataError, ConfigError  what is missing or cannot be read, which columns there are, and what to do about it
    """
    if is_json(path):
        return _read_json_lines(path, options, channels)
    if suffix(path) in PARQUET:
        table = _read_parquet(path)
        return _named(understand(_filled(table, path), options, path.name, channels), "Parquet")
    return _read_text(path, options, channels)


def _read_text(path: Path, options: FileInput, channels: Sequence[str] | None) -> Recording:
    if suffix(path) not in TEXT:
        raise DataError(
            f"{path.name} is of no known kind", fix="recordings are .parquet, .csv, .tsv, .txt or .jsonl files (text also as .gz)"
        )
    separator = SEPARATORS.get(options.separator or "", options.separator)
    text = read_text_table(read_bytes(path), path.name, separator)
    default: Decimal = "," if text.dialect.separator == ";" else "."
    table = Table.of(text.names, text.columns, text.dialect.units, options.decimal, options.missing_values, default)
    recording = understand(_filled(table, path), options, path.name, channels)
    return _with_lines(recording, text, table)


def _read_json_lines(path: Path, options: FileInput, channels: Sequence[str] | None) -> Recording:
    messages, blank = read_lines(path)
    found = table_of(messages, options, path.name)
    if options.long_format is None and found.shape.long_format is not None:
        options = options.model_copy(update={"long_format": found.shape.long_format})
    recording = understand(found.table, options, path.name, channels)
    understood = recording.understanding
    file = ", ".join(filter(None, ("JSON", found.shape.described)))
    left = understood.left | found.shape.left
    lines = {kind: count for kind, count in {**understood.lines, "blank": blank + understood.lines.get("blank", 0)}.items() if count}
    return replace(
        recording, understanding=replace(understood, file=file, left=left, rejected=(*found.rejected, *understood.rejected), lines=lines)
    )


def _read_parquet(path: Path) -> Table:
    try:
        found = pa_parquet.read_table(path)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}", fix="see that it is whole, and Parquet") from None
    return Table.of(found.column_names, found.columns)


def _filled(table: Table, path: Path) -> Table:
    if not len(table):
        raise DataError(f"{path.name} holds no readings", fix="export it again, with rows")
    return table


def _named(recording: Recording, file: str) -> Recording:
    return replace(recording, understanding=replace(recording.understanding, file=file))


def _with_lines(recording: Recording, text: TextTable, table: Table) -> Recording:
    """With what only the text tells: its layout, and its lines that are no row."""
    said = [f"text separated by {text.dialect.separated_by}", text.encoding]
    if not text.dialect.names:
        said.append("without a header")
    if any(
        numbers is not None and numbers.decimal == ","
        for numbers in map(table.numbers, recording.channels if set(recording.channels) <= set(table.columns) else ())
    ):
        said.append("decimal commas")
    understood = recording.understanding
    lines = dict(text.lines.others)
    for kind, count in understood.lines.items():
        lines[kind] = lines.get(kind, 0) + count
    misfits = tuple(RejectedRow(0, f"not the {text.dialect.columns} cells that rows have", line) for line in text.lines.misfits)
    return replace(
        recording,
        understanding=replace(
            understood,
            file=", ".join(said),
            renamed=understood.renamed if text.dialect.names else {},
            lines=lines,
            rejected=(*misfits, *understood.rejected),
            lines_unkept=text.lines.misfits_unkept,
        ),
    )
