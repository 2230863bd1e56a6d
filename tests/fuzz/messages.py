"""Messages that nobody prepared: a good message of a random format, spoilt in random ways. `python -m tests.fuzz.messages --messages 5000000`

Whatever a message holds: nothing is raised, both paths of the decoder say the same, every reading is read, rejected or ignored exactly once,
and what is read is what a plain reading of the JSON finds.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import sys
import time
import traceback
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.codec.field_names import field_names
from detector.codec.messages import Messages
from detector.codec.reading_format import Decoded, ReadingFormat
from detector.codec.readings import JsonReadings
from detector.core.readings import Partition, StreamNames

NOW_US = 1_793_527_200_123_456
DEEP = "ns=2;s=Plant.Line.1.Cell.4.Motor.Drive.Temp.Value"
FORMATS = (
    ReadingFormat(("a", "b"), event_time="t"),
    ReadingFormat(("a", "b")),
    ReadingFormat(("d.a", "d.m.b"), ("m.id", "site"), "m.t", "ms"),
    ReadingFormat((DEEP, DEEP.replace("Temp", "Speed")), ("s",), "t"),
    ReadingFormat(("payload.a", "payload.b"), ("payload.s",), "payload.t"),
    ReadingFormat(("a", "b"), event_time="t", array_path="d.v"),
    ReadingFormat(("a", "b"), event_time="t", channel_path="n", value_path="v"),
    ReadingFormat(("a", "a.b"), event_time="t"),
    ReadingFormat(("a", "d.b"), ("s",), "t", records_path="r"),
    ReadingFormat(("a", "b"), event_time="t", records_path="."),
    ReadingFormat(("a", "b"), ("s",), "t", channel_path="n", value_path="v", records_path="r.items"),
)
TEXTS = (
    "",
    "NaN",
    "unavailable",
    "unknown",
    "off",
    "3.2",
    "-1e2",
    "1e39",
    "1e999",
    " 1",
    "1,5",
    "true",
    "null",
    "{}",
    "[1]",
    '{"a": 1}',
    "١",
    "\x00",
)
NUMBERS = (0, 1.5, -3e2, 1e39, -3.5e38, 10**400, 2**63, -0.0, math.nan, math.inf, -math.inf, True, False, None)
BYTES = (
    b"",
    b"{",
    b"}",
    b'"',
    b"\\",
    b",",
    b":",
    b"NaN",
    b"-Infinity",
    b"nan",
    b"null",
    b"true",
    b"\xff",
    b"\\ud800",
    b"1e",
    b"0",
    b"[",
    b" ",
    b"8e88888",
)


class Sent(NamedTuple):
    """A message's value, and the object it was written from; None where its bytes were spoilt."""

    value: bytes | None
    whole: Any


def good(draw: random.Random, format: ReadingFormat, spelling: int) -> Any:
    """What a message of this format holds; its paths are spelled by the bits of `spelling`."""
    number = round(draw.gauss(20, 5), 2)
    reading: dict[str, Any] = {}
    for path in format.stream:
        put(reading, path, draw.choice(("x", "y/ü", 7)), spelling)
    if format.event_time:
        ms = NOW_US // 1_000 + draw.randrange(1_000)
        put(reading, format.event_time, ms if format.event_time_unit == "ms" else draw.choice((ms, "2026-11-01T10:00:00.5Z")), spelling)
    if format.channel_path:
        put(reading, format.channel_path, draw.choice((*format.channels, "z")), spelling)
        put(reading, format.value_path or "value", number, spelling)
    elif format.array_path:
        put(reading, format.array_path, [number] * len(format.channels), spelling)
    else:
        for path in format.channels:
            if draw.random() < 0.9:
                put(reading, path, number, spelling)
    if draw.random() < 0.1:  # one path in a second way
        put(reading, draw.choice((*format.channels, *format.stream)), draw.choice((None, number + 1, "off", {})), draw.getrandbits(12))
    if format.records_path is None:
        return reading
    records = [dict(reading) for _ in range(draw.randrange(4))]
    if format.records_path == ".":
        return records
    whole: dict[str, Any] = {}
    put(whole, format.records_path, records, spelling)
    return whole


