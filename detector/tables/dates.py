"""Dates and clocks as people write them -> microseconds since the epoch, a whole column at once.

Which number is the day and which the month is decided for the column, not for the cell: by a number above 12, by the order of the rows, by the
mark between them, or by a format that the user gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detector.codec.event_time import UNREAD, event_times_us

DAY_US, HOUR_US, MINUTE_US, SECOND_US = 86_400_000_000, 3_600_000_000, 60_000_000, 1_000_000
ZONE = r"\s*(?P<z>Z|z|UTC|GMT|[+-]\d{2}:?\d{2}|[+-]\d{2})?(?:\s*[\[(].*[\])])?\s*$"
CLOCK_PARTS = r"(?P<h>\d{1,2})(?:[:.h](?P<mi>\d{1,2})(?:[:.](?P<s>\d{1,2})(?:[.,:](?P<f>\d{1,9}))?)?)?\s*(?P<p>[AaPp])?(?:\.?[Mm]\.?)?"
CLOCK = r"(?:(?:\s*T\s*|[\s,:_-]+)" + CLOCK_PARTS + ")?" + ZONE
WEEKDAY = r"^\s*(?:[A-Za-z]{2,9}\.?,?\s+)?"
LAYOUTS = (
    WEEKDAY + r"(?P<a>\d{1,4})(?P<m1>[-/. ])(?P<b>\d{1,2}|[A-Za-zä]{3,9})\.?,?[-/. ](?P<c>\d{1,4}),?" + CLOCK,
    WEEKDAY + r"(?P<b>[A-Za-zä]{3,9})(?P<m1>\.?[\s/-]+)(?P<a>\d{1,2}),?[\s/-]+(?P<c>\d{4}),?" + CLOCK,
)
COMPACT = (
    r"^(?P<c>\d{4})(?P<b>\d{2})(?P<a>\d{2})(?:[T_ -]?(?P<h>\d{2})(?::?(?P<mi>\d{2})(?::?(?P<s>\d{2})(?:[.,](?P<f>\d{1,9}))?)?)?)?" + ZONE
)
ONLY_CLOCK = r"^\s*" + CLOCK_PARTS + r"\s*$"
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTHS_ELSEWHERE = {
    "mär": 3,
    "mai": 5,
    "okt": 10,
    "dez": 12,
    "mrz": 3,
    "ene": 1,
    "abr": 4,
    "ago": 8,
    "set": 9,
    "dic": 12,
    "fév": 2,
    "avr": 4,
    "aoû": 8,
}
NUMBER_OF_MONTH = {name: number for number, name in enumerate(MONTHS, 1)} | MONTHS_ELSEWHERE
COARSE = (
    *((rf"^(\d{{4}})[\s-]?[Qq]{quarter}$", rf"\1-{month}-01") for quarter, month in ((1, "01"), (2, "04"), (3, "07"), (4, "10"))),
    (r"^(\d{4})[-/](\d{1,2})$", r"\1-\2-01"),
)
"""Quarters and months as their first days: 1974Q1, 2026-03."""
CENTURY_FROM = 69
"""Years of two digits are 1969 to 2068, as in POSIX."""

Order = Literal["day first", "month first", "year first"]


@dataclass(frozen=True, slots=True)
class Moments:
    """Times read from text.

    local_us     i8[T] microseconds since the epoch as the clock showed them, less the offset where the text bears one; UNREAD: no time
    has_offset   b1[T] whether the text bears an offset from UTC
    order        of day, month and year in the text
    assumed      why that order was taken, where the numbers do not decide; empty: they do
    is_undecided neither numbers nor marks decide
    """

    local_us: NDArray[np.int64]
    has_offset: NDArray[np.bool_]
    order: Order = "year first"
    assumed: str = ""
    is_undecided: bool = False

    @property
    def share(self) -> float:
        """Share of the cells that are times."""
        return float((self.local_us != UNREAD).mean()) if len(self.local_us) else 0.0


def read_moments(texts: pa.ChunkedArray, order: Order | None = None) -> Moments:
    """Read a column of dates with or without a clock.

    order  of day and month, where it is known
    """
    if pc.any(pc.match_substring_regex(texts, r"^\d{4}([\s-]?[Qq][1-4]|[-/]\d{1,2})$")).as_py():
        for pattern, day in COARSE:
            texts = pc.replace_substring_regex(texts, pattern, day)
    iso = event_times_us(texts.to_pylist(), "iso8601") if _looks_iso(texts) else None
    if iso is not None and (iso != UNREAD).all():
        return Moments(iso, pc.match_substring_regex(texts, r"(?:[Zz]|[+-]\d{2}:?\d{2})$").to_numpy())
    for layout in (*LAYOUTS, COMPACT):
        parts = _parts(texts, layout)
        if parts["c"].any() and (parts["c"] >= 0).mean() >= 0.5:
            return _dated(parts, "year first" if layout == COMPACT else order, is_compact=layout == COMPACT)
    if iso is not None and (iso != UNREAD).any():
        return Moments(iso, pc.match_substring_regex(texts, r"(?:[Zz]|[+-]\d{2}:?\d{2})$").to_numpy())
    return Moments(np.full(len(texts), UNREAD, np.int64), np.zeros(len(texts), np.bool_))


def are_clocks(texts: pa.ChunkedArray) -> bool:
    """Whether a column holds times of day and no dates, such as 18.00.00 or 06:30 PM."""
    there = texts.filter(pc.not_equal(texts, ""))
    pattern = r"^\s*\d{1,2}[:.h]\d{2}(?:[:.]\d{2}(?:[.,:]\d{1,9})?)?\s*(?:[AaPp]\.?[Mm]\.?)?\s*$"
    matches = pc.match_substring_regex(there, pattern)
    # 12.30 is a number before it is a clock: with a dot a clock has seconds.
    is_number = pc.match_substring_regex(there, r"^\s*\d{1,2}\.\d{2}\s*$")
    return bool(len(there)) and pc.mean(pc.cast(pc.and_not(matches, is_number), pa.int8())).as_py() > 0.9


def read_with_format(texts: pa.ChunkedArray, layout: str) -> Moments:
    """Read a column by a format of `strptime`; each text that occurs again and again is read once."""
    encoded = texts.combine_chunks().dictionary_encode()
    local, offset = [], []
    for text in encoded.dictionary.to_pylist():
        try:
            moment = datetime.strptime(text, layout)
            local.append((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
            offset.append(moment.tzinfo is not None)
        except (ValueError, OverflowError):
            local.append(np.nan)
            offset.append(False)
    at = encoded.indices.to_numpy()
    seconds = np.array(local, np.float64)
    times = np.where(np.isnan(seconds), UNREAD, np.rint(np.nan_to_num(seconds) * 1e6).astype(np.int64))
    return Moments(times[at], np.array(offset, np.bool_)[at])


def _looks_iso(texts: pa.ChunkedArray) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, r"^\d{4}-\d{2}-\d{2}")).as_py())


def _parts(texts: pa.ChunkedArray, layout: str) -> dict[str, Any]:
    """The parts of every text as i8[T], -1 where there is none; `m1` and `z`, `p` as text."""
    found = pc.extract_regex(texts, layout)
    names = [found.type.field(place).name for place in range(found.type.num_fields)]
    is_match = pc.is_valid(found).to_numpy()
    parts: dict[str, Any] = {}
    for name in names:
        column = pc.struct_field(found, name)
        if name in ("z", "p", "m1"):
            parts[name] = column
        elif name == "b":
            parts[name] = _months(column)
            parts["has_name"] = pc.fill_null(pc.match_substring_regex(column, "[A-Za-z]"), False).to_numpy()
        elif name == "f":
            parts[name] = _whole(pc.utf8_slice_codeunits(pc.utf8_rpad(pc.fill_null(column, ""), 6, "0"), 0, 6))
        else:
            parts[name] = _whole(column)
    parts["digits_a"] = pc.fill_null(pc.utf8_length(pc.struct_field(found, "a")), 0).to_numpy()
    parts["digits_c"] = pc.fill_null(pc.utf8_length(pc.struct_field(found, "c")), 0).to_numpy()
    for name in ("a", "b", "c"):
        parts[name] = np.where(is_match, parts[name], -1)
    return parts


def _whole(column: pa.ChunkedArray) -> NDArray[np.int64]:
    given = pc.if_else(pc.equal(column, ""), None, column)
    numbers: NDArray[np.int64] = pc.fill_null(pc.cast(given, pa.int64()), -1).to_numpy()
    return numbers


def _months(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """Numbers as they are, names of months as numbers."""
    is_name = pc.fill_null(pc.match_substring_regex(column, "[A-Za-z]"), False)
    numbers = _whole(pc.if_else(is_name, None, column))
    if pc.any(is_name).as_py():
        encoded = pc.utf8_slice_codeunits(pc.utf8_lower(pc.fill_null(column, "")), 0, 3).combine_chunks().dictionary_encode()
        known = np.array([NUMBER_OF_MONTH.get(name, -1) for name in encoded.dictionary.to_pylist()], np.int64)
        numbers = np.where(is_name.to_numpy(), known[encoded.indices.to_numpy()], numbers)
    return numbers


def _dated(parts: dict[str, Any], order: Order | None, *, is_compact: bool = False) -> Moments:
    """Times from parts: `a`, `b`, `c` in the text's order."""
    a, b, c = parts["a"], parts["b"], parts["c"]
    there = c >= 0
    assumed, is_undecided = "", False
    if is_compact:
        year, month, day, order = c, b, a, "year first"
    elif (parts["digits_a"][there] == 4).all() or ((a[there] > 31).all() and there.any()):
        year, month, day, order = a, b, c, "year first"
    else:
        year = c
        if parts["has_name"].any():
            order = "day first"
        elif order is None:
            order, assumed, is_undecided = _order(parts, there)
        month, day = (b, a) if order != "month first" else (a, b)
    short = there & (year < 100) & (parts["digits_a" if order == "year first" else "digits_c"] <= 2)
    year = np.where(short, year + np.where(year < CENTURY_FROM, 2000, 1900), year)
    days, exists = _days(np.where(there, year, 1970), np.where(there, month, 1), np.where(there, day, 1))
    clock_us, is_clock = _clock_us(parts)
    offset_us, has_offset = _offset_us(parts["z"])
    times = days * DAY_US + clock_us - offset_us
    return Moments(np.where(there & exists & is_clock, times, UNREAD), has_offset, order, assumed, is_undecided)


