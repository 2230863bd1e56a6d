"""What is written in a shape is read back from it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from detector.codec.messages import Messages
from detector.codec.reading_format import EventTimeUnit, ReadingFormat
from detector.codec.readings import JsonReadings
from detector.codec.writing import JsonWriter, Written
from detector.core.readings import Partition, StreamNames
from detector.errors import ConfigError, DataError

STREAMS = ("plant1/line2/pump07", "plant1/line2/pump08", "plant2/line1/pump07")
FLAT = ReadingFormat(("rpm", "temp", "temp.2"), event_time="t")
SHAPES = {
    "flat": FLAT,
    "nested": replace(
        FLAT, channels=("motor.rpm", "motor.temp.value", "motor.temp.low"), event_time="head.at", stream=("head.site", "pump")
    ),
    "one ends where another leads through": replace(FLAT, channels=("a", "a.b", "c.d"), stream=("c",)),
    "array": replace(FLAT, array_path="readings.values"),
    "narrow": replace(FLAT, channel_path="tag", value_path="value"),
    "gateway": replace(FLAT, records_path=".", stream=("s",)),
    "gateway inside": replace(FLAT, records_path="batch.readings", channels=("x.rpm", "x.temp", "y")),
    "narrow gateway": replace(FLAT, records_path="batch", channel_path="tag.name", value_path="tag.value"),
    "Kafka's time": replace(FLAT, event_time=None),
}


def readings(count: int = 200) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Streams, times to the microsecond, values of which a quarter is missing; the last reading has none."""
    rng = np.random.default_rng(5)
    value = rng.normal(size=(count, 3)) * 10.0 ** rng.integers(-20, 20, (count, 3))
    value[rng.random(value.shape) < 0.25] = np.nan
    value[-1] = np.nan
    return rng.integers(0, len(STREAMS), count).astype(np.int32), 1_767_225_600_000_000 + np.cumsum(rng.integers(1, 10**7, count)), value


def as_messages(written: Written) -> Messages:
    """As a log has them that takes the event time for its own."""
    count = len(written.keys)
    log_time_us = np.array(written.event_time_us)
    return Messages(written.keys, written.values, np.zeros(count, np.int32), np.arange(count), log_time_us, (Partition("t", 0),))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_shape_is_read_back(shape: ReadingFormat) -> None:
    stream, time_us, value = readings()
    names = StreamNames()
    messages = as_messages(JsonWriter(shape, STREAMS).write(stream, time_us, value))
    decoded = JsonReadings(shape, names).decode(messages)
    assert decoded.rejects == ()
    batch = decoded.batch
    here = np.arange(len(value))
    if shape.channel_path is None:
        assert np.array_equal(batch.value, value.astype(np.float32), equal_nan=True)
    else:
        assert batch.channel is not None
        here, there = np.nonzero(~np.isnan(value))
        assert batch.channel.tolist() == there.tolist()
        assert batch.value[np.arange(len(here)), there].tolist() == value.astype(np.float32)[here, there].tolist()
    assert batch.event_time_us.tolist() == time_us[here].tolist()
    assert [names.name(each) for each in batch.stream_id.tolist()] == [STREAMS[each] for each in stream[here].tolist()]
    assert {key.decode() for key in messages.key if key is not None} == set(STREAMS), "a stream stays in one partition"
    assert len(messages) == (len(here) if shape.records_path is None else len(set(here.tolist())))


@pytest.mark.parametrize("unit", get_args(EventTimeUnit))
@pytest.mark.parametrize("step_us", [1_000_000, 1])
def test_every_unit_is_exact(unit: EventTimeUnit, step_us: int) -> None:
    shape = replace(FLAT, event_time_unit=unit)
    time_us = 1_767_225_600_000_000 + np.arange(500) * step_us
    messages = as_messages(JsonWriter(shape, ["m"]).write(np.zeros(500, np.int32), time_us, np.ones((500, 3))))
    assert JsonReadings(shape, StreamNames()).decode(messages).batch.event_time_us.tolist() == time_us.tolist()


def test_what_it_looks_like() -> None:
    shape = replace(SHAPES["nested"], event_time_unit="s")
    value = np.array([[1500.0, np.nan, 20.5]])
    written = JsonWriter(shape, STREAMS).write(np.array([1], np.int32), np.array([1_767_225_600_000_000]), value)
    assert written.keys == [b"plant1/line2/pump08"]
    expected = {"head": {"site": "plant1", "at": 1_767_225_600}, "pump": "line2/pump08", "motor": {"rpm": 1500.0, "temp": {"low": 20.5}}}
    assert json.loads(written.values[0]) == expected


def test_what_cannot_be_written_is_said() -> None:
    with pytest.raises(DataError, match=r"'pump07' cannot be written into 2 fields \(site, pump\)"):
        JsonWriter(replace(FLAT, stream=("site", "pump")), ["pump07"])
    with pytest.raises(ConfigError, match="the field 'rpm' for two purposes"):
        JsonWriter(replace(FLAT, stream=("rpm",)), STREAMS)
