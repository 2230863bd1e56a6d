"""Times of a clock on the wall -> UTC: the hour that comes twice, and the one that does not come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from numpy.typing import NDArray

from detector.codec.event_time import UNREAD
from detector.errors import ConfigError

QUARTER_US = 900_000_000
EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class InUtc:
    """times_us i8[T] UTC. twice: readings of an hour that comes twice; never: readings of an hour that does not come."""

    times_us: NDArray[np.int64]
    twice: int
    never: int


def zone_named(name: str) -> ZoneInfo:
    """raises ConfigError  there is no such zone"""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigError(
            f"there is no time zone {name!r}", fix="name one of the IANA database, such as Europe/Berlin or America/New_York"
        ) from None


def to_utc(local_us: NDArray[np.int64], zone: ZoneInfo, stream: NDArray[np.int32]) -> InUtc:
    """Local times as UTC.

    Of the hour that comes twice, a stream's readings are of its first pass until they go back in time, then of the second; from newest
    to oldest the other way round. A time that does not come, since clocks were put forward, is taken as that of the clock not put forward.

    local_us  i8[T], UNREAD where there is none;  stream i4[T]
    """
    quarters, which = np.unique(np.where(local_us == UNREAD, 0, local_us) // QUARTER_US, return_inverse=True)
    first, second = (np.array([_offset_us(int(quarter), zone, fold) for quarter in quarters.tolist()], np.int64) for fold in (0, 1))
    is_twice = (first > second)[which] & (local_us != UNREAD)
    is_never = (first < second)[which] & (local_us != UNREAD)
    offset = first[which]
    for index in np.unique(stream[is_twice]).tolist():
        at = np.flatnonzero(is_twice & (stream == index))
        whole = local_us[stream == index]
        steps = np.diff(whole[whole != UNREAD])
        is_backwards = (steps < 0).sum() > (steps > 0).sum()
        offset[at] = _passes(local_us[at], first[which[at]], second[which[at]], is_backwards=is_backwards)
    return InUtc(np.where(local_us == UNREAD, UNREAD, local_us - offset), int(is_twice.sum()), int(is_never.sum()))


def _passes(local_us: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64], *, is_backwards: bool) -> NDArray[np.int64]:
    """The offset of each reading of hours that come twice, in the file's order."""
    offset = np.where(is_backwards, second, first)
    is_second = is_backwards
    for place in range(1, len(local_us)):
        step = int(local_us[place] - local_us[place - 1])
        if abs(step) > 24 * 3_600_000_000:  # another year's
            is_second = is_backwards
        elif (step < 0) != is_backwards and step != 0:
            is_second = not is_backwards
        offset[place] = second[place] if is_second else first[place]
    return offset


def _offset_us(quarter: int, zone: ZoneInfo, fold: int) -> int:
    """How far the zone is ahead of UTC in a quarter of an hour of its own clock, in its first or second pass."""
    moment = (EPOCH + timedelta(microseconds=quarter * QUARTER_US)).replace(tzinfo=zone, fold=fold)
    return (moment.utcoffset() or timedelta()) // timedelta(microseconds=1)
