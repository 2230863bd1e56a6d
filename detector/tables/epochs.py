"""Numbers that are times: since the epoch, Excel's serial days, or elapsed since the recording began.

A number alone can be anything. It is taken for a time where its size fits one unit and the column is named like a time, or goes on like one:
onwards, in equal steps that are not those of a counter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detector.codec.event_time import AUTO, MULTIPLIER, NANOSECONDS, UNREAD
from detector.tables import names
from detector.tables.dates import DAY_US

EXCEL_EPOCH_US = -25_569 * DAY_US
"""Day 0 of Excel's serial days, 1899-12-30, microseconds since 1970."""
EXCEL_DAYS = (32_874, 58_500)
"""Serial days that are recognised without being named: 1990 to 2060."""
ELAPSED = "elapsed_"
FORMATS = {
    **{
        f"epoch_{unit}": f"{word} since 1970"
        for unit, word in (("s", "seconds"), ("ms", "milliseconds"), ("us", "microseconds"), ("ns", "nanoseconds"))
    },
    "excel": "Excel's serial days",
    **{
        f"{ELAPSED}{unit}": f"elapsed {word}"
        for unit, word in (
            ("s", "seconds"),
            ("ms", "milliseconds"),
            ("us", "microseconds"),
            ("min", "minutes"),
            ("h", "hours"),
            ("d", "days"),
        )
    },
}
"""Words for `--time-format` where times are numbers, and what they mean."""
IN_RANGE_SHARE_MIN = 0.5
STEPS_ALIKE_SHARE_MIN = 0.5
ONWARDS_SHARE_MIN = 0.95


@dataclass(frozen=True, slots=True)
class NumericTimes:
    """times_us i8[T], UNREAD where a cell is no such number; format: one of FORMATS; is_named: the column's name speaks of time."""

    times_us: NDArray[np.int64]
    format: str
    is_named: bool


def read_numeric(column: pa.ChunkedArray, name: str, format: str | None = None) -> NumericTimes | None:
    """A column of numbers as times; None where they do not look like any.

    column  text or numbers
    format  one of FORMATS, where it is known
    """
    numbers = _numbers(column)
    if numbers is None:
        return None
    known = format or _recognised(numbers, name)
    return None if known is None else NumericTimes(_times(numbers, known), known, names.is_time(name))


def _numbers(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Integers exactly where all are, else floats; what is neither is null. None where there are no numbers."""
    kind = column.type
    if pa.types.is_integer(kind):
        return column
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return pc.cast(column, pa.float64(), safe=False)
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    whole = pc.match_substring_regex(column, r"^-?\d{1,18}$|^-?[1-8]\d{18}$")
    number = pc.match_substring_regex(column, r"^-?\d+([.,]\d*)?([eE][+-]?\d+)?$")
    there = pc.sum(number).as_py() or 0
    if there == 0 or there < IN_RANGE_SHARE_MIN * (pc.sum(pc.not_equal(column, "")).as_py() or 1):
        return None
    if pc.sum(whole).as_py() == there:
        return pc.cast(pc.if_else(whole, column, None), pa.int64())
    return pc.cast(pc.replace_substring(pc.if_else(number, column, None), ",", "."), pa.float64())


def _recognised(numbers: pa.ChunkedArray, name: str) -> str | None:
    value = pc.cast(numbers.drop_null(), pa.float64(), safe=False).to_numpy()
    if not len(value):
        return None
    is_named = names.is_time(name)
    for unit, low, end in AUTO:
        if ((value >= low) & (value < end)).mean() > IN_RANGE_SHARE_MIN and (is_named or _goes_like_time(value)):
            return f"epoch_{unit}"
    if not is_named or not _goes_onwards(value):
        return None
    if ((value >= EXCEL_DAYS[0]) & (value < EXCEL_DAYS[1])).all() and (np.abs(np.diff(value)) < 32).all():
        return "excel"
    unit_us = names.unit_of_time_us(name)
    if unit_us is None or value[0] < 0:
        return None
    return next((f"{ELAPSED}{unit}" for unit in ("s", "ms", "us", "min", "h", "d") if names.UNITS_OF_TIME[unit] == unit_us), None)


def _goes_onwards(value: NDArray[np.float64]) -> bool:
    steps = np.diff(value)
    return not len(steps) or max((steps >= 0).mean(), (steps <= 0).mean()) >= ONWARDS_SHARE_MIN


def _goes_like_time(value: NDArray[np.float64]) -> bool:
    """Onwards in equal steps, and not one by one, as counters go."""
    steps = np.diff(value)
    moved = np.abs(steps[steps != 0])
    if len(moved) < 2 or not _goes_onwards(value):
        return False
    usual = float(np.median(moved))
    return usual != 1 and bool((np.abs(moved - usual) <= 0.1 * usual).mean() >= STEPS_ALIKE_SHARE_MIN)


def _times(numbers: pa.ChunkedArray, format: str) -> NDArray[np.int64]:
    if format.startswith("epoch_"):
        unit = format.removeprefix("epoch_")
        if pa.types.is_integer(numbers.type):
            whole = pc.fill_null(pc.cast(numbers, pa.int64()), UNREAD).to_numpy()
            limit = 2**61 // MULTIPLIER.get(unit, 1)
            scaled = whole // NANOSECONDS if unit == "ns" else np.where(np.abs(whole) < limit, whole, 0) * MULTIPLIER[unit]
            return np.where((whole == UNREAD) | (np.abs(whole) >= limit), UNREAD, scaled)
        return _rounded(numbers, MULTIPLIER.get(unit, 0) or 1 / NANOSECONDS)
    if format == "excel":
        times = _rounded(numbers, DAY_US)
        seconds = np.rint(times / 1e6) * 1e6  # a serial day of six decimals is exact to a tenth of a second
        is_whole = (np.abs(times - seconds) < 100_000) | (times == UNREAD)
        times = np.where(is_whole.all() & (times != UNREAD), seconds.astype(np.int64), times)
        return np.where(times == UNREAD, UNREAD, times + EXCEL_EPOCH_US)
    return _rounded(numbers, names.UNITS_OF_TIME[format.removeprefix(ELAPSED)])


def _rounded(numbers: pa.ChunkedArray, unit_us: float) -> NDArray[np.int64]:
    value = pc.fill_null(pc.cast(numbers, pa.float64(), safe=False), np.nan).to_numpy() * unit_us
    is_time = np.isfinite(value) & (np.abs(value) < 2.0**61)
    return np.where(is_time, np.rint(np.where(is_time, value, 0)).astype(np.int64), UNREAD)
