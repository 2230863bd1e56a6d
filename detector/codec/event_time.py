"""Event times as people write them -> microseconds since the epoch, UTC.

Integers and ISO 8601 are exact; what is finer than a microsecond is cut off (towards the past, so that order is kept).
Floats are rounded to the nearest microsecond, ties to even: a float of seconds is exact to about 0.2 us today.
Text that is a JSON number is a number. ISO 8601 without an offset means UTC.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from detector.codec.reading_format import EventTimeUnit, ReadingFormat, Unreadable

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
NUMBER_CHARACTERS_MAX = 64

# Microseconds per unit; nanoseconds are the one unit that is divided.
MULTIPLIER = {"s": 1_000_000, "ms": 1_000, "us": 1}
NANOSECONDS = 1_000
# The unit follows from the size of the number: each range spans 1973-03-03 to 2286-11-20, and no two overlap.
AUTO: tuple[tuple[EventTimeUnit, int, int], ...] = (
    ("s", 10**8, 10**10),
    ("ms", 10**11, 10**13),
    ("us", 10**14, 10**16),
    ("ns", 10**17, 10**19),
)
FAR_US = 2**61  # further than any bound, and safe to add to any time
FLOAT_EXACT_MAX = 2**53  # integers up to here survive a float
UNREAD = np.iinfo(np.int64).min


def event_time_us(value: float | str, unit: EventTimeUnit) -> int:
    """One event time, microseconds since the epoch; may be any integer, its bounds are checked apart.

    raises Unreadable  with what is expected and what was found, without the field's name
    """
    if isinstance(value, str):
        number = None if unit == "iso8601" else number_of(value)
        if number is None:
            if unit not in ("auto", "iso8601"):
                raise Unreadable("WrongType", f"expected {_expected(unit)}, found text {shown(value)}")
            return _iso8601_us(value, unit)
        value = number
    elif unit == "iso8601":
        raise Unreadable("WrongType", f"expected {_expected(unit)}, found the number {value!r:.40}")
    if unit == "auto":
        for name, low, end in AUTO:
            if low <= value < end:
                return _scaled(value, name)
        raise Unreadable("OutOfRange", f"expected {_expected(unit)}, found {value!r:.40}, which lies outside 1973 to 2286 in any unit")
    if abs(value) > 10**30:
        raise Unreadable("OutOfRange", f"expected {_expected(unit)}, found {value!r:.40}")
    return _scaled(value, unit)


def event_times_us(values: Sequence[float | str | None], unit: EventTimeUnit) -> NDArray[np.int64]:
    """Many event times at once: i8[N], UNREAD where `event_time_us` would refuse or should decide.

    Columns of one kind take the fast ways: all integers, floats that are exact, ISO 8601 of the usual layout.
    """
    if not values:
        return np.empty(0, np.int64)
    if isinstance(values[0], str):
        times = _iso8601_columns(values) if unit in ("auto", "iso8601") else None
    else:
        times = None if unit == "iso8601" else _number_columns(values, unit)
    if times is None:
        times = np.full(len(values), UNREAD, np.int64)
    for position in np.flatnonzero(times == UNREAD).tolist():
        value = values[position]
        if value is None:
            continue
        try:
            time = event_time_us(value, unit)
        except Unreadable:
            continue
        if -FAR_US < time < FAR_US:
            times[position] = time
    return times


def earliest_latest_us(log_time_us: NDArray[np.int64], format: ReadingFormat) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The bounds of event time, per message: around the log's own time, or those of the format where that is unknown (negative)."""
    known = log_time_us >= 0
    past, future = min(format.past_us_max, FAR_US), min(format.future_us_max, FAR_US)
    return np.where(known, log_time_us - past, format.earliest_us), np.where(known, log_time_us + future, format.latest_us)


def number_of(text: str) -> int | float | None:
    """The number that a text is, if it is one as JSON writes numbers (no spaces, no `+`, no NaN)."""
    match = NUMBER.fullmatch(text) if len(text) <= NUMBER_CHARACTERS_MAX else None
    if match is None:
        return None
    return float(text) if match[1] or match[2] else int(text)


def utc(time_us: int) -> datetime:
    """Microseconds since the epoch as a moment in UTC.

    raises OverflowError  before year 1 or after year 9999
    """
    return EPOCH + timedelta(microseconds=time_us)


def rfc3339(time_us: int) -> str:
    """Microseconds since the epoch as RFC 3339, UTC, with all six digits.

    raises OverflowError  before year 1 or after year 9999
    """
    return rfc3339_of(utc(time_us))


