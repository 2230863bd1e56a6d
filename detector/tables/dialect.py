"""How a text file is laid out: what separates its columns, where the table begins, which lines are none of its rows."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from detector.tables.cells import is_missing_word, is_number, is_time

SEPARATORS = (";", "\t", "|", ",", " ")
"""Tried in this order; of those that cut the lines equally well the first one counts. A blank stands for any run of blanks and tabs."""
SAMPLE_LINES = 400
UNITS_ROWS_MAX = 3
ALIKE = 0.9
COMMENT = re.compile(r"^\s*(#|//|%)")
EXCEL_SEPARATOR = re.compile(r"^\"?sep=(.)\"?$", re.IGNORECASE)
NAMES = {";": "semicolon", "\t": "tab", "|": "bar", ",": "comma", " ": "blanks"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a text file is laid out.

    separator     one of SEPARATORS
    names         of the columns, as they stand in the file; () where it has no header
    columns       how many cells a row has
    first_line    the line that the table's rows begin at, from 0
    titles        lines before the header that are no part of the table
    units         per column what the rows between header and data say, joined by a blank; () where there are none
    units_rows    how many such rows there are
    comments      lines before the rows that begin with #, // or %
    """

    separator: str
    names: tuple[str, ...]
    columns: int
    first_line: int
    titles: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    units_rows: int = 0
    comments: int = 0

    @property
    def separated_by(self) -> str:
        """The separator's name."""
        return NAMES.get(self.separator, repr(self.separator))


def cut(line: str, separator: str) -> list[str]:
    """The cells of a line, without blanks around them."""
    if separator == " " and '"' not in line:
        return line.split()
    skips = separator in (" ", ",", ";")
    text = line.strip() if separator == " " else line
    cells = next(csv.reader([text], delimiter=separator, skipinitialspace=skips), [])
    return [cell.strip() for cell in cells if separator != " " or cell]


def sniff(text: str, separator: str | None = None) -> Dialect | None:
    """Find the layout from the beginning of a file; None where it holds no line with a row.

    text       the first lines, whole ones
    separator  what is known of it
    """
    lines = text.split("\n")[:SAMPLE_LINES]
    match = EXCEL_SEPARATOR.match(lines[0].strip()) if lines else None
    if match:
        separator = separator or match[1]
    skipped = {number for number, line in enumerate(lines) if not line.strip() or COMMENT.match(line)} | ({0} if match else set())
    numbers = [number for number in range(len(lines)) if number not in skipped]
    if not numbers:
        return None
    chosen = separator or _separator([lines[number] for number in numbers])
    rows = {number: cut(lines[number], chosen) for number in numbers}
    columns = _columns(list(rows.values()))
    head = next(
        (number for number in numbers if len(rows[number]) >= min(columns, 2) and _begins(number, numbers, rows, columns)), numbers[0]
    )
    body = [number for number in numbers if number > head]
    names = _names(rows[head], [rows[number] for number in body], columns)
    in_comment = False
    if names is None:
        names, body = _names_in_comment(lines, head, chosen, columns), [head, *body]
        in_comment = bool(names)
    units = _units([rows[number] for number in body], columns) if names else []
    titles = tuple(lines[number].strip() for number in numbers if number < head)
    first = body[len(units)] if len(body) > len(units) else (body[-1] if body else head) + 1
    comments = sum(COMMENT.match(line) is not None for line in lines[:first]) - in_comment
    joined = tuple(" ".join(filter(None, cells)) for cells in zip(*units, strict=True)) if units else ()
    return Dialect(chosen, tuple(names), columns, first, titles, joined, len(units), comments)


def _separator(lines: Sequence[str]) -> str:
    """What cuts most lines into equally many cells, two at least."""
    best, found = 0.0, ","
    for candidate in SEPARATORS:
        counts = Counter(len(cut(line, candidate)) for line in lines)
        counts.pop(1, None)
        counts.pop(0, None)
        alike = max(counts.values(), default=0) / len(lines)
        if candidate == " ":  # words of a title or a note are separated by blanks too
            alike *= 0.9
        if alike > best and (best == 0 or alike * ALIKE > best):
            best, found = alike, candidate
    return found


