"""Kafka's own time as event time: many readings of a stream share a millisecond, and each is judged."""

from __future__ import annotations

import json
import re
import signal
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from detector.adapters.kafka.admin import timestamp_types
from detector.cli import event_time, main
from detector.config import load_config
from tests.broker.service import Service

pytestmark = pytest.mark.broker
READINGS, STREAMS = 1_000, 2
NOW_MS = 1_790_000_000_000


def send(kafka: str, topic: str, time_ms: Callable[[int], int]) -> None:
    """Readings of two streams in turn, two of each in every millisecond that `time_ms` gives."""
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 50})
    for k in range(READINGS):
        value = json.dumps({"temperature": k % 7, "pressure": k % 5, "vibration": k % 3, "current": 1})
        producer.produce(topic, value, f"pump{k % STREAMS}", timestamp=time_ms(k // (2 * STREAMS)))
    assert producer.flush(30) == 0


@pytest.mark.parametrize("kind", ["CreateTime", "LogAppendTime"])
def test_readings_of_one_stream_and_millisecond_are_judged(
    kind: str,
    kafka: str,
    make_topic: Callable[..., str],
    start: Callable[[list[str]], Service],
    small_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    topic = make_topic("ties", settings={"message.timestamp.type": kind})
    group, config = f"ties-{uuid.uuid4().hex[:8]}", tmp_path / "detector.yaml"
    servers = {"bootstrap.servers": kafka}
    config.write_text(json.dumps({"group": group, "model": str(small_bundle), "input": {"topics": [topic]}, "kafka": servers}))
    options = ["--config", str(config)]
    assert timestamp_types(servers, [topic]) == {topic: kind}
    assert f"{topic} has a type that this user may not see" in event_time.described(load_config(config), {})
    assert main(["topics", "create", *options]) == 0
    capsys.readouterr()
    assert main(["check", *options]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith("event time ")]
    line = f"Kafka's own, {topic} has {kind}; readings of one stream and one time are judged in the order of offsets"
    assert told[0] == f"event time     good: {line}"
    arrival = "event time is when the brokers took a reading, not when it was measured"
    assert [arrival in note and "input.event_time.field" in note for note in told[1:]] == [True] * (kind == "LogAppendTime")

    send(kafka, topic, lambda k: NOW_MS + k)
    service = start(options)
    service.wait_for(lambda: service.metrics().get("detector_readings_total", 0) == READINGS)
    text = service.get("/metrics")[1]
    found = {name: float(count) for name, count in re.findall(r'detector_readings_total\{disposition="(\w+)"\} (\S+)', text)}
    assert found["warmup"] + found["scored"] == READINGS
    assert found["warmup"] == 100 * STREAMS
    assert service.end(signal.SIGTERM) == 0
    assert re.sub(r"\s+", "", line) in re.sub(r"\s+", "", service.screen)
    warnings = [line["event"] for line in service.lines() if line["level"] == "warning"]
    assert warnings == [arrival] * (kind == "LogAppendTime")