def rfc3339_of(moment: datetime) -> str:
    """A moment in UTC as RFC 3339, with all six digits."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def shown(text: str) -> str:
    """A text for a person, in quotes, cut where it is long."""
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _expected(unit: EventTimeUnit) -> str:
    names = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
    if unit == "iso8601":
        return "a time in ISO 8601, such as '2026-11-01T10:00:00Z'"
    return "a time in ISO 8601 or a number since the epoch" if unit == "auto" else f"a number of {names[unit]} since the epoch"


def _scaled(value: float, unit: EventTimeUnit) -> int:
    if isinstance(value, int):
        return value // NANOSECONDS if unit == "ns" else value * MULTIPLIER[unit]
    return round(value / NANOSECONDS if unit == "ns" else value * MULTIPLIER[unit])


def _iso8601_us(text: str, unit: EventTimeUnit) -> int:
    try:
        time = datetime.fromisoformat(text.upper())
    except ValueError:
        raise Unreadable("WrongType", f"expected {_expected(unit)}, found text {shown(text)}") from None
    return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - EPOCH) // MICROSECOND


def _number_columns(values: Sequence[float | str | None], unit: EventTimeUnit) -> NDArray[np.int64] | None:
    """All integers, or floats among which no integer can have been rounded; None for anything else."""
    try:
        numbers = np.array(values)
    except (ValueError, OverflowError):
        return None
    if numbers.dtype == np.float64:
        if unit == "ns" or np.abs(numbers).max() >= FLOAT_EXACT_MAX:
            return None
    elif numbers.dtype != np.int64:
        return None
    times = np.full(len(numbers), UNREAD, np.int64)
    ranges = AUTO if unit == "auto" else ((unit, -FAR_US // MULTIPLIER.get(unit, 1), FAR_US // MULTIPLIER.get(unit, 1)),)
    for name, low, end in ranges:
        if low > np.iinfo(np.int64).max:
            continue
        within = (numbers >= low) & (numbers < min(end, np.iinfo(np.int64).max))
        if not within.any():
            continue
        chosen = numbers[within]
        scaled = chosen // NANOSECONDS if name == "ns" else chosen * MULTIPLIER[name]
        if numbers.dtype == np.int64:
            times[within] = scaled
        else:  # beyond, a product of an integer among them may be rounded
            exact = np.abs(scaled) < FLOAT_EXACT_MAX
            times[np.flatnonzero(within)[exact]] = np.rint(scaled[exact])
    return times


def _iso8601_columns(texts: Sequence[float | str | None]) -> NDArray[np.int64] | None:
    """ISO 8601 of the layout YYYY-MM-DDThh:mm:ss[.f][Z|+hh:mm], one way per length of text; None if not all are text."""
    try:
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))  # type: ignore[arg-type]  # a number has no length
        times = np.full(len(texts), UNREAD, np.int64)
        for length in set(lengths.tolist()):
            if not 19 <= length <= 35:
                continue
            alike = np.flatnonzero(lengths == length)
            some = texts if len(alike) == len(texts) else [texts[position] for position in alike.tolist()]
            joined = "".join(some).encode("ascii", "replace")  # type: ignore[arg-type]  # join checks
            times[alike] = _iso8601_table(np.frombuffer(joined, np.uint8).reshape(len(alike), length))
    except TypeError:
        return None
    return times


def _iso8601_table(letters: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Texts of one length, u1[N, W] -> i8[N]; UNREAD where a text has another layout than the first."""
    first = letters[0].tobytes().decode("ascii")
    offset = first[-1] if first[-1] == "Z" else first[-6] + "00:00" if first[-6] in "+-" and len(first) >= 25 else ""
    body_end = len(first) - len(offset)
    if body_end != 19 and not 21 <= body_end <= 29:
        return np.full(len(letters), UNREAD, np.int64)
    layout = "0000-00-00" + (" " if first[10] == " " else "T") + "00:00:00" + "." * (body_end > 19) + "0" * (body_end - 20)
    pattern = np.frombuffer((layout + offset).encode("ascii"), np.uint8)
    is_digit = pattern == ord("0")
    digits = letters - np.uint8(ord("0"))  # wraps around for what is no digit, and then is no digit
    fits = ((digits[:, is_digit] <= 9).all(axis=1)) & (letters[:, ~is_digit] == pattern[~is_digit]).all(axis=1)

    def number(start: int, end: int) -> NDArray[np.int64]:
        total = np.zeros(len(letters), np.int64)
        for place in range(start, end):
            total = total * 10 + digits[:, place]
        return total

    hour, minute, second = number(11, 13), number(14, 16), number(17, 19)
    fits &= (hour < 24) & (minute < 60) & (second < 60)
    fraction_end = min(max(body_end, 20), 26)
    fraction = number(20, fraction_end) * 10 ** (26 - fraction_end)
    seconds = _days(number(0, 4), number(5, 7), number(8, 10), fits) * 86_400 + hour * 3_600 + minute * 60 + second
    if len(offset) == 6:
        ahead_hour, ahead_minute = number(body_end + 1, body_end + 3), number(body_end + 4, body_end + 6)
        fits &= (ahead_hour < 24) & (ahead_minute < 60)
        seconds -= (1 if offset[0] == "+" else -1) * (ahead_hour * 3_600 + ahead_minute * 60)
    return np.where(fits, seconds * 1_000_000 + fraction, UNREAD)


def _days(year: NDArray[np.int64], month: NDArray[np.int64], day: NDArray[np.int64], fits: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Days since the epoch; clears `fits` where there is no such day. Few dates occur in a batch, each is looked up once."""
    dates, which = np.unique(year * 10_000 + month * 100 + day, return_inverse=True)
    days = np.empty(len(dates), np.int64)
    exists = np.ones(len(dates), np.bool_)
    for position, number in enumerate(dates.tolist()):
        try:
            days[position] = (datetime(number // 10_000, number // 100 % 100, number % 100, tzinfo=UTC) - EPOCH).days
        except ValueError:
            days[position], exists[position] = 0, False
    fits &= exists[which]
    return days[which]