def put(inner: dict[str, Any], path: str, value: Any, spelling: int) -> None:
    """Lay a value at a path; bit k of `spelling` says whether a key ends behind part k."""
    keys = "".join(part + ("/" if spelling >> place & 1 else ".") for place, part in enumerate(path.split(".")))[:-1].split("/")
    for key in keys[:-1]:
        below = inner.setdefault(key, {})
        inner = below if isinstance(below, dict) else {}
    inner[keys[-1]] = value


def spoilt(draw: random.Random, value: Any) -> Any:
    """The same with one entry changed, somewhere."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(list(value))
        changed = dict(value)
        match draw.randrange(8):
            case 0:
                del changed[key]
            case 1:
                changed[draw.choice((*"abdmnrstv", "a.b", "payload", "d.m", key + ".x"))] = copy.deepcopy(changed[key])
            case 2 if isinstance(changed[key], dict | list):
                changed[key] = json.dumps(changed[key])
            case 3 if "." in key:
                changed.pop(key)
                put(changed, key, value[key], draw.getrandbits(12))
            case _:
                changed[key] = spoilt(draw, changed[key])
        return changed
    if isinstance(value, list) and value and draw.random() < 0.9:
        place = draw.randrange(len(value))
        return [*value[:place], spoilt(draw, value[place]), *value[place + 1 :]]
    return draw.choice(({}, [], {"a": 1}, [None], draw.choice(TEXTS), draw.choice(TEXTS), draw.choice(NUMBERS), draw.choice(NUMBERS)))


def sent(draw: random.Random, format: ReadingFormat, spelling: int) -> Sent:
    """One message."""
    fate = draw.random()
    whole = good(draw, format, spelling if draw.random() < 0.9 else draw.getrandbits(12))
    for _ in range(0 if fate < 0.5 else draw.randrange(1, 4)):
        whole = spoilt(draw, whole)
    if (
        format.channels[0].startswith("payload")
        and isinstance(whole, dict)
        and isinstance(whole.get("payload"), dict)
        and draw.random() < 0.7
    ):
        whole["payload"] = json.dumps(whole["payload"])
    value = json.dumps(whole, ensure_ascii=draw.random() < 0.5, indent=draw.choice((None, None, 1))).encode()
    if fate < 0.9:
        return Sent(value, whole)
    if fate < 0.91:
        return Sent(draw.choice((None, b"", value + value, b"[" * 3_000, json.dumps(value.decode()).encode())), None)
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(value) + 1)
        value = value[:at] + draw.choice(BYTES) + value[at + draw.randrange(4) :]
    return Sent(value, None)


def facts(decoded: Decoded, names: StreamNames) -> list[Any]:
    """Everything that was decoded, comparable bit for bit."""
    batch = decoded.batch
    columns: list[NDArray[Any]] = [batch.event_time_us, batch.offset, batch.item, decoded.message]
    columns += [] if batch.channel is None else [batch.channel]
    streams = [names.name(stream) for stream in batch.stream_id.tolist()]
    return [streams, batch.value.tobytes(), *(column.tolist() for column in columns), decoded.rejects, decoded.ignored, decoded.texts]


def check(draw: random.Random, format: ReadingFormat, reader: JsonReadings, names: StreamNames, count: int) -> Counter[str]:
    """Read a batch; what became of its messages. raises AssertionError"""
    spelling = draw.choice((0, 0xFFF, 0xFFF, 0b101, draw.getrandbits(12)))
    batch = [sent(draw, format, spelling) for _ in range(count)]
    keys = [draw.choice((b"k", b"k", b"k", b"l", None, b"\xff", b"")) if draw.random() < 0.1 else b"k" for _ in batch]
    log_time_us = np.array([draw.choice((NOW_US, NOW_US, -1)) for _ in batch], np.int64)
    messages = Messages(keys, [one.value for one in batch], np.zeros(count, np.int32), np.arange(count), log_time_us, (Partition("t", 0),))
    decoded = reader.decode(messages)
    slow_names = StreamNames()
    slow = JsonReadings(format, slow_names)
    slow._fast_path = None
    assert facts(decoded, names) == facts(slow.decode(messages), slow_names)
    accounted = np.bincount(decoded.message, minlength=count)
    for reject in decoded.rejects:
        accounted[reject.position] += reject.readings
    if format.records_path is None:
        assert (accounted <= 1).all()
        assert accounted.sum() + decoded.ignored == count
    for row, place in enumerate(decoded.message.tolist()):
        if batch[place].whole is not None and format.records_path is None and format.channel_path is None:
            assert same(decoded.batch.value[row].tolist(), expected(batch[place].whole, format)), batch[place].value
    for one in batch[:5]:
        field_names(one.value or b"", format.records_path)
    became = Counter(read=len(decoded.message), ignored=decoded.ignored, text=sum(decoded.texts.values()))
    became.update(reject.error for reject in decoded.rejects)
    return became


def same(found: list[float], wanted: list[float]) -> bool:
    return len(found) == len(wanted) and all(a == b or (a != a and b != b) for a, b in zip(found, wanted, strict=True))


def expected(message: Any, format: ReadingFormat) -> list[float]:
    """The values of a reading, found in the plainest way."""
    if format.array_path:
        array = found_at(message, format.array_path)
        array = json.loads(array) if isinstance(array, str) else array
        return [math.nan] * len(format.channels) if plain(array) is None else list(map(number, array))
    return [number(found_at(message, path)) for path in format.channels]


def found_at(inner: Any, path: str) -> Any:
    if isinstance(inner, str):
        inner = json.loads(inner) if inner.lstrip().startswith("{") else None
    if not isinstance(inner, dict):
        return KeyError
    if path in inner:
        return inner[path]
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        key = ".".join(parts[:cut])
        if key in inner:
            found = found_at(inner[key], ".".join(parts[cut:]))
            if found is not KeyError:
                return found
    return KeyError


def plain(value: Any) -> Any:
    return None if value is KeyError or (isinstance(value, float) and not math.isfinite(value)) else value


def number(value: Any) -> float:
    value = plain(value)
    if isinstance(value, str):
        try:
            value = float(json.loads(value)) if value.strip() == value and value[:1] in "-0123456789" else None
        except ValueError:
            value = None
    return math.nan if value is None else float(np.float32(value))


def new_readers() -> list[tuple[JsonReadings, StreamNames]]:
    """A reader of each format, which has learnt nothing yet."""
    return [(JsonReadings(each, names), names) for each in FORMATS for names in [StreamNames()]]


def main() -> int:
    """Read many; returns 1 if a batch failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    became: Counter[str] = Counter()
    began_s, failures, done, batch = time.monotonic(), 0, 0, 0
    readers = new_readers()
    while done < asked.messages:
        draw = random.Random(f"{asked.seed}/{batch}")
        reader, names = readers[batch % len(readers)]
        count = draw.choice((1, 10, 100))
        try:
            became += check(draw, FORMATS[batch % len(readers)], reader, names, count)
        except Exception:  # noqa: BLE001 - each is a finding
            failures += 1
            if failures <= 5:
                print(f"batch {batch} of seed {asked.seed}, format {batch % len(readers)}:", file=sys.stderr)
                traceback.print_exc()
        done, batch = done + count, batch + 1
        if batch % 5_000 == 0:  # what was learnt is learnt anew
            readers = new_readers()
    for what, times in became.most_common():
        print(f"{times:>10,}  {what}")
    print(f"{done:,} messages in {batch:,} batches, {failures} failures, {time.monotonic() - began_s:.0f} s")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
