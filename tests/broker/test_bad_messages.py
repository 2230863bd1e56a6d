"""Bad messages on a real Kafka: each becomes one dead letter, as it came, and the service goes on, whatever the letter's size."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from detector.adapters.bundle import load_bundle
from detector.adapters.kafka.log import KafkaLog
from detector.adapters.kafka.topic_io import TopicReader, TopicWriter
from detector.adapters.kafka.topics import create_topics, output_topics
from detector.codec.alerts import AlertEncoder
from detector.codec.dead_letters import OMITTED, REASON
from detector.codec.messages import Headers
from detector.codec.readings import JsonReadings, ReadingFormat
from detector.config import Service
from detector.core.detector import Detector
from detector.service.state_manager import StateManager
from detector.service.worker import Worker

pytestmark = pytest.mark.broker
PATIENCE_S = 60.0
GOOD_US = 1_790_000_000_000_000
NEARLY_TOO_LARGE = b"x" * 1_048_400  # brokers take 1,048,588 bytes by default, and a dead letter is longer by its headers
BAD: list[tuple[bytes | None, bytes | None, str, str]] = [
    (b"pump", None, "NullValue", "value"),
    (b"pump", b"", "EmptyValue", "value"),
    (b"pump", b"no json", "MalformedJson", "value"),
    (b"pump", b'{"t": 1790000000, "temperature": \xff}', "NotUtf8", "value"),
    (b"pump", b'{"t": 1790000000, "x": ' + b"[" * 5_000, "TooDeep", "value"),
    (b"pump", b'{"t": 1790000000, "temperature": ["warm"]}', "WrongType", "temperature"),
    (b"pump", b'{"t": 1790000000, "temperature": nan}', "MalformedJson", "temperature"),
    (b"pump", b'{"t": 1790000000, "temperature": 1e39}', "OutOfRange", "temperature"),
    (b"pump", b'{"t": 7}', "OutOfRange", "t"),
    (b"pump", b"{}", "MissingEventTime", "t"),
    (None, b'{"t": 1790000000}', "MissingStream", "key"),
    (b"\xff", b'{"t": 1790000000}', "NotUtf8", "key"),
    (b"k" * 2_000, b'{"t": 1790000000}', "TooLarge", "key"),
    (b"pump", NEARLY_TOO_LARGE, "MalformedJson", "value"),
]
HEADERS: Headers = [("gateway", b"7"), ("trace", None)]


@pytest.mark.parametrize("takes_all", [True, False], ids=["as topics create makes it", "with the broker's own limit"])
def test_each_is_one_dead_letter_and_the_service_goes_on(
    kafka: str, make_topic: Callable[..., str], small_bundle: Path, takes_all: bool
) -> None:
    topic, alerts, dead = make_topic("sensors"), f"alerts-{uuid.uuid4().hex[:8]}", f"dead-{uuid.uuid4().hex[:8]}"
    properties = {"bootstrap.servers": kafka}
    if takes_all:
        create_topics(properties, output_topics(alerts, dead, 1))
    else:
        alerts, dead = make_topic("alerts"), make_topic("dead")
    with TopicWriter(properties, topic) as writer:
        for number, (key, value, _, _) in enumerate(BAD):
            writer.write(b"good", json.dumps({"t": GOOD_US + number, "temperature": 20.5}).encode())
            writer.write(key, value, headers=HEADERS)
        writer.write(b"good", json.dumps({"t": GOOD_US + len(BAD), "temperature": 20.5}).encode())

    worker = judged(KafkaLog([topic], f"group-{uuid.uuid4().hex[:8]}", alerts, dead, properties), small_bundle, 2 * len(BAD) + 1)

    assert worker.stats.readings == 2 * len(BAD) + 1
    assert worker.stats.unaccounted == 0
    assert sum(worker.stats.dead_letters.values()) == len(BAD)
    with TopicReader(properties, dead) as reader:
        dead_letters = [(m.key[at], m.value[at], list(m.headers(at))) for m in reader.batches() for at in range(len(m))]
    dead_letters.sort(key=lambda dead_letter: int(dict(dead_letter[2])[REASON[2]] or b""))  # what went alone comes late
    assert len(dead_letters) == len(BAD)
    for number, ((key, value, headers), (bad_key, bad_value, error, field)) in enumerate(zip(dead_letters, BAD, strict=True)):
        said = {name: (entry or b"").decode() for name, entry in headers if name not in dict(HEADERS)}
        assert [said[name] for name in REASON[:4]] == [topic, "0", str(2 * number + 1), error]
        assert said[REASON[4]].startswith(f"{field}: ")
        if bad_value == NEARLY_TOO_LARGE and not takes_all:
            assert (key, value) == (bad_key, None)
            assert said[OMITTED] == f"value ({len(bad_value)} bytes), headers (2)"
        else:
            assert (key, value, headers[:2]) == (bad_key, bad_value, HEADERS)
            assert OMITTED not in said


def judged(log: KafkaLog, bundle: Path, messages: int) -> Worker:
    """A worker that has read so many messages and left."""
    model = load_bundle(str(bundle))
    detector = Detector(model)
    decoder = JsonReadings(ReadingFormat(model.channels, event_time="t"), detector.names)
    encoder = AlertEncoder(model.name, model.fingerprint, "/detector/test")
    worker = Worker(log, decoder, detector, encoder, StateManager(detector, 0), settings=Service())
    deadline = time.monotonic() + PATIENCE_S
    while worker.stats.messages < messages and time.monotonic() < deadline:
        worker.step()
    worker.drain()
    worker.close()
    return worker
