"""A text file -> columns of text, one row per line that fits."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from detector.errors import DataError
from detector.tables.dialect import SAMPLE_LINES, Dialect, cut, sniff
from detector.tables.encoding import to_utf8

COMMENT_LINE = re.compile(rb"(?m)^[ \t]*(?:#|//|%)[^\n]*\n?")
BLANK_RUN = re.compile(rb"[ \t]+")
SHOWN_CHARACTERS = 80
MISFITS_KEPT_MAX = 100_000


@dataclass(slots=True)
class Lines:
    """Lines of a file that are no row of its table.

    misfits   lines with another number of cells than the table has columns, the first MISFITS_KEPT_MAX of them
    others    how many there are of another kind: titles, units, comments, blank ones
    """

    misfits: list[str] = field(default_factory=list)
    misfits_unkept: int = 0
    others: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TextTable:
    """The table of a text file. names: as in the file, neither distinct nor all given."""

    names: list[str]
    columns: list[pa.ChunkedArray]
    dialect: Dialect
    encoding: str
    lines: Lines


def read_text_table(data: bytes, where: str, separator: str | None = None) -> TextTable:
    """The table in a text file.

    where      the file's name, for messages
    separator  what separates its columns; None: found

    raises DataError  it holds no table
    """
    text, encoding = to_utf8(data)
    sample = text[: 1 << 20]
    if len(text) > len(sample):
        sample = sample[: sample.rfind(b"\n") + 1] or sample
    if b"\0" in sample:
        raise DataError(
            f"{where} is no text: it holds zero bytes", fix="recordings are CSV, Parquet or JSON lines; export it as one of them"
        )
    dialect = sniff(sample.decode("utf-8", "replace"), separator)
    if dialect is None:
        raise DataError(f"{where} is empty: there is no line with a row", fix="export it again, with readings")
    lines = Lines()
    body = _from_line(text, dialect.first_line)
    _count(lines, "title", len(dialect.titles))
    _count(lines, "units", dialect.units_rows)
    body, comments = COMMENT_LINE.subn(b"", body)
    _count(lines, "comment", dialect.comments + comments)
    names = list(dialect.names) or [""] * dialect.columns
    columns = _columns(body, dialect, lines, where) if body.strip() else [pa.chunked_array([[]], pa.string())] * dialect.columns
    columns = [pc.utf8_trim_whitespace(column) for column in columns]
    return TextTable(names, _without_blank_rows(columns, lines), dialect, encoding, lines)


def _count(lines: Lines, kind: str, count: int) -> None:
    if count:
        lines.others[kind] = lines.others.get(kind, 0) + count


def _from_line(text: bytes, number: int) -> bytes:
    """The text from a line on."""
    at = 0
    for _ in range(min(number, SAMPLE_LINES)):
        end = text.find(b"\n", at)
        if end < 0:
            return b""
        at = end + 1
    return text[at:]


def _columns(body: bytes, dialect: Dialect, lines: Lines, where: str) -> list[pa.ChunkedArray]:
    separator = dialect.separator
    if separator == " ":
        body, separator = _with_tabs(body), "\t"

    def misfit(row: pa_csv.InvalidRow) -> str:
        text = (row.text or "").strip()
        if not text.strip(separator + ' \t"'):
            _count(lines, "blank", 1)
        elif len(lines.misfits) < MISFITS_KEPT_MAX:
            lines.misfits.append(text)
        else:
            lines.misfits_unkept += 1
        return "skip"

    names = [str(place) for place in range(dialect.columns)]
    # First as most files are; then with line ends inside quotes; then with quotes as any other character.
    for quote, has_line_ends in (('"', False), ('"', True), (False, False)):
        kept, unkept, others = len(lines.misfits), lines.misfits_unkept, dict(lines.others)
        try:
            table = pa_csv.read_csv(
                pa.py_buffer(body),
                read_options=pa_csv.ReadOptions(column_names=names, block_size=1 << 24, use_threads=True),
                parse_options=pa_csv.ParseOptions(
                    delimiter=separator, quote_char=quote, newlines_in_values=has_line_ends, invalid_row_handler=misfit
                ),
                convert_options=pa_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False, check_utf8=False
                ),
            )
            return list(table.columns)
        except pa.ArrowException as error:
            problem = " ".join(str(error).split())[:200]
            del lines.misfits[kept:]
            lines.misfits_unkept, lines.others = unkept, others
    raise DataError(f"{where} holds no table that can be read: {problem}", fix="export it as CSV with one reading per line")


def _with_tabs(body: bytes) -> bytes:
    """Rows of cells between blanks as rows of cells between tabs."""
    if b'"' not in body:
        return b"\n".join(BLANK_RUN.sub(b"\t", line.strip()) for line in body.split(b"\n"))
    rows = (cut(line, " ") for line in body.decode("utf-8", "replace").split("\n"))
    return "\n".join("\t".join(cell.replace("\t", " ") for cell in row) for row in rows).encode()


def _without_blank_rows(columns: list[pa.ChunkedArray], lines: Lines) -> list[pa.ChunkedArray]:
    """The rows in which any cell holds something."""
    is_blank = pc.equal(columns[0], "")
    for column in columns[1:]:
        if not pc.any(is_blank).as_py():
            return columns
        is_blank = pc.and_(is_blank, pc.equal(column, ""))
    count = pc.sum(is_blank).as_py() or 0
    if not count:
        return columns
    _count(lines, "blank", count)
    return [column.filter(pc.invert(is_blank)) for column in columns]
