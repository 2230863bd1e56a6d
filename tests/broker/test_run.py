"""`detector run` as people run it: a process, a real Kafka, HTTP, signals."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from detector.adapters.kafka.topic_io import TopicWriter
from detector.cli import main
from detector.core.readings import Partition
from tests.broker.members import settle
from tests.broker.service import Service, alerts_on, essence

pytestmark = pytest.mark.broker
PATIENCE_S = 60.0


def test_from_a_reading_on_kafka_to_an_alert_on_kafka(
    kafka: str,
    make_topic: Callable[..., str],
    start: Callable[[list[str]], Service],
    small_bundle: Path,
    plant_recording: Path,
    tmp_path: Path,
) -> None:
    topic, group = make_topic("sensors"), f"plant-{uuid.uuid4().hex[:8]}"
    settings = tmp_path / "detector.yaml"
    settings.write_text(
        json.dumps(
            {
                "group": group,
                "model": str(small_bundle),
                "input": {"topics": [topic], "event_time": {"field": "event_time_us"}},
                "kafka": {"bootstrap.servers": kafka, "ssl.key.password": "hunter2-secret"},
                "alerts": {"budget": "20 per stream per day"},
            }
        )
    )
    options = ["--config", str(settings)]
    assert main(["run", *options]) == 2  # its output topics are missing
    assert main(["topics", "create", *options]) == 0
    assert main(["check", *options]) == 0
    assert main(["simulate", "--from", str(plant_recording), "--topic", topic, "--speed", "full", *options]) == 0
    with TopicWriter({"bootstrap.servers": kafka}, topic) as writer:
        writer.write(b"plant1/pump01", b"not JSON")
    readings = pq.read_metadata(plant_recording).num_rows

    service = start(options)
    service.wait_for(lambda: service.metrics()["detector_messages_polled_total"] == readings + 1)
    assert service.get("/-/ready")[0] == 200
    assert service.get("/-/healthy")[0] == 200
    metrics = service.metrics()
    assert metrics["detector_readings_polled_total"] == readings + 1 == metrics["detector_readings_total"]
    assert metrics["detector_readings_unaccounted_total"] == 0
    assert metrics["detector_dead_letters_total"] == 1
    assert metrics["detector_partitions_assigned"] == 1
    assert metrics["detector_streams"] == 8
    service.wait_for(lambda: service.metrics().get("detector_consumer_lag_messages") == 0)  # there once it was asked for
    assert metrics["detector_messages_replayed_total"] == metrics["detector_messages_missed_total"] == 0  # a cold start
    written = (f"{group}.alerts", f"{group}.dead-letters", f"{group}.{topic}.state", "exactly once", "every 10 s")
    for fact in (topic, kafka, *written, "small", "temperature, pressure", "20 per stream per day"):
        assert fact in service.screen
    assert service.end(signal.SIGTERM) == 0
    assert service.lines()[-1]["event"] == "worker stopped"
    assert "hunter2" not in service.log.read_text() + service.screen

    replayed = tmp_path / "alerts.jsonl"
    command = ["replay", str(plant_recording), "--out", str(tmp_path / "v.parquet"), "--alerts", str(replayed), *options]
    assert main(command) == 0
    expected = [json.loads(line) for line in replayed.read_text().splitlines()]
    told = alerts_on(kafka, f"{group}.alerts")
    assert told, "the faults of the recording should open alerts"
    assert sorted(map(essence, told)) == sorted(map(essence, expected))

    again = start(options)  # begins where the first one ended, with its state
    ready: list[int] = []

    def is_judging() -> bool:
        ready.append(again.get("/-/ready")[0])
        return again.metrics()["detector_partitions_assigned"] == 1 and ready[-1] == 200

    again.wait_for(is_judging)
    assert 503 not in ready[ready.index(200) :]  # it turns once: nobody is sent to a worker that has joined no group yet
    assert again.metrics()["detector_streams"] == 8
    assert again.metrics()["detector_restore_duration_seconds"] > 0
    assert again.metrics()["detector_messages_polled_total"] == 0
    assert again.end(signal.SIGINT) == 0
    assert len(alerts_on(kafka, f"{group}.alerts")) == len(told)


def test_it_waits_for_a_broker_that_went_away(own_kafka: Any, start: Callable[[list[str]], Service], small_bundle: Path) -> None:
    servers = own_kafka.bootstrap_servers
    assert main(["topics", "create", "--with-input", "--partitions", "1", "--topic", "sensors", "--bootstrap-servers", servers]) == 0
    service = start(["--topic", "sensors", "--bootstrap-servers", servers, "--model", str(small_bundle)])

    def send(count: int) -> None:
        with TopicWriter({"bootstrap.servers": servers}, "sensors") as writer:
            for _ in range(count):
                writer.write(b"pump", b'{"temperature": 1.0}')

    send(10)
    service.wait_for(lambda: service.metrics()["detector_messages_polled_total"] == 10)
    settle(servers, "detector", Partition("sensors", 0), 10)
    own_kafka.stop()
    service.wait_for(lambda: service.metrics()["detector_log_unavailable_errors_total"] >= 3)
    assert {service.get("/-/ready")[0] for _ in range(20)} == {503}  # it stays so for as long as no broker answers
    assert service.get("/-/healthy")[0] == 200
    own_kafka.start()
    send(10)
    service.wait_for(lambda: service.metrics()["detector_messages_polled_total"] >= 20)
    service.wait_for(lambda: service.get("/-/ready")[0] == 200)
    assert service.end(signal.SIGTERM) == 0
    assert any(line["event"] == "log available again" for line in service.lines())
