"""`detector run` as people run it: a process, a real Kafka, HTTP, signals."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from detector.adapters.kafka_io import TopicReader, TopicWriter
from detector.cli import main
from detector.core.readings import Partition
from tests.broker.members import settle

pytestmark = pytest.mark.broker
PATIENCE_S = 60.0


class Service:
    """A running `detector run`."""

    def __init__(self, options: list[str], folder: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DETECTOR_")}
        environment |= {
            "DETECTOR_HTTP__PORT": "0",
            "DETECTOR_HTTP__HOST": "127.0.0.1",
            "DETECTOR_SERVICE__BACKOFF_MS_MAX": "1000",
            "COLUMNS": "200",
        }
        self.log = folder / f"{uuid.uuid4().hex}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "detector", "run", *options], env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.screen = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.screen += line
            if found := re.search(r"http://localhost:(\d+)/metrics|http://127\.0\.0\.1:(\d+)/metrics", line):
                self.port = int(found[1] or found[2])
                break
        else:
            pytest.fail(f"it ended with {self.process.wait()}: {self.screen}\n{self.log.read_text()}")

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def metrics(self) -> dict[str, float]:
        """Name -> value, summed over labels."""
        values: dict[str, float] = {}
        for family in text_string_to_metric_families(self.get("/metrics")[1]):
            for sample in family.samples:
                values[sample.name] = values.get(sample.name, 0) + sample.value
        return values

    def wait_for(self, what: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not what():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"{self.metrics()}\n{self.log.read_text()}"
            time.sleep(0.05)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[list[str]], Service]]:
    services: list[Service] = []

    def start(options: list[str]) -> Service:
        services.append(Service(options, tmp_path))
        return services[-1]

    yield start
    for service in services:
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()


def alerts_on(kafka: str, topic: str) -> list[dict[str, Any]]:
    with TopicReader({"bootstrap.servers": kafka}, topic) as reader:
        return [json.loads(value or b"null") for batch in reader.batches() for value in batch.value]


def essence(alert: dict[str, Any]) -> tuple[Any, ...]:
    """What does not depend on where the readings came from."""
    return tuple(alert[name] for name in ("status", "kind", "stream", "opened_at", "event_time", "score", "tail_probability"))


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
    assert metrics["detector_streams"] == 4
    service.wait_for(lambda: service.metrics()["detector_lag_messages"] == 0)
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

    again = start(options)  # begins where the first one ended, with its memories
    again.wait_for(lambda: again.get("/-/ready")[0] == 200 and again.metrics()["detector_partitions_assigned"] == 1)
    assert again.metrics()["detector_streams"] == 4
    assert again.metrics()["detector_restore_seconds"] > 0
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
    service.wait_for(lambda: service.metrics()["detector_log_unavailable_total"] >= 3)
    assert {service.get("/-/ready")[0] for _ in range(20)} == {503}  # it stays so for as long as no broker answers
    assert service.get("/-/healthy")[0] == 200
    own_kafka.start()
    send(10)
    service.wait_for(lambda: service.metrics()["detector_messages_polled_total"] >= 20)
    service.wait_for(lambda: service.get("/-/ready")[0] == 200)
    assert service.end(signal.SIGTERM) == 0
    assert any(line["event"] == "log available again" for line in service.lines())
