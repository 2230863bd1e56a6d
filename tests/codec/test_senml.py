"""SenML: the examples of RFC 8428, section 5.1, and what is wrong with others."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from detector.codec.messages import Messages
from detector.codec.reading_format import Decoded, ReadingFormat
from detector.codec.senml import SenmlReadings
from detector.core.readings import Partition, StreamNames

NOW_US = 1_790_000_000_000_000


def messages_of(*values: Any, key: bytes | None = b"gateway") -> Messages:
    count = len(values)
    texts = [value if isinstance(value, bytes | None) else json.dumps(value).encode() for value in values]
    return Messages([key] * count, texts, np.zeros(count, np.int32), np.arange(count), np.full(count, NOW_US), (Partition("in", 0),))


def decoded(*values: Any, channels: tuple[str, ...] = ("voltage", "current"), key: bytes | None = b"gateway") -> tuple[Decoded, list[Any]]:
    """The result, and its values as (stream, seconds, channel, value)."""
    names = StreamNames()
    written = ReadingFormat(channels, is_senml=True, past_us_max=20 * 365 * 86_400_000_000)
    found = SenmlReadings(written, names).decode(messages_of(*values, key=key))
    batch = found.batch
    assert batch.channel is not None
    rows = [
        (names.name(stream), time / 1e6, channels[channel], float(value[channel]))
        for stream, time, channel, value in zip(
            batch.stream_id.tolist(), batch.event_time_us.tolist(), batch.channel.tolist(), batch.value, strict=True
        )
    ]
    assert all(np.isnan(value).sum() >= len(channels) - 1 for value in batch.value)
    return found, rows


def test_a_single_value_has_the_channel_of_its_unit() -> None:
    _, rows = decoded([{"n": "urn:dev:ow:10e2073a01080063", "u": "Cel", "v": 23.5}], channels=("Cel",))
    assert rows == [("urn:dev:ow:10e2073a01080063", NOW_US / 1e6, "Cel", 23.5)]


def test_base_fields_hold_for_those_that_follow() -> None:
    pack = [
        {"bn": "urn:dev:ow:10e2073a01080063:", "bt": 1.276020076001e09, "bu": "A", "bver": 5, "n": "voltage", "u": "V", "v": 120.5},
        {"n": "current", "t": -5, "v": 1.25},
        {"n": "current", "t": -4, "v": 1.5},
        {"n": "current", "v": 1.75},
    ]
    found, rows = decoded(pack)
    stream = "urn:dev:ow:10e2073a01080063"
    assert rows == [
        (stream, 1276020076.001, "voltage", 120.5),
        (stream, 1276020071.001, "current", 1.25),
        (stream, 1276020072.001, "current", 1.5),
        (stream, 1276020076.001, "current", 1.75),
    ]
    assert found.batch.item.tolist() == [0, 1, 2, 3]
    assert not found.rejects


def test_times_of_a_recent_past_are_from_now_on() -> None:
    pack = [{"bn": "m1/", "bt": -10, "n": "voltage", "v": 1.0}, {"n": "voltage", "t": 7.5, "v": 2.0}]
    assert decoded(pack)[1] == [("m1", NOW_US / 1e6 - 10, "voltage", 1.0), ("m1", NOW_US / 1e6 - 2.5, "voltage", 2.0)]


def test_base_values_booleans_and_what_is_no_number() -> None:
    pack = [
        {"bn": "m1:", "bv": 20, "n": "voltage", "v": 1.5},
        {"n": "current", "vb": True},
        {"n": "current", "vs": "open"},
        {"n": "voltage"},
        {"n": "humidity", "v": 5},
    ]
    found, rows = decoded(pack)
    values = [value for _, _, _, value in rows]
    assert values[:2] == [21.5, 1.0]
    assert math.isnan(values[2])
    assert values[3] == 20.0
    assert found.ignored == 1


def test_a_channels_name_may_be_all_and_the_key_names_the_stream_then() -> None:
    assert decoded([{"n": "voltage", "v": 1.0}])[1] == [("gateway", NOW_US / 1e6, "voltage", 1.0)]
    found, rows = decoded([{"n": "voltage", "v": 1.0}], key=None)
    assert not rows
    assert found.rejects[0].error == "MissingStream"


def test_the_longest_channel_that_a_name_ends_with_counts() -> None:
    channels = ("temp", "oil:temp")
    assert [
        row[:1] + row[2:]
        for row in decoded([{"n": "m1:oil:temp", "v": 1.0}, {"n": "m1:subtemp", "v": 2.0}, {"n": "m1:temp", "v": 3.0}], channels=channels)[
            1
        ]
    ] == [
        ("m1", "oil:temp", 1.0),
        ("m1", "temp", 3.0),
    ]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (None, "NullValue"),
        (b"", "EmptyValue"),
        (b"[", "MalformedJson"),
        ({"n": "voltage", "v": 1}, "WrongType"),
        ([1], "WrongType"),
        ([{"n": 5, "v": 1}], "WrongType"),
        ([{"n": "voltage", "v": "1"}], "WrongType"),
        ([{"n": "voltage", "vb": 1}], "WrongType"),
        ([{"n": "voltage", "v": 1e39}], "OutOfRange"),
        ([{"n": "voltage", "v": 1, "t": 1e11}], "OutOfRange"),
        ([{"n": "voltage", "v": 1, "bt": "now"}], "WrongType"),
        ([{"n": "voltage", "v": 1, "tilt_": 2}], "WrongType"),
        ([{"bver": 11, "n": "voltage", "v": 1}], "WrongType"),
        ([{"n": "x" * 2_000 + ":voltage", "v": 1}], "TooLarge"),
    ],
)
def test_what_cannot_be_read_has_a_reason(value: Any, error: str) -> None:
    found, rows = decoded(value, [{"n": "m1:voltage", "v": 7.0}])
    assert [(reject.position, reject.error, reject.readings) for reject in found.rejects] == [(0, error, 1)]
    assert [row[3] for row in rows] == [7.0]
    assert found.message.tolist() == [1]


def test_a_bad_record_costs_itself() -> None:
    found, rows = decoded(
        [{"n": "m1:voltage", "v": 1.0}, {"n": "m1:voltage", "v": []}, {"n": "m1:current", "v": {}}, {"n": "m1:current", "v": 2.0}]
    )
    assert [row[3] for row in rows] == [1.0, 2.0]
    (reject,) = found.rejects
    assert (reject.readings, reject.reason) == (2, "[1].v: expected a number, found []")
