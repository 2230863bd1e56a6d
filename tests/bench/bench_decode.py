"""Readings per second of decoding, CPU time of one thread: `python tests/bench/bench_decode.py`."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from detector.codec.messages import Messages
from detector.codec.readings import JsonReadings, ReadingFormat
from detector.core.readings import Partition, StreamNames

MESSAGES, RUNS, STREAMS = 10_000, 31, 5_000
START = datetime(2026, 11, 1, 10, tzinfo=UTC)
CHANNELS = ("temperature", "pressure", "rpm", "current")


def messages_of(write: Callable[[datetime, dict[str, float]], Any], spoil: int = 0) -> Messages:
    """10,000 messages of 5,000 streams; the first `spoil` of them cut short."""
    draw = random.Random(1)
    values = []
    for number in range(MESSAGES):
        reading = dict(
            zip(
                CHANNELS,
                (round(draw.gauss(70, 3), 3), round(draw.gauss(4, 0.3), 4), round(draw.gauss(1500, 30), 1), round(draw.gauss(12, 1), 3)),
                strict=True,
            )
        )
        values.append(json.dumps(write(START + timedelta(milliseconds=number * 7), reading)).encode())
    for place in range(spoil):
        values[place] = values[place][:-1]
    log_time_us = np.full(MESSAGES, int(START.timestamp() * 1e6), np.int64)
    keys = [f"plant{number % 10}/pump{number % STREAMS}".encode() for number in range(MESSAGES)]
    return Messages(keys, values, np.zeros(MESSAGES, np.int32), np.arange(MESSAGES), log_time_us, (Partition("readings", 0),))


def measure(name: str, format: ReadingFormat, messages: Messages) -> None:
    """Print the median over the runs."""
    decode = JsonReadings(format, StreamNames()).decode
    readings = len(decode(messages).batch)
    seconds = []
    for _ in range(RUNS):
        before = time.process_time()
        decode(messages)
        seconds.append(time.process_time() - before)
    median = statistics.median(seconds)
    size = statistics.mean(map(len, (value or b"" for value in messages.value)))
    print(f"{name:<44}{size:>8.0f} B{readings / median / 1e3:>10,.0f} k readings/s{median / readings * 1e6:>8.2f} us")


def main() -> None:
    """All formats, one after the other."""

    def iso(at: datetime) -> str:
        return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def ms(at: datetime) -> int:
        return round(at.timestamp() * 1_000)

    plain = ReadingFormat(CHANNELS, event_time="ts")
    wide = messages_of(lambda at, r: {"ts": iso(at), **r})
    measure("named channels, ISO 8601, key", plain, wide)
    measure("named channels, milliseconds, key", plain, messages_of(lambda at, r: {"ts": ms(at), **r}))
    measure("named channels, float seconds, key", plain, messages_of(lambda at, r: {"ts": at.timestamp(), **r}))
    measure("named channels, the log's own time, key", ReadingFormat(CHANNELS), messages_of(lambda at, r: r))
    measure("named channels, ISO 8601, one message bad", plain, messages_of(lambda at, r: {"ts": iso(at), **r}, spoil=1))
    measure("named channels, ISO 8601, 100 messages bad", plain, messages_of(lambda at, r: {"ts": iso(at), **r}, spoil=100))
    measure(
        "nested channels, two stream fields",
        ReadingFormat(tuple(f"data.{c}" for c in CHANNELS), ("plant", "unit"), "ts"),
        messages_of(lambda at, r: {"plant": "p1", "unit": "pump7", "ts": iso(at), "data": r}),
    )
    array = ReadingFormat(CHANNELS, event_time="ts", array_path="v")
    measure("array of channels", array, messages_of(lambda at, r: {"ts": ms(at), "v": list(r.values())}))
    narrow = ReadingFormat(CHANNELS, event_time="ts", channel_path="name", value_path="value")
    measure("long format", narrow, messages_of(lambda at, r: {"ts": ms(at), "name": "rpm", "value": r["rpm"]}))
    gateway = ReadingFormat(CHANNELS, ("unit",), "ts", records_path="items")
    measure("ten readings per message (slow path)", gateway, messages_of(lambda at, r: {"ts": ms(at), "items": [{"unit": "u1", **r}] * 10}))
    measure(
        "numbers as text",
        plain,
        messages_of(lambda at, r: {"ts": ms(at)} | {name: str(number) for name, number in r.items()}),
    )
    deep()


def deep() -> None:
    """Names of many parts, in each of the ways in which they are written, and values that are no numbers."""
    parts = ["Objects", "Server", "Plant", "Hall3", "Line1", "Cell2", "Station4", "Drive", "Sensors"]
    paths = [".".join([*parts, channel]) for channel in CHANNELS]
    shape = ReadingFormat(tuple(paths), event_time="ts")

    def dotted(at: datetime, reading: dict[str, Any]) -> dict[str, Any]:
        return {"ts": round(at.timestamp() * 1_000), **dict(zip(paths, reading.values(), strict=True))}

    def nested(at: datetime, reading: dict[str, Any]) -> dict[str, Any]:
        inner = reading
        for part in reversed(parts):
            inner = {part: inner}
        return {"ts": round(at.timestamp() * 1_000), **inner}

    measure("10 parts, one key each", shape, messages_of(dotted))
    measure("10 parts, nested", shape, messages_of(nested))
    measure("10 parts, half of each", shape, messages_of(lambda at, r: (dotted if at.microsecond % 14_000 < 7_000 else nested)(at, r)))
    apart = tuple(f"{'.'.join([channel] * 9)}.value" for channel in CHANNELS)
    measure(
        "10 parts, nothing shared, one key each",
        ReadingFormat(apart, event_time="ts"),
        messages_of(lambda at, r: {"ts": round(at.timestamp() * 1_000), **dict(zip(apart, r.values(), strict=True))}),
    )

    def apart_nested(at: datetime, reading: dict[str, Any]) -> dict[str, Any]:
        message: dict[str, Any] = {"ts": round(at.timestamp() * 1_000)}
        for channel, number in reading.items():
            inner: Any = {"value": number}
            for _ in range(8):
                inner = {channel: inner}
            message[channel] = inner
        return message

    measure("10 parts, nothing shared, nested", ReadingFormat(apart, event_time="ts"), messages_of(apart_nested))
    inside = ReadingFormat(tuple(f"payload.{channel}" for channel in CHANNELS), event_time="payload.ts")
    measure(
        "JSON inside text",
        inside,
        messages_of(lambda at, r: {"device": "d1", "payload": json.dumps({"ts": round(at.timestamp() * 1_000), **r})}),
    )
    short = ReadingFormat(CHANNELS, event_time="ts")
    measure("booleans", short, messages_of(lambda at, r: {"ts": round(at.timestamp() * 1_000), **r, "rpm": r["rpm"] > 1_500}))
    measure("bare NaN", short, messages_of(lambda at, r: {"ts": round(at.timestamp() * 1_000), **r, "rpm": float("nan")}))
    measure(
        "one channel is 'unavailable' now and then",
        short,
        messages_of(lambda at, r: {"ts": round(at.timestamp() * 1_000), **r, "rpm": "unavailable" if r["rpm"] > 1_560 else r["rpm"]}),
    )


if __name__ == "__main__":
    main()
