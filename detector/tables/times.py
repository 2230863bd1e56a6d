"""Which columns of a table are its time, and what time each row has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detector.codec.event_time import UNREAD
from detector.errors import ConfigError, DataError
from detector.tables import dates, epochs, names
from detector.tables.dates import DAY_US, Moments, Order
from detector.tables.table import Table, is_moment, is_text

SHARE_MIN = 0.5
"""A column is a time if so many of its cells are."""
ORDERS: dict[str, Order] = {"day_first": "day first", "month_first": "month first", "iso8601": "year first"}
"""Words for `--time-format` where times are dates."""
FAR_SHARE_MAX = 0.01
FAR_US_MIN = 365 * DAY_US
FAR_SPANS = 10
"""Times are absurd where few lie so far from all others: further than a year, and than ten times what the others span."""
CALENDAR_MIN = ("year", "month", "day")
YEARS = (1500, 2200)
ONWARDS_SHARE_MIN = 0.9


@dataclass(frozen=True, slots=True)
class TableTimes:
    """The times of a table's rows.

    columns      that they were read from; () where they follow from the rows' order
    local_us     i8[T], microseconds since the epoch, of the clock on the wall unless `has_offset`; UNREAD: the row has none
    has_offset   b1[T] whether it is UTC for sure
    format       in words
    assumed      why it was read so, where nothing in the file decides; empty: the file decides
    """

    columns: tuple[str, ...]
    local_us: NDArray[np.int64]
    has_offset: NDArray[np.bool_]
    format: str
    assumed: str = ""


class _Candidate(NamedTuple):
    rank: tuple[object, ...]
    columns: tuple[str, ...]


def find_times(table: Table, where: str, wanted: Sequence[str] | None = None, format: str | None = None) -> TableTimes:
    """The times of a table.

    where   the file's name, for messages
    wanted  the columns that make up the time, joined in this order; None: found
    format  a format of strptime, or a word of `epochs.FORMATS` or ORDERS; None: found

    raises DataError    there is no time, or it can be read in two ways
    raises ConfigError  there is no such format
    """
    if format is not None and "%" not in format and format not in epochs.FORMATS and format not in ORDERS:
        known = ", ".join((*ORDERS, *epochs.FORMATS))
        raise ConfigError(f"there is no time format {format!r}", fix=f"give one of {known}, or one of strptime, such as '%d/%m/%Y %H:%M'")
    if wanted is not None:
        return _read(table, tuple(wanted), where, format)
    candidates = sorted(_candidates(table.sample(), format))
    if not candidates:
        raise DataError(f"{where}: no column holds times; it has {described(table)}", fix=_fix(table))
    return _read(table, candidates[0].columns, where, format)


def every(table: Table, stream: NDArray[np.int32], every_s: float) -> TableTimes:
    """Times of rows that have none: each stream's rows follow one another `every_s` seconds apart, from 1970 on."""
    order = np.argsort(stream, kind="stable")
    _, starts, counts = np.unique(stream[order], return_index=True, return_counts=True)
    place = np.empty(len(stream), np.int64)
    place[order] = np.arange(len(stream)) - np.repeat(starts, counts)
    times = np.rint(place * (every_s * 1e6)).astype(np.int64)
    return TableTimes((), times, np.ones(len(stream), np.bool_), f"rows {every_s:g} s apart")


def far_from_rest(times_us: NDArray[np.int64]) -> NDArray[np.bool_]:
    """b1[T] whether a time lies absurdly far from all others: a clock that was not set, a year with a digit too many. times_us without UNREAD"""
    is_far = np.zeros(len(times_us), np.bool_)
    if len(times_us) < 3:
        return is_far
    ordered = np.sort(times_us)
    few = max(1, int(FAR_SHARE_MAX * len(ordered)))
    low, high = int(ordered[few]), int(ordered[-1 - few])
    reach = max(FAR_US_MIN, FAR_SPANS * (high - low))
    last = ordered[ordered >= high]
    jump = np.flatnonzero(np.diff(last) > reach)
    if len(jump):
        is_far |= times_us > int(last[jump[0]])
    first = ordered[ordered <= low]
    jump = np.flatnonzero(np.diff(first) > reach)
    if len(jump):
        is_far |= times_us < int(first[jump[-1] + 1])
    return is_far


