"""Event times: exact where they can be, the same one by one and in columns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.codec.event_time import UNREAD, event_time_us, event_times_us, rfc3339
from detector.codec.reading_format import EventTimeUnit, Unreadable

T_US = 1_793_527_200_123_456  # 2026-11-01T10:00:00.123456Z
UNITS: tuple[EventTimeUnit, ...] = ("auto", "s", "ms", "us", "ns", "iso8601")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_793_527_200, T_US // 10**6 * 10**6),
        (1_793_527_200_123, T_US // 10**3 * 10**3),
        (T_US, T_US),
        (T_US * 1_000 + 999, T_US),
        (T_US / 1e6, T_US),
        (1_793_527_200_123.456, T_US),
        ("1793527200.123456", T_US),
        (str(T_US), T_US),
        ("2026-11-01T10:00:00.123456Z", T_US),
        ("2026-11-01T10:00:00.123456999Z", T_US),
        ("2026-11-01t10:00:00.123456z", T_US),
        ("2026-11-01 10:00:00.123456", T_US),
        ("2026-11-01T11:30:00.123456+01:30", T_US),
        ("2026-11-01T05:00:00.123456-05:00", T_US),
        ("20261101T100000.123456Z", T_US),
        ("2026-11-01T10:00:00,123456Z", T_US),
        ("2026-11-01", T_US // 86_400_000_000 * 86_400_000_000),
        (10**8, 10**14),
        (10**10 - 1, 10**16 - 10**6),
        (10**19 - 1, 10**16 - 1),
    ],
)
def test_auto(value: float | str, expected: int) -> None:
    assert event_time_us(value, "auto") == expected
    assert event_times_us([value], "auto").tolist() == [expected]
    assert event_times_us([value, None, value], "auto").tolist() == [expected, UNREAD, expected]


@pytest.mark.parametrize(
    "value",
    [0, 5 * 10**10, 10**19, -T_US, 1e300, "", "soon", "2026-13-01T00:00:00Z", "2026-11-01T24:00:01Z", "2026-11-01T10:00:61Z", "1e999"],
)
def test_auto_refuses(value: float | str) -> None:
    with pytest.raises(Unreadable, match=r"^expected .*, found "):
        event_time_us(value, "auto")
    assert event_times_us([value, value], "auto").tolist() == [UNREAD] * 2


def test_units_are_taken_at_their_word() -> None:
    assert [event_time_us(1_500, unit) for unit in ("s", "ms", "us", "ns")] == [1_500_000_000, 1_500_000, 1_500, 1]
    for unit in ("s", "ms", "us", "ns"):
        with pytest.raises(Unreadable, match="expected a number of"):
            event_time_us("2026-11-01T10:00:00Z", unit)
    with pytest.raises(Unreadable, match="ISO 8601"):
        event_time_us(1_793_527_200, "iso8601")


def test_rfc3339() -> None:
    assert rfc3339(T_US) == "2026-11-01T10:00:00.123456Z"
    assert rfc3339(0) == "1970-01-01T00:00:00.000000Z"


def iso8601(time_us: int, digits: int, offset_minutes: int | None, separator: str) -> str:
    zone = UTC if offset_minutes in (None, 0) else timezone(timedelta(minutes=offset_minutes or 0))
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    text = at.astimezone(zone).replace(tzinfo=None, microsecond=0).isoformat(separator)
    fraction = f"{time_us % 10**6:06d}000"[:digits]
    suffix = "" if offset_minutes is None else "Z" if offset_minutes == 0 else at.astimezone(zone).isoformat()[-6:]
    return text + (f".{fraction}" if digits else "") + suffix


TIMES = st.integers(10**14, 10**16 - 1)
OFFSETS = st.none() | st.integers(-1_439, 1_439)
TEXTS = st.builds(iso8601, TIMES, st.integers(0, 9), OFFSETS, st.sampled_from("T "))
ODD = st.text(max_size=40) | st.text("0123456789-:.TZ+ ", min_size=15, max_size=35)
VALUES = TEXTS | ODD | st.integers() | TIMES | st.floats(allow_nan=False, allow_infinity=False) | st.floats(1e8, 1e19) | st.none()


@settings(max_examples=150, deadline=None)
@given(TIMES, st.integers(0, 9), OFFSETS, st.sampled_from("T "))
def test_iso8601_is_exact(time_us: int, digits: int, offset_minutes: int | None, separator: str) -> None:
    grain = 10 ** max(0, 6 - digits)
    text = iso8601(time_us, digits, offset_minutes, separator)
    assert event_time_us(text, "auto") == event_times_us([text], "auto").item() == time_us // grain * grain


@settings(max_examples=300, deadline=None)
@given(
    st.lists(TEXTS | ODD)
    | st.lists(st.integers(-(2**70), 2**70) | TIMES)
    | st.lists(st.floats(-1e19, 1e19) | st.integers())
    | st.lists(VALUES),
    st.sampled_from(UNITS),
)
def test_columns_agree_with_one_by_one(values: list[float | str | None], unit: EventTimeUnit) -> None:
    for value, time_us in zip(values, event_times_us(values, unit).tolist(), strict=True):
        try:
            expected = UNREAD if value is None else event_time_us(value, unit)
        except Unreadable:
            expected = UNREAD
        assert time_us == (expected if abs(expected) < 2**61 else UNREAD)


def test_mutilated_texts_of_one_length_agree() -> None:
    good = "2026-11-01T10:00:00.123+01:00"
    draw = np.random.default_rng(1)
    texts = [good] + [
        "".join(draw.choice(list("0123456789-:.TZ+ é")) if draw.random() < 0.05 else letter for letter in good) for _ in range(2_000)
    ]
    times = event_times_us(texts, "iso8601").tolist()
    for text, time_us in zip(texts, times, strict=True):
        try:
            expected = event_time_us(text, "iso8601")
        except Unreadable:
            expected = UNREAD
        assert time_us == expected, text
