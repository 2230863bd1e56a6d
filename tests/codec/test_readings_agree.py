"""The fast path and the precise path agree on whatever people, gateways and bit rot may send."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, get_args

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.codec.messages import Messages
from detector.codec.reading_format import Decoded, ErrorName
from detector.codec.reading_json_schema import reading_json_schema
from detector.codec.readings import JsonReadings, ReadingFormat
from detector.core.readings import Partition, StreamNames

NOW_US = 1_793_527_200_123_456
FORMATS = [
    ReadingFormat(("a", "b"), event_time="t"),
    ReadingFormat(("a", "b")),
    ReadingFormat(("a", "b.c"), ("s",), "b.t", "ms"),
    ReadingFormat(("b.c", "b.a"), ("s", "b.s"), "t", "iso8601"),
    ReadingFormat(("a.b.c", "a.c"), ("s",), "t", "ns"),
    ReadingFormat(("a", "b"), event_time="t", array_path="b.v"),
    ReadingFormat(("x", "y"), event_time="t", channel_path="s", value_path="a"),
    ReadingFormat(("a", "a.b"), event_time="t"),
    ReadingFormat(("a", "b"), ("s",), "t", records_path="v"),
    ReadingFormat(("a",), event_time="t", records_path="."),
    ReadingFormat(("a.b.c.a.x", "a.b.c.b.x", "b..x"), ("s",), "t", "ms"),
    ReadingFormat(("a.b", "a.c.x"), ("a.s",), "a.t", "ms"),
    ReadingFormat(("x", "y"), event_time="b.t", channel_path="a.s", value_path="a.b.c"),
    ReadingFormat(("a", "b"), ("s",), "t", records_path="a.v"),
    ReadingFormat(("a", "b"), event_time="t", future_us_max=10**9, past_us_max=10**9, message_bytes_max=120),
]

KEYS = st.sampled_from(["a", "b", "c", "s", "t", "v", "a.b", "b.c", "a.b.c", "b.t", "x", "a.b.c.a.x", "c.a", "c.x", ".x", "b."])
TIMES = st.sampled_from(
    [NOW_US, NOW_US / 1e6, NOW_US // 1_000, NOW_US * 1_000, str(NOW_US), "2026-11-01T10:00:00Z", "2026-11-01T11:00:00.5+01:00"]
)
NUMBERS = (
    st.floats()
    | st.integers()
    | st.sampled_from([1e39, 3.4e38, -0.0, 10**400, 2**63, "3.2", "1e3", " 1", "nan", "off", "10" * 200, None, True, False])
)
NAMES = st.sampled_from(["x", "y", "ü/ö", "", 7, "é" * 600]) | st.text(max_size=5)
LEAVES = NUMBERS | TIMES | NAMES
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4) | st.builds(json.dumps, st.dictionaries(KEYS, inner))
    ),
    max_leaves=8,
)
INNER = st.fixed_dictionaries(
    {}, optional={"c": NUMBERS, "a": NUMBERS, "t": TIMES, "s": NAMES, "v": st.lists(NUMBERS, max_size=3), "b.c": NUMBERS}
)
LIKELY = st.fixed_dictionaries(
    {"t": TIMES, "s": NAMES},
    optional={
        "a": st.floats(-1e6, 1e6) | NUMBERS | INNER,
        "b": st.floats(-1e6, 1e6) | INNER,
        "v": st.lists(INNER | st.fixed_dictionaries({"a": NUMBERS}), max_size=3),
        "b.c": NUMBERS,
        "a.b": NUMBERS,
        "x": ANYTHING,
    },
)


def written(value: Any, indent: int | None, plain: bool) -> bytes:
    return json.dumps(value, indent=indent, ensure_ascii=plain).encode("utf-8", "surrogatepass")


def repeated(first: bytes, second: bytes) -> bytes:
    """Two objects as one, with the keys of both."""
    return first[:-1] + b"," + second[1:]


def spoiled(value: bytes, place: int, byte: int) -> bytes:
    place %= len(value) + 1
    return value[:place] + bytes([byte]) + value[place + 1 :]


JSON = st.builds(written, LIKELY | st.lists(LIKELY, max_size=3) | ANYTHING, st.none() | st.just(1), st.booleans())
OBJECTS = st.builds(written, LIKELY, st.none(), st.booleans())
VALUES = (
    OBJECTS
    | JSON
    | st.builds(repeated, OBJECTS, OBJECTS)
    | st.builds(spoiled, OBJECTS, st.integers(0, 10**6), st.integers(0, 255))
    | st.binary(max_size=9)
    | st.none()
)
MESSAGES = st.lists(
    st.tuples(VALUES, st.just(b"k") | st.none() | st.binary(max_size=3) | st.just(b"k" * 1_025), st.sampled_from([-1, NOW_US])), max_size=6
)


@st.composite
def fitting(draw: st.DrawFn, shape: ReadingFormat) -> bytes:
    """An object that holds what `shape` asks for, nearly always as it should be; dotted paths nested or as keys."""
    time = {"ms": st.just(NOW_US // 1_000), "ns": st.just(NOW_US * 1_000), "iso8601": st.just("2026-11-01T10:00:00.5Z")}.get(
        shape.event_time_unit, TIMES
    )
    number = st.floats(-1e6, 1e6) | st.integers(-9, 9) | st.none() | st.booleans() | st.sampled_from(["off", "2.5", "-1e3", "1e39"])
    wanted: dict[str, st.SearchStrategy[Any]] = dict.fromkeys(shape.stream, st.sampled_from(["x", "ü", 7]))
    if shape.event_time:
        wanted[shape.event_time] = time
    if shape.channel_path:
        wanted |= {shape.channel_path: st.sampled_from([*shape.channels, "z"]), shape.value_path or "value": number}
    elif shape.array_path:
        wanted[shape.array_path] = st.tuples(*[number for _ in shape.channels])
    else:
        wanted |= dict.fromkeys(shape.channels, number)
    message: dict[str, Any] = {}
    texts: list[tuple[dict[str, Any], str]] = []
    spelling = draw(st.integers(0, 7))  # the message spells all its paths alike, nearly always
    for path, good in wanted.items():
        fate = draw(st.integers(0, 19))
        if fate == 0:
            continue
        cuts = draw(st.integers(0, 255)) if fate < 3 or spelling == 7 else (0, 255, 255, 255, 1, 2, 5)[spelling]
        keys = "".join(part + ("/" if cuts >> place & 1 else ".") for place, part in enumerate(path.split(".")))[:-1].split("/")
        inner = message
        for depth, key in enumerate(keys[:-1]):
            below = inner.setdefault(key, {})
            if spelling in (3, 7) and depth == spelling % 2:
                texts.append((inner, key))
            inner = below if isinstance(below, dict) else {}
        inner[keys[-1]] = draw(ANYTHING if fate == 1 else good)
    for inner, key in reversed(texts):
        if isinstance(inner[key], dict):
            inner[key] = json.dumps(inner[key])
    return json.dumps(message).encode()


def messages_of(rows: Sequence[tuple[bytes | None, bytes | None, int]]) -> Messages:
    return Messages(
        [key for _, key, _ in rows],
        [value for value, _, _ in rows],
        np.arange(len(rows), dtype=np.int32) % 2,
        np.arange(len(rows)),
        np.array([log_time_us for _, _, log_time_us in rows], np.int64),
        (Partition("t", 0), Partition("t", 1)),
    )


def facts(decoded: Decoded, names: StreamNames) -> list[Any]:
    """Everything that was decoded, comparable bit for bit."""
    batch = decoded.batch
    streams = [names.name(stream) for stream in batch.stream_id.tolist()]
    channel = None if batch.channel is None else batch.channel.tolist()
    columns = [batch.event_time_us.tolist(), batch.partition.tolist(), batch.offset.tolist(), batch.item.tolist(), decoded.message.tolist()]
    return [
        streams,
        channel,
        batch.value.tobytes(),
        batch.value.shape,
        columns,
        decoded.rejects,
        decoded.ignored,
        decoded.texts,
        set(names),
    ]


def _teach(reader: JsonReadings, rows: Sequence[tuple[bytes | None, bytes | None, int]]) -> Decoded:
    """Decode; the reader learns from whatever its fast path does not read."""
    if reader._fast_path is not None:
        reader._fast_path._lesson_after = 1
    return reader.decode(messages_of(rows))


@pytest.mark.parametrize("shape", FORMATS, ids=[str(number) for number in range(len(FORMATS))])
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_both_paths_agree(shape: ReadingFormat, data: st.DataObject) -> None:
    usual = st.lists(st.tuples(fitting(shape), st.just(b"k"), st.sampled_from([-1, NOW_US, NOW_US])), max_size=4)
    fast = JsonReadings(shape, StreamNames())
    for _ in range(data.draw(st.integers(0, 2))):  # it has learnt something before
        _teach(fast, data.draw(usual))
    rows: list[tuple[bytes | None, bytes | None, int]] = data.draw(st.permutations([*data.draw(usual), *data.draw(MESSAGES)]))
    messages = messages_of(rows)
    fast_names, precise_names = StreamNames(), StreamNames()
    precise = JsonReadings(shape, precise_names)
    precise._fast_path = None
    fast._names = fast_names
    decoded = _teach(fast, rows)
    assert facts(decoded, fast_names) == facts(precise.decode(messages), precise_names)

    # Conservation: whole readings are read, rejected or ignored, each once; in log order; streams only where there are readings.
    if shape.records_path is None:
        assert len(decoded.batch) + len(decoded.rejects) + decoded.ignored == len(rows)
    assert (np.diff(decoded.message) >= (0 if shape.records_path else 1)).all()
    assert set(fast_names.values()) == set(decoded.batch.stream_id.tolist())
    assert not np.isinf(decoded.batch.value).any()
    for reject in decoded.rejects:
        assert reject.error in get_args(ErrorName)
        assert ": expected " in reject.reason
        assert len(reject.reason) < 1_000


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(OBJECTS, st.just(b"k"), st.just(-1)), max_size=5), shape=st.sampled_from(FORMATS))
def test_what_is_read_fits_the_schema(shape: ReadingFormat, rows: list[tuple[bytes | None, bytes | None, int]]) -> None:
    """But for keys that contain the dots, and what stands beside the items."""
    decoded = JsonReadings(shape, StreamNames()).decode(messages_of(rows))
    bad = {reject.position for reject in decoded.rejects}
    if decoded.ignored:  # of another channel, and then nobody looks at its value
        return
    validator = jsonschema.Draft202012Validator(reading_json_schema(shape))
    for position, (value, _, _) in enumerate(rows):
        if position not in bad and b"." not in b"".join(part for part in (value or b"").split(b'"') if part[:1].isalpha()):
            assert validator.is_valid(json.loads(value or b"", parse_constant=lambda _: None)), validator.schema


@settings(max_examples=40, deadline=None)
@given(rows=MESSAGES, cut=st.integers(0, 6))
def test_cuts_do_not_matter(rows: list[tuple[bytes | None, bytes | None, int]], cut: int) -> None:
    whole = JsonReadings(FORMATS[0], StreamNames()).decode(messages_of(rows)).batch
    parts = [JsonReadings(FORMATS[0], StreamNames()).decode(messages_of(part)).batch for part in (rows[:cut], rows[cut:])]
    assert np.array_equal(np.concatenate([part.value for part in parts]), whole.value, equal_nan=True)
    assert np.array_equal(np.concatenate([part.event_time_us for part in parts]), whole.event_time_us)