def _candidates(sample: Table, format: str | None) -> Iterator[_Candidate]:
    """Columns that may be the time, the likeliest first when sorted."""
    on_dates: list[str] = []
    clocks: list[str] = []
    for place, (name, column) in enumerate(sample.columns.items()):
        rank = (*names.time_rank(name), place)
        if is_moment(column):
            yield _Candidate((0, not names.is_time(name), *rank), (name,))
            continue
        if is_text(column) and dates.are_clocks(column):
            clocks.append(name)
            continue
        if format is not None and format not in ORDERS:
            if names.is_time(name) and _with_format(column, name, format) is not None:
                yield _Candidate((0, False, *rank), (name,))
            continue
        moments = _moments(column, name)
        if moments is not None and moments.share >= SHARE_MIN:
            is_date = (
                is_text(column) and bool((moments.local_us[moments.local_us != UNREAD] % DAY_US == 0).all()) and not _has_clock(column)
            )
            if is_date:
                on_dates.append(name)
            yield _Candidate((3 if is_date else 0, not names.is_time(name), *rank), (name,))
        elif (numeric := epochs.read_numeric(column, name)) is not None:
            yield _Candidate((2 if numeric.is_named else 4, False, *rank), (name,))
    hours = [name for name in sample.columns if names.calendar_part(name) == "hour"]
    for date in on_dates:
        clock = next(iter(sorted(clocks, key=lambda name: not names.is_time(name)) or hours), None)
        if clock is not None:
            yield _Candidate((1, not names.is_time(date), *names.time_rank(date), 0), (date, clock))
    parts = {part: name for name in reversed(sample.columns) if (part := names.calendar_part(name)) is not None and sample.numbers(name)}
    if all(part in parts for part in CALENDAR_MIN):
        chosen = tuple(parts[part] for part in names.CALENDAR if part in parts and part != "quarter")
        yield _Candidate((1, True, False, 0, 0), chosen)
    elif "year" in parts and (year := sample.numbers(parts["year"])) is not None and _go_like_years(year.value):
        within = next((parts[part] for part in ("month", "quarter") if part in parts), None)
        yield _Candidate((5, True, False, 0, 0), (parts["year"],) if within is None else (parts["year"], within))


def _go_like_years(value: NDArray[np.float64]) -> bool:
    """Whether numbers are years that go on: not a machine's year of construction."""
    steps = np.diff(value)
    is_year = np.isfinite(value).all() and (value % 1 == 0).all() and YEARS[0] <= value.min() and value.max() <= YEARS[1]
    return bool(is_year) and len(np.unique(value)) > 2 and bool((steps >= 0).mean() >= ONWARDS_SHARE_MIN)


def _moments(column: pa.ChunkedArray, name: str) -> Moments | None:
    """A column of text, or of whole numbers such as 202603020010, as dates."""
    if pa.types.is_integer(column.type):
        column = pc.fill_null(pc.cast(column, pa.string()), "")
    if not is_text(column):
        return None
    digits = pc.match_substring_regex(column, r"^\d{8,14}$")
    if pc.any(digits).as_py():
        if not names.is_time(name) or not pc.all(pc.or_(digits, pc.equal(column, ""))).as_py():
            return None
        moments = dates.read_moments(column)
        years = moments.local_us[moments.local_us != UNREAD].astype("datetime64[us]").astype("datetime64[Y]").astype(int) + 1970
        return moments if len(years) and years.min() >= 1950 and years.max() <= 2100 else None
    if pc.mean(pc.cast(pc.match_substring_regex(column, r"^[+-]?\d+([.,]\d+)?$"), pa.int8())).as_py() in (None, 1):
        return None
    return dates.read_moments(column)


def _has_clock(column: pa.ChunkedArray) -> bool:
    return bool(pc.any(pc.match_substring_regex(column, r"\d[T ,_]+\d{1,2}([:.h]|$)")).as_py())


def _read(table: Table, columns: tuple[str, ...], where: str, format: str | None) -> TableTimes:
    shown = " + ".join(map(repr, columns))
    is_year = names.calendar_part(columns[0]) == "year" and table.numbers(columns[0]) is not None
    column = table.columns[columns[0]] if len(columns) == 1 and not is_year else _joined(table, columns)
    if is_moment(column):
        zone = column.type.tz if pa.types.is_timestamp(column.type) else None
        as_us = pc.cast(column, pa.timestamp("us", tz=zone), safe=False)
        times = pc.fill_null(pc.cast(as_us, pa.int64()), UNREAD).to_numpy()
        return TableTimes(columns, times, np.full(len(times), zone is not None), "timestamps")
    if format is not None and format not in ORDERS:
        found = _with_format(column, columns[-1], format)
    else:
        moments = _moments(column, columns[0] if len(columns) == 1 else "time")
        if moments is not None and moments.share > 0:
            if format is not None and ORDERS[format] != moments.order:
                moments = dates.read_moments(column, ORDERS[format])
            moments = replace(moments, assumed="", is_undecided=False) if format is not None else moments
            found = _dated(columns, column, moments, where)
        else:
            found = _with_format(column, columns[-1], None)
    if found is None or (found.local_us == UNREAD).all():
        example = next((str(cell) for cell in column.slice(0, 1_000).to_pylist() if cell not in (None, "")), "")
        as_format = f" as {format!r} says" if format else ""
        raise DataError(
            f"{where}: {shown} holds no times{as_format}, but cells such as {example[:40]!r}", fix=_fix_format(table, columns, format)
        )
    return replace(found, columns=columns)


