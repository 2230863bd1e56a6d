"""A table as it came from a file: columns of text or of numbers, under names of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from detector.tables import names
from detector.tables.numbers import Decimal, Numbers, decimal_mark, numbers_in

SAMPLE_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of T rows.

    columns   by name, each text, numbers, booleans or timestamps
    units     of columns, where a row or a name tells
    renamed   names that the file does not have: the new name -> the one in the file
    decimal   the decimal mark where a column does not tell
    missing   texts and numbers that stand for a value that is missing
    """

    columns: dict[str, pa.ChunkedArray]
    units: dict[str, str] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    decimal: Decimal = "."
    missing: frozenset[str | float] = frozenset()
    _numbers: dict[str, Numbers | None] = field(default_factory=dict)

    @staticmethod
    def of(
        given: Sequence[str],
        columns: Sequence[pa.ChunkedArray],
        units: Sequence[str] = (),
        decimal: Decimal | None = None,
        missing: Sequence[str | float] = (),
        default: Decimal = ".",
    ) -> Table:
        """A table of columns that may bear the same name, or none.

        decimal   the mark, where it is known
        default   the mark where no column tells
        """
        distinct, renamed = names.distinct(given)
        named = dict(zip(distinct, map(_plain, columns), strict=True))
        if decimal is None:
            marks = [decimal_mark(column) for column in named.values() if is_text(column)]
            commas, points = marks.count(","), marks.count(".")
            decimal = default if commas == points else "," if commas > points else "."
        of_rows = dict(zip(distinct, units, strict=True)) if units else {}
        return Table(named, {name: unit for name, unit in of_rows.items() if unit}, renamed, decimal, frozenset(_entries(missing)))

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()))) if self.columns else 0

    def sample(self) -> Table:
        """Rows from its beginning, middle and end."""
        if len(self) <= 3 * SAMPLE_ROWS:
            return self
        middle = len(self) // 2
        places = pa.array([*range(SAMPLE_ROWS), *range(middle, middle + SAMPLE_ROWS), *range(len(self) - SAMPLE_ROWS, len(self))])
        return self.where(lambda column: column.take(places))

    def where(self, chosen: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> Table:
        """The table with columns changed by a function."""
        return replace(self, columns={name: chosen(column) for name, column in self.columns.items()}, _numbers={})

    def numbers(self, name: str) -> Numbers | None:
        """A column's numbers; None where it mostly holds something else."""
        if name not in self._numbers:
            self._numbers[name] = self._read_numbers(self.columns[name])
        return self._numbers[name]

    def _read_numbers(self, column: pa.ChunkedArray) -> Numbers | None:
        kind = column.type
        if is_text(column):
            texts = [entry for entry in self.missing if isinstance(entry, str)]
            cleaned = pc.if_else(pc.is_in(column, value_set=pa.array(texts, pa.string())), "", column) if texts else column
            found = numbers_in(cleaned, self.decimal)
        elif pa.types.is_null(kind):
            found = Numbers(np.full(len(column), np.nan), empty=len(column))
        elif pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_boolean(kind):
            plain = pc.cast(column, pa.int8()) if pa.types.is_boolean(kind) else column
            value = pc.fill_null(pc.cast(plain, pa.float64(), safe=False), np.nan).to_numpy()
            value = np.where(np.isfinite(value), value, np.nan)
            found = Numbers(value, empty=int(np.isnan(value).sum()), is_boolean=pa.types.is_boolean(kind))
        else:
            return None
        sentinels = [entry for entry in self.missing if isinstance(entry, float)]
        if found is None or not sentinels:
            return found
        is_sentinel = np.isin(found.value, sentinels)
        if not is_sentinel.any():
            return found
        counted = {f"{entry:g}": count for entry in sentinels if (count := int((found.value == entry).sum()))}
        return replace(found, value=np.where(is_sentinel, np.nan, found.value), texts=found.texts | counted)

    def unit(self, name: str) -> str:
        """A column's unit: by a row of units, by its name, or by its cells; empty where none tells."""
        numbers = self._numbers.get(name)
        return self.units.get(name) or names.unit(name) or (numbers.unit if numbers else "")


def is_text(column: pa.ChunkedArray) -> bool:
    """Whether a column holds text."""
    return bool(pa.types.is_string(column.type))


def is_moment(column: pa.ChunkedArray) -> bool:
    """Whether a column holds timestamps or dates."""
    return bool(pa.types.is_timestamp(column.type) or pa.types.is_date(column.type))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text of any kind as plain text without blanks around it; what is missing is empty."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = pc.cast(column, kind.value_type), kind.value_type
    if (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or (hasattr(pa.types, "is_string_view") and pa.types.is_string_view(kind))
    ):
        return pc.utf8_trim_whitespace(pc.fill_null(pc.cast(column, pa.string()), ""))
    return column


def _entries(missing: Sequence[str | float]) -> list[str | float]:
    """Sentinels as texts and as numbers: what reads as a number is compared as one."""
    found: list[str | float] = []
    for entry in missing:
        try:
            found.append(float(entry))
        except ValueError:
            found.append(str(entry))
    return found
