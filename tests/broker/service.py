"""`detector run` as a process, for the tests of the whole service, and what it told."""

from __future__ import annotations

import http.client
import json
import re
import signal
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from detector.adapters.kafka.topic_io import TopicReader
from tests.forked import Forked

PATIENCE_S = 60.0


class Service:
    """A running `detector run`."""

    def __init__(self, options: list[str], folder: Path) -> None:
        environment = {
            "DETECTOR_HTTP__PORT": "0",
            "DETECTOR_HTTP__HOST": "127.0.0.1",
            "DETECTOR_SERVICE__BACKOFF_MS_MAX": "1000",
            "COLUMNS": "200",
        }
        self.log, screen = folder / f"{uuid.uuid4().hex}.log", folder / f"{uuid.uuid4().hex}.screen"
        self.process = Forked(["run", *options], environment, screen, self.log)
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(r"http://(?:localhost|127\.0\.0\.1):(\d+)/metrics", screen.read_text())):
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"it ended with {self.process.poll()}: {screen.read_text()}\n{self.log.read_text()}")
            time.sleep(0.02)
        self.screen, self.port = screen.read_text(), int(found[1])

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def metrics(self) -> dict[str, float]:
        """Name -> value, summed over labels."""
        values: dict[str, float] = {}
        for sample in self._samples():
            values[sample.name] = values.get(sample.name, 0) + sample.value
        return values

    def metric(self, name: str, **labels: str) -> float:
        """Of a metric the sum of those that have these labels."""
        return sum(each.value for each in self._samples() if each.name == name and labels.items() <= each.labels.items())

    def _samples(self) -> list[Sample]:
        return [sample for family in text_string_to_metric_families(self.get("/metrics")[1]) for sample in family.samples]

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

    def said(self, text: str) -> list[dict[str, Any]]:
        """The lines whose event has this text."""
        return [line for line in self.lines() if text in line["event"]]


def kill_running(processes: Iterable[Forked]) -> None:
    """What a test has not ended itself must not outlive it."""
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def alerts_on(kafka: str, topic: str) -> list[dict[str, Any]]:
    with TopicReader({"bootstrap.servers": kafka}, topic) as reader:
        return [json.loads(value or b"null") for batch in reader.batches() for value in batch.value]


def essence(alert: dict[str, Any]) -> tuple[Any, ...]:
    """What does not depend on where the readings came from."""
    return tuple(alert[name] for name in ("status", "kind", "stream", "opened_at", "event_time", "score", "tail_probability"))