def _columns(rows: Sequence[Sequence[str]]) -> int:
    """How many cells most rows have; rows far down count, the first ones may be titles."""
    counts = Counter(len(row) for row in rows)
    return max(counts, key=lambda count: (counts[count], count))


def _begins(number: int, numbers: Sequence[int], rows: dict[int, list[str]], columns: int) -> bool:
    """Whether the table begins at this line: it has as many cells as its rows, or a few less; those after it are rows."""
    cells = rows[number]
    after = [len(rows[other]) for other in numbers if other > number][:3]
    is_wide = len(cells) == columns or (columns - len(cells) == 1 and all(cells)) or len(cells) > columns
    return is_wide and (not after or sum(count == columns for count in after) * 2 >= len(after))


def _is_data(cell: str) -> bool:
    return is_number(cell) or is_time(cell)


def _names(head: Sequence[str], body: Sequence[Sequence[str]], columns: int) -> list[str] | None:
    """The header's names, one per column; None where the first row is data."""
    rows = [row for row in body if len(row) == columns]
    shift = columns - len(head)
    if not rows:
        return None if any(map(_is_data, head)) and not any(cell and not _is_data(cell) for cell in head[:1]) else _fitted(head, columns)
    kinds = [_share(_is_data, [row[place] for row in rows]) > 0.5 for place in range(columns)]
    if shift == 1:  # names of rows come first and have none of their own (R), or a last column has none
        left = sum(kinds[place + 1] and not _is_data(name) for place, name in enumerate(head))
        right = sum(kinds[place] and not _is_data(name) for place, name in enumerate(head))
        is_left = left > right or (left == right and len({row[0] for row in rows}) == len(rows))
        names = ["", *head] if is_left else [*head, ""]
    else:
        names = _fitted(head, columns)
    named = [name for name in names if name]
    if any(kinds):
        is_header = any(kind and name and not _is_data(name) and not is_missing_word(name) for kind, name in zip(kinds, names, strict=True))
    else:
        is_header = not any(map(_is_data, named))
    return names if is_header else None


def _fitted(head: Sequence[str], columns: int) -> list[str]:
    """One name per column: what is too much is left out, what lacks is empty."""
    return [*head[:columns], *[""] * (columns - len(head))]


def _names_in_comment(lines: Sequence[str], head: int, separator: str, columns: int) -> list[str]:
    """Names from the comment before a table without a header: `# time temperature`."""
    for line in reversed(lines[:head]):
        if COMMENT.match(line):
            cells = cut(COMMENT.sub("", line).strip(), separator)
            return cells if len(cells) == columns and not any(map(_is_data, cells)) else []
    return []


def _units(body: Sequence[Sequence[str]], columns: int) -> list[Sequence[str]]:
    """The rows between header and data: units, kinds of averages."""
    rows = [row for row in body if len(row) == columns]
    if len(rows) <= UNITS_ROWS_MAX:
        return []
    data = rows[UNITS_ROWS_MAX:]
    kinds = [place for place in range(columns) if _share(_is_data, [row[place] for row in data]) > 0.5]
    found: list[Sequence[str]] = []
    for row in body[:UNITS_ROWS_MAX]:
        cells = [row[place] for place in kinds] if len(row) == columns else []
        if not any(cells) or any(map(_is_data, cells)) or all(is_missing_word(cell) for cell in cells):
            break
        found.append(row)
    return found


def _share(holds: Callable[[str], bool], cells: Sequence[str]) -> float:
    """Share of the cells that are there for which it holds."""
    there = [cell for cell in cells if cell and not is_missing_word(cell)]
    return sum(map(holds, there)) / len(there) if there else 0.0
