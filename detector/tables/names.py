"""What a column's name says: of a time, of a stream, of a row's number, of a unit."""

from __future__ import annotations

import re
from collections.abc import Sequence

CAMEL = re.compile(r"(?<=[a-zà-ÿ0-9])(?=[A-ZÀ-Ý])")
BETWEEN_WORDS = re.compile(r"[\W_]+")
UNIT = re.compile(r"[\[(]\s*([^\])]{1,16}?)\s*[\])]\s*$")


def words(name: str) -> list[str]:
    """A name's words in lower case.

    >>> words("machineID"), words("Device Name"), words("sensor.id")
    (['machine', 'id'], ['device', 'name'], ['sensor', 'id'])
    """
    return [word for word in BETWEEN_WORDS.split(CAMEL.sub(" ", name).lower()) if word]


TIME_WORDS = frozenset(
    words(
        "time timestamp datetime date ts t epoch dt when utc localtime zeit datum zeitstempel uhrzeit fecha hora tiempo heure "
        "temps tijd elapsed changed updated"
    )
)
TIME_BEST = ("event_time_us", "event_time", "time", "timestamp", "datetime", "date_time", "date", "ts", "t")
"""The usual names, best first."""
TIME_LESS = frozenset(words("start stop begin end from to until created updated inserted ingested received expires"))
"""Words of a time that is another than the measurement's, where there are several."""
CALENDAR = {
    "year": ("year", "yr", "jahr", "yyyy"),
    "quarter": ("quarter", "qtr", "quartal"),
    "month": ("month", "mon", "monat", "mm"),
    "day": ("day", "tag", "dd", "dayofmonth"),
    "hour": ("hour", "hr", "stunde", "hh"),
    "minute": ("minute", "min"),
    "second": ("second", "sec"),
}
STREAM_WORDS = tuple(
    words(
        "stream machine host hostname device sensor asset equipment series entity station turbine engine pump motor unit node "
        "probe meter tag site line plant location room vehicle robot boiler compressor well battery cell server instance "
        "container pod mac serial maschine gerät"
    )
)
"""Words of what has readings of its own, best first."""
ID_WORDS = frozenset(words("id ids name no nr number num key code label uid uuid serial address"))
CHANNEL_WORDS = frozenset(
    words("metric channel variable parameter param field measurement quantity property attribute signal measure point kennzahl")
)
VALUE_WORDS = frozenset(words("value val reading state wert valor valeur"))
ROW_WORDS = frozenset(words("no nr index idx row rownum sno sl line unnamed record rec num number id seq sequence key"))
UNITS_OF_TIME = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1_000_000),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), 1_000),
    **dict.fromkeys(("us", "µs", "usec", "micros", "microseconds"), 1),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60_000_000),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3_600_000_000),
    **dict.fromkeys(("d", "day", "days"), 86_400_000_000),
}
"""Microseconds in a unit, by the word for it in a column's name."""


def is_time(name: str) -> bool:
    """Whether a name speaks of a moment: `time`, `Measured At`, `_time`, `Zeitstempel`."""
    found = words(name)
    return bool(TIME_WORDS.intersection(found)) or found[-1:] == ["at"]


def time_rank(name: str) -> tuple[bool, int]:
    """Orders names of times; smaller is likelier the time of measurement."""
    found = words(name)
    whole = "_".join(found)
    return bool(TIME_LESS.intersection(found)), TIME_BEST.index(whole) if whole in TIME_BEST else len(TIME_BEST) + (not is_time(name))


def calendar_part(name: str) -> str | None:
    """Which part of a date or clock a column holds by its name: year, quarter, month, day, hour, minute, second."""
    found = words(name)
    return next((part for part, names in CALENDAR.items() if len(found) == 1 and found[0] in names), None)


def stream_rank(name: str) -> tuple[int, bool] | None:
    """Orders names of what has readings of its own, smaller is likelier: `machine`, `deviceId`, `Device Name`; and whether it says that it
    is an id. None: the name does not speak of any."""
    found = words(name)
    has_id = bool(found) and found[-1] in ID_WORDS
    subject = found[:-1] if has_id and len(found) > 1 else found
    if subject and subject[-1] in STREAM_WORDS and len(found) <= 3:
        return STREAM_WORDS.index(subject[-1]), has_id
    return (len(STREAM_WORDS), True) if found in (["id"], ["uid"], ["uuid"], ["name"]) else None


def is_row_number(name: str) -> bool:
    """Whether a name is one that counters of rows bear: none at all, `No`, `index`, `Unnamed: 0`."""
    found = words(name)
    return not found or (found[0] in ROW_WORDS and all(word in ROW_WORDS or word.isdigit() for word in found))


def has_word(name: str, known: frozenset[str]) -> bool:
    """Whether the last of a name's words is one of `known`."""
    found = words(name)
    return bool(found) and found[-1] in known


def unit(name: str) -> str:
    """The unit in a name, such as `°C` in `temperature (°C)`; empty where there is none."""
    match = UNIT.search(name)
    return match[1] if match and not match[1].isdigit() else ""


def unit_of_time_us(name: str) -> int | None:
    """Microseconds in the unit that a time's name ends with: `time_s`, `Elapsed (ms)`, `seconds`; None where it says none."""
    found = words(name)
    return UNITS_OF_TIME.get(found[-1]) if found else None


def distinct(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names as they are, but every one once: a nameless column gets one by its place, a repeated one a number.

    returns  the names, and what was renamed: the new name -> what it was
    """
    given: list[str] = []
    renamed: dict[str, str] = {}
    for place, name in enumerate(names, 1):
        stripped = " ".join(name.split())
        new = stripped or f"column{place}"
        number = 2
        while new in given:
            new = f"{stripped or f'column{place}'}_{number}"
            number += 1
        if new != stripped:
            renamed[new] = stripped
        given.append(new)
    return given, renamed
