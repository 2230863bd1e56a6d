"""Alerts onward: a real Kafka, the real service, a real Alertmanager, and who is notified by it."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.adapters.kafka.topic_io import TopicWriter
from detector.cli import main
from tests.broker.alertmanagers import AlertmanagerServer, Receiver, wait_for
from tests.broker.service import Service
from tests.conftest import need_part

pytestmark = pytest.mark.broker
SAMPLE = Path(__file__).parents[2] / "deploy" / "alertmanager" / "alertmanager.yaml"
PASSWORD, PASSWORD_HASH = "hunter2-alerts", "$2b$04$abcdefghijklmnopqrstuulwswDGmYbaQbUJn1chz4ATszkh39W7m"
OPEN_AT, WORSE_AT, CALM_AT, END = 600, 660, 700, 900  # readings of an episode: a fault, a second one within, and none


class Plant:
    """A topic, and the configuration of a detector that reads it."""

    def __init__(self, kafka: str, topic: str, folder: Path) -> None:
        self.kafka, self.topic, self.group = kafka, topic, f"plant-{uuid.uuid4().hex[:8]}"
        self._folder = folder
        self._begun_us = int((time.time() - END) * 1e6)

    def configure(self, **alertmanager: object) -> list[str]:
        """The options that name this configuration; its topics are there."""
        path = self._folder / f"{self.group}.yaml"
        kafka = {"bootstrap.servers": self.kafka, "group.instance.id": "worker-0"}  # a lasting name: killed and back within seconds
        sections = {
            "group": self.group,
            "input": {"topics": [self.topic], "channels": ["temperature"], "event_time": {"field": "time"}},
            "alerts": {"budget": "20 per stream per day", "timeout_intervals": 0},
            "alertmanager": alertmanager,
            "kafka": kafka,
        }
        path.write_text(json.dumps(sections))
        assert main(["topics", "create", "--config", str(path)]) == 0
        return ["--config", str(path)]

    def send(self, stream: str, first: int, end: int, fault: float, worse: float = 60.0) -> None:
        """Readings [first, end) of an episode. fault, worse: degrees beyond the usual."""
        at = np.arange(END)
        temperature = 20 + np.sin(at / 9) + 0.1 * np.random.default_rng(1).standard_normal(END)
        temperature[OPEN_AT:WORSE_AT] += fault
        temperature[WORSE_AT:CALM_AT] += worse
        with TopicWriter({"bootstrap.servers": self.kafka}, self.topic) as writer:
            for k in range(first, end):
                reading = {"time": self._begun_us + k * 1_000_000, "temperature": float(np.float32(temperature[k]))}
                writer.write(stream.encode(), json.dumps(reading).encode())


@pytest.fixture
def plant(kafka: str, make_topic: Callable[..., str], tmp_path: Path) -> Plant:
    return Plant(kafka, make_topic("sensors"), tmp_path)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def alertmanager(tmp_path: Path, receiver: Receiver) -> Iterator[AlertmanagerServer]:
    server = AlertmanagerServer(tmp_path / "alertmanager", receiver)
    yield server
    server.stop()


def told(service: Service, event: str) -> list[dict[str, Any]]:
    return [line for line in service.lines() if line["event"] == event]


def test_an_episode_is_one_alert_from_its_opening_to_its_end(
    plant: Plant, alertmanager: AlertmanagerServer, receiver: Receiver, start: Callable[[list[str]], Service]
) -> None:
    plant.send("over long ago", 0, END, 4.0)
    plant.send("kiln", 0, WORSE_AT, 4.0)
    plant.send("pump 7 \U0001f525", 0, WORSE_AT, 9.0)
    service = start(plant.configure(url=alertmanager.url, resend_interval_s=2, labels={"site": "north"}))
    (opened,) = wait_for(lambda: alertmanager.alerts(stream="pump 7 \U0001f525"), service.log.read_text)
    assert opened["labels"] == {
        "alertname": "StreamAnomaly",
        "stream": "pump 7 \U0001f525",
        "kind": "score",
        "severity": "critical",
        "group": plant.group,
        "topic": plant.topic,
        "partition": "0",
        "site": "north",
    }
    assert opened["annotations"].keys() == {"summary", "description", "id", "model", "score", "tail_probability"}
    assert opened["annotations"]["summary"].startswith("pump 7 \U0001f525: temperature is 2")
    wait_for(lambda: alertmanager.alerts(stream="kiln", severity="warning"))

    ended_s = datetime.fromisoformat(opened["endsAt"]).timestamp() + 0.5  # without another word, eight seconds after the first
    wait_for(lambda: time.time() > ended_s)
    (still,) = alertmanager.alerts(stream="pump 7 \U0001f525")
    assert still["endsAt"] > opened["endsAt"]
    assert still["startsAt"] == opened["startsAt"]
    assert receiver.told("pump 7 \U0001f525") == [[("firing", "critical")]]

    for stream, fault in (("kiln", 4.0), ("pump 7 \U0001f525", 9.0)):
        plant.send(stream, WORSE_AT, CALM_AT, fault)
    wait_for(lambda: "got worse" in alertmanager.alerts(stream="pump 7 \U0001f525")[0]["annotations"]["description"])
    wait_for(lambda: [alert["labels"]["severity"] for alert in alertmanager.alerts(stream="kiln")] == ["critical"])
    wait_for(lambda: ("firing", "critical") in receiver.told("kiln")[-1])

    alertmanager.stop()
    service.wait_for(lambda: service.metrics()["detector_alertmanager_request_failures_total"] >= 2)
    plant.send("kiln", CALM_AT, END, 4.0)  # it ends while nobody listens
    service.wait_for(lambda: service.metrics()["detector_alerts_closed_total"] == 2)
    assert service.get("/-/ready")[0] == 200  # judging does not wait
    alertmanager.start()
    wait_for(lambda: alertmanager.alerts(stream="pump 7 \U0001f525"))
    plant.send("pump 7 \U0001f525", CALM_AT, END, 9.0)
    wait_for(lambda: not alertmanager.alerts())
    wait_for(lambda: ("resolved", "critical") in receiver.told("kiln")[-1], lambda: receiver.notifications)
    wait_for(lambda: len(receiver.told("pump 7 \U0001f525")) == 2)

    service.wait_for(lambda: service.metrics()["detector_alertmanager_queue_length"] == 0)
    metrics = service.metrics()
    assert metrics["detector_alerts_opened_total"] == 3  # of which one was over before it could be told
    assert metrics["detector_alertmanager_alerts_dropped_total"] == 0
    assert receiver.told("over long ago") == []
    assert receiver.told("pump 7 \U0001f525") == [[("firing", "critical")], [("resolved", "critical")]]
    assert receiver.told("kiln")[0] == [("firing", "warning")]
    assert [len(told(service, f"Alertmanager {what}")) for what in ("does not take alerts", "takes alerts again")] == [1, 1]
    assert service.end(signal.SIGTERM) == 0


def test_an_alert_outlives_its_worker(
    plant: Plant, alertmanager: AlertmanagerServer, receiver: Receiver, start: Callable[[list[str]], Service]
) -> None:
    options = plant.configure(url=alertmanager.url, resend_interval_s=30)
    first = start(options)
    plant.send("pump", 0, WORSE_AT, 9.0)
    (opened,) = wait_for(alertmanager.alerts, first.log.read_text)
    first.end(signal.SIGKILL)
    second = start(options)
    (again,) = wait_for(
        lambda: [alert for alert in alertmanager.alerts() if alert["updatedAt"] > opened["updatedAt"]], second.log.read_text
    )
    assert again["labels"] == opened["labels"]
    assert (again["startsAt"], again["annotations"]["id"]) == (opened["startsAt"], opened["annotations"]["id"])
    plant.send("pump", WORSE_AT, END, 9.0)
    wait_for(lambda: not alertmanager.alerts(), second.log.read_text)
    wait_for(lambda: len(receiver.told("pump")) == 2)
    assert receiver.told("pump") == [[("firing", "critical")], [("resolved", "critical")]]
    assert second.end(signal.SIGTERM) == 0


def test_a_check_tries_the_door(
    plant: Plant,
    tmp_path: Path,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    server = AlertmanagerServer(tmp_path / "locked", receiver, {"basic_auth_users": {"detector": PASSWORD_HASH}})
    request.addfinalizer(server.stop)
    monkeypatch.setenv("DETECTOR_ALERTMANAGER__PASSWORD", PASSWORD)
    options = plant.configure(url=server.url, username="detector")

    def check(password: str) -> tuple[int, str]:
        monkeypatch.setenv("DETECTOR_ALERTMANAGER__PASSWORD", password)
        code = main(["check", *options])
        return code, "".join(capfd.readouterr())

    assert check(PASSWORD)[0] == 0
    code, said = check("hunter2-wrong")
    assert code == 2
    assert f"error: Alertmanager {server.url} answers 401" in said
    assert "fix: check `alertmanager: username` and `password`" in said
    server.stop()
    code, gone = check(PASSWORD)
    assert code == 1
    assert "cannot be reached: [Errno 111] Connection refused" in gone
    assert "hunter2" not in said + gone
    assert "Traceback" not in said + gone


def test_the_configuration_to_start_from_is_one() -> None:
    done = subprocess.run([need_part("amtool"), "check-config", SAMPLE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