def _order(parts: dict[str, Any], there: NDArray[np.bool_]) -> tuple[Order, str, bool]:
    """Which of two numbers is the day: the one that exceeds 12; else the reading in which the rows go on with the smaller steps; else by the
    marks. returns  the order, why it was assumed, and whether nothing decides"""
    a, b = parts["a"][there], parts["b"][there]
    if (a > 12).any() or (b > 12).any():
        return ("day first" if (a > 12).sum() >= (b > 12).sum() else "month first"), "", False
    year, clock = parts["c"][there], _clock_us(parts)[0][there]
    walked = []
    for month, day in ((b, a), (a, b)):
        days, _ = _days(year, month, day)
        walked.append(float(np.abs(np.diff(days * DAY_US + clock)).sum()))
    if min(walked) * 2 < max(walked):
        day_first = walked[0] < walked[1]
        return ("day first" if day_first else "month first"), "the rows follow one another closely so", False
    if _has_half(parts):
        return "month first", "clocks with AM and PM usually go with it", False
    mark = pc.first(parts["m1"].filter(pa.array(there))).as_py()
    if mark in (".", "-"):
        return "day first", f"dates with {mark!r} usually are so", False
    return "day first", "nothing in the file decides", bool((a != b).any())


def _days(year: NDArray[np.int64], month: NDArray[np.int64], day: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Days since the epoch, and whether there is such a day."""
    exists = (year >= 1) & (year <= 9_999) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    months = (np.where(exists, year, 1970) - 1970) * 12 + np.where(exists, month, 1) - 1
    first = months.astype("datetime64[M]").astype("datetime64[D]")
    date = first + (np.where(exists, day, 1) - 1)
    exists &= date.astype("datetime64[M]") == months.astype("datetime64[M]")
    return date.astype(np.int64), exists


def _clock_us(parts: dict[str, Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Time of day, microseconds, and whether there is such a one; 24:00 is the end of the day."""
    h, mi, s, f = (np.maximum(parts[name], 0) for name in ("h", "mi", "s", "f"))
    half = pc.fill_null(pc.utf8_lower(parts["p"]), "").to_numpy(zero_copy_only=False) if _has_half(parts) else None
    is_clock = (h <= 24) & (mi < 60) & (s < 61) & ((h < 24) | ((mi == 0) & (s == 0)))
    if half is not None:
        has_half = half != ""
        is_clock &= ~has_half | ((h >= 1) & (h <= 12))
        h = np.where(has_half, h % 12 + np.where(half == "p", 12, 0), h)
    return h * HOUR_US + mi * MINUTE_US + s * SECOND_US + f, is_clock


def _has_half(parts: dict[str, Any]) -> bool:
    """Whether any clock says AM or PM."""
    return "p" in parts and bool(pc.any(pc.not_equal(pc.fill_null(parts["p"], ""), "")).as_py())


def _offset_us(zones: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """How far ahead of UTC each text says that it is, and whether it says so."""
    has_offset = pc.is_valid(zones).to_numpy() & (pc.fill_null(zones, "").to_numpy(zero_copy_only=False) != "")
    if not has_offset.any():
        return np.zeros(len(zones), np.int64), has_offset
    encoded = pc.fill_null(zones, "").combine_chunks().dictionary_encode()
    known = np.array([_one_offset_us(zone) for zone in encoded.dictionary.to_pylist()], np.int64)
    return known[encoded.indices.to_numpy()], has_offset


def _one_offset_us(zone: str) -> int:
    if not zone or zone[0] not in "+-":
        return 0
    digits = zone[1:].replace(":", "")
    ahead = int(digits[:2]) * HOUR_US + int(digits[2:] or 0) * MINUTE_US
    return ahead if zone[0] == "+" else -ahead
