"""Readings per second from Confluent's wire format, CPU time of one thread, beside Confluent's own deserializers:
`python tests/bench/bench_wire_format.py`."""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # `tests` is no installed package

from detector.codec.confluent_wire_format import SchemaType
from detector.codec.messages import Messages
from detector.codec.reading_format import ReadingFormat
from detector.codec.readings import JsonReadings
from detector.core.readings import Partition, StreamNames
from tests.codec.records import SCHEMAS, decoder, framed, plain

MESSAGES, RUNS, THEIRS = 10_000, 15, 1_000
NOW_MS = 1_793_527_200_123
SHAPES = {
    "four channels": ReadingFormat(("temperature", "rpm", "data.current", "data.count"), event_time="ts"),
    "ten readings per message": ReadingFormat(("temperature", "rpm"), ("site",), "ts", records_path="items"),
}
KINDS: tuple[SchemaType, ...] = ("AVRO", "PROTOBUF", "JSON")


def readings(items: int, *, null: bool = False) -> list[dict[str, Any]]:
    """What a plant sends; `items` readings beside the first, and perhaps a missing value."""
    draw = random.Random(1)
    return [
        {
            "ts": NOW_MS + number,
            "site": "plant1",
            "tag": "x",
            "temperature": None if null else round(draw.gauss(70, 3), 3),
            "rpm": round(draw.gauss(1500, 30), 1),
            "data": {"current": round(draw.gauss(12, 1), 3), "count": number},
            "v": [],
            "items": [{"temperature": 70.5, "rpm": 1500.25}] * items,
            "tags": {},
        }
        for number in range(MESSAGES)
    ]


def messages_of(values: list[bytes]) -> Messages:
    keys = [f"plant{number % 10}/pump{number % 5_000}".encode() for number in range(MESSAGES)]
    times = np.full(MESSAGES, NOW_MS * 1_000, np.int64)
    return Messages(keys, values, np.zeros(MESSAGES, np.int32), np.arange(MESSAGES), times, (Partition("readings", 0),))


def measure(name: str, values: list[bytes], decode: Callable[[Messages], Any]) -> None:
    messages = messages_of(values)
    count, seconds = len(decode(messages).batch), []
    for _ in range(RUNS):
        before = time.process_time()
        decode(messages)
        seconds.append(time.process_time() - before)
    tell(name, statistics.mean(map(len, values)), statistics.median(seconds) / count)


def tell(name: str, size: float, seconds: float) -> None:
    print(f"{name:<52}{size:>8.0f} B{1 / seconds / 1e3:>10,.0f} k readings/s{seconds * 1e6:>8.2f} us")


def theirs(kind: SchemaType, values: list[bytes]) -> None:
    """Confluent's own deserializer, message by message, to dicts: no columns yet."""
    client = SchemaRegistryClient({"url": "mock://"})
    for schema_id, schema in SCHEMAS.items():
        if schema.type == kind:
            client._cache.set_schema("readings-value", schema_id, None, Schema(schema.text, kind))
            client._cache.set_schema(None, schema_id, None, Schema(schema.text, kind))
    strategy = {"subject.name.strategy.type": "TOPIC"}
    reader: Any = AvroDeserializer(client, conf=strategy) if kind == "AVRO" else JSONDeserializer(SCHEMAS[3].text, None, client, strategy)
    context = SerializationContext("readings", MessageField.VALUE)
    before = time.process_time()
    for value in values[:THEIRS]:
        reader(value, context)
    tell(f"{kind}, Confluent's deserializer, without columns", statistics.mean(map(len, values)), (time.process_time() - before) / THEIRS)


def main() -> None:
    for name, shape in SHAPES.items():
        for null in (False, True) if name == "four channels" else (False,):
            data = readings(10 if shape.records_path else 0, null=null)
            more = f"{name}{', one missing' if null else ''}"
            measure(f"plain JSON, {more}", [plain(each) for each in data], JsonReadings(shape, StreamNames()).decode)
            for kind in KINDS:
                measure(f"{kind}, {more}", [framed(kind, each) for each in data], decoder(kind, shape, StreamNames()).decode)
    for kind in ("AVRO", "JSON"):
        theirs(kind, [framed(kind, each) for each in readings(0)])


if __name__ == "__main__":
    main()