def _with_format(column: pa.ChunkedArray, name: str, format: str | None) -> TableTimes | None:
    """Numbers, or text by a format of strptime."""
    if format is None or "%" not in format:
        numeric = epochs.read_numeric(column, name, format)
        if numeric is None:
            return None
        is_known = np.ones(len(column), np.bool_)
        return TableTimes((), numeric.times_us, is_known, epochs.FORMATS[numeric.format])
    texts = column if is_text(column) else pc.fill_null(pc.cast(column, pa.string()), "")
    moments = dates.read_with_format(texts, format)
    return None if moments.share == 0 else TableTimes((), moments.local_us, moments.has_offset, format)


def _dated(columns: tuple[str, ...], column: pa.ChunkedArray, moments: Moments, where: str) -> TableTimes:
    if moments.is_undecided:
        example = next(cell for cell, time in zip(column.to_pylist(), moments.local_us.tolist(), strict=True) if time != UNREAD)
        raise DataError(
            f"{where}: {' + '.join(map(repr, columns))} holds dates such as {example!r}, and nothing in the file tells the day from the month",
            fix="say --time-format day_first or --time-format month_first",
        )
    return TableTimes(columns, moments.local_us, moments.has_offset, f"dates, {moments.order}", moments.assumed)


def _joined(table: Table, columns: tuple[str, ...]) -> pa.ChunkedArray:
    """The text of several columns: date and clock, or the parts of a date."""
    texts = [
        column if is_text(column) else pc.fill_null(pc.cast(column, pa.string()), "")
        for column in (table.columns[name] for name in columns)
    ]
    parts = [names.calendar_part(name) for name in columns]
    if parts[:3] == list(CALENDAR_MIN):
        whole = [pc.replace_substring_regex(text, r"\.0*$", "") for text in texts]
        marks = ("", "-", "-", " ", ":", ":")
        clock = [] if len(whole) > 3 else [pa.scalar(" 0:0")]
        joined = whole[0]
        for mark, text in zip(marks[1:], whole[1:], strict=False):
            joined = pc.binary_join_element_wise(joined, text, mark)
        if len(whole) == 4:
            clock = [pa.scalar(":0")]
        return pc.binary_join_element_wise(joined, *clock, "") if clock else joined
    if parts[0] == "year" and (len(parts) == 1 or parts[1] in ("month", "quarter")):
        month = pc.replace_substring_regex(texts[1], r"\D|\.0*$", "") if len(texts) > 1 else pa.scalar("1")
        if parts[1:2] == ["quarter"]:
            for quarter, first in (("4", "10"), ("3", "7"), ("2", "4")):
                month = pc.replace_substring_regex(month, f"^{quarter}$", first)
        year = pc.replace_substring_regex(texts[0], r"\.0*$", "")
        return pc.binary_join_element_wise(year, month, pa.scalar("1"), "-")
    joined = texts[0]
    for text in texts[1:]:
        joined = pc.binary_join_element_wise(joined, text, " ")
    return pc.utf8_trim_whitespace(joined)


def described(table: Table, most: int = 12) -> str:
    """The columns of a table with an example of each, for a message."""
    shown = []
    for name, column in list(table.columns.items())[:most]:
        example = next((str(cell) for cell in column.slice(0, 100).to_pylist() if cell not in (None, "")), "empty")
        shown.append(f"{name!r} ({example[:24]})")
    more = len(table.columns) - most
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _fix(table: Table) -> str:
    named = [name for name in table.columns if names.is_time(name) and (numbers := table.numbers(name)) is not None and not numbers.texts]
    if named:
        return f"say what the numbers of {named[0]!r} are: --time {named[0]!r} --time-format elapsed_s (or {', '.join(list(epochs.FORMATS)[:5])}, elapsed_ms)"
    return (
        "name the column that counts the time with --time COLUMN --time-format elapsed_s (or another of --help), "
        "or say how far apart each stream's rows are with --every SECONDS"
    )


def _fix_format(table: Table, columns: tuple[str, ...], format: str | None) -> str:
    if format:
        return "give the format of these cells with --time-format, one of strptime such as '%d/%m/%Y %H:%M:%S'"
    if len(columns) == 1 and table.numbers(columns[0]) is not None:
        return f"say what these numbers are with --time-format: {', '.join(epochs.FORMATS)}"
    return "give their format with --time-format, one of strptime such as '%d/%m/%Y %H:%M:%S', or name another column with --time"
