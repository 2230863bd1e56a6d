"""Dead letters keep the message byte for byte, and say why."""

from __future__ import annotations

import numpy as np

from detector.codec.dead_letters import OMITTED, REASON_CHARACTERS_MAX, dead_letters, reason_only
from detector.codec.messages import Headers, Message, Messages
from detector.codec.reading_format import Reject
from detector.core.readings import Partition


def headers(position: int) -> Headers:
    return [("trace", b"\xff"), ("empty", None)] if position == 1 else ()


MESSAGES = Messages(
    key=[b"a", b"\xff\x00", None],
    value=[b"{}", b"\xfe not json", None],
    partition=np.array([0, 1, 0], np.int32),
    offset=np.array([5, 2**40, 6]),
    log_time_us=np.array([-1, -1, -1]),
    partitions=(Partition("one", 0), Partition("two", 7)),
    headers=headers,
)


def test_message_is_unchanged_and_the_reason_is_in_the_headers() -> None:
    dead_letter = dead_letters(MESSAGES, [Reject(1, "NotUtf8", "value: expected UTF-8, found 'ü'")])[0]
    assert (dead_letter.key, dead_letter.value) == (b"\xff\x00", b"\xfe not json")
    assert list(dead_letter.headers) == [
        ("trace", b"\xff"),
        ("empty", None),
        ("__connect.errors.topic", b"two"),
        ("__connect.errors.partition", b"7"),
        ("__connect.errors.offset", b"1099511627776"),
        ("__connect.errors.exception.class.name", b"NotUtf8"),
        ("__connect.errors.exception.message", "value: expected UTF-8, found 'ü'".encode()),
    ]


def test_null_stays_null() -> None:
    dead_letter = dead_letters(MESSAGES, [Reject(2, "NullValue", "value: null")])[0]
    assert (dead_letter.key, dead_letter.value) == (None, None)


def test_one_dead_letter_per_message_in_log_order() -> None:
    rejects = [Reject(2, "NullValue", "value: null"), Reject(0, "WrongType", "a: bad", 3), Reject(0, "OutOfRange", "b: worse")]
    written = dead_letters(MESSAGES, rejects)
    assert [dead_letter.key for dead_letter in written] == [b"a", None]
    assert dict(written[0].headers)["__connect.errors.exception.message"] == b"a: bad (3 readings); b: worse"
    assert dict(written[0].headers)["__connect.errors.exception.class.name"] == b"WrongType"


def test_reason_is_bounded() -> None:
    reason = dict(dead_letters(MESSAGES, [Reject(0, "WrongType", "x" * 5_000)])[0].headers)["__connect.errors.exception.message"]
    assert reason is not None
    assert len(reason) == REASON_CHARACTERS_MAX


def test_a_letter_that_is_too_large_keeps_its_reason() -> None:
    dead_letter = dead_letters(MESSAGES, [Reject(1, "NotUtf8", "value: expected UTF-8")])[0]
    short = reason_only(dead_letter)
    assert (short.key, short.value) == (dead_letter.key, None)
    assert list(short.headers) == [*dead_letter.headers[2:], (OMITTED, b"value (10 bytes), headers (2)")]
    unwieldy = reason_only(Message(b"k" * 2_000, None, dead_letter.headers[2:]))
    assert unwieldy.key is None
    assert unwieldy.headers[-1] == (OMITTED, b"key (2000 bytes)")
