"""`detector reset-baseline`, as people run it: a real Kafka, the real service, and another group that reads the same log later."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.adapters.kafka.topic_io import TopicWriter
from detector.cli import main
from tests.broker.service import Service, alerts_on

pytestmark = pytest.mark.broker
STREAM, PARTITIONS, FAULT, READINGS = "plant1/pump07", 2, 600, 700


def written(kafka: str, topic: str) -> None:
    """A stream whose level changes for good."""
    rng = np.random.default_rng(4)
    value = np.sin(np.arange(READINGS) / 5) + 0.1 * rng.standard_normal(READINGS)
    value[FAULT:] += 30
    with TopicWriter({"bootstrap.servers": kafka}, topic) as writer:
        for at, one in enumerate(value.tolist()):
            writer.write(STREAM.encode(), json.dumps({"rpm": one, "t": 1_790_000_000 + at}).encode())


def judged(service: Service, readings: int) -> bool:
    return service.metrics()["detector_readings_polled_total"] >= readings


def told(alert: dict[str, Any]) -> dict[str, Any]:
    return {name: alert[name] for name in alert if name != "model"}


def test_a_baseline_reset_closes_the_alert_for_every_group_that_reads_it(
    kafka: str,
    make_topic: Callable[..., str],
    start: Callable[[list[str]], Service],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    topic = make_topic("sensors", PARTITIONS)
    options = ["--topic", topic, "--bootstrap-servers", kafka]
    settings = tmp_path / "detector.yaml"
    settings.write_text(
        json.dumps({"input": {"channels": ["rpm"], "event_time": {"field": "t"}}, "alerts": {"budget": "1 per stream per hour"}})
    )
    options += ["--config", str(settings)]
    first, second = (f"plant-{uuid.uuid4().hex[:8]}" for _ in range(2))
    for group in (first, second):
        assert main(["topics", "create", *options, "--group", group]) == 0
    written(kafka, topic)
    service = start([*options, "--group", first])
    service.wait_for(lambda: judged(service, READINGS))
    service.wait_for(lambda: service.metrics()["detector_alerts_opened_total"] == 1)
    capsys.readouterr()
    assert main(["reset-baseline", STREAM, *options]) == 0
    assert f"{topic}: wrote a baseline reset of {STREAM} to all {PARTITIONS} partitions" in capsys.readouterr().out
    service.wait_for(lambda: service.metrics()["detector_alerts_closed_total"] == 1)
    assert service.metrics()["detector_alerts_open"] == 0
    alerts = alerts_on(kafka, f"{first}.alerts")
    assert [alert["reason"] for alert in alerts][-2:] == ["evidence", "reset"]
    assert alerts[-1]["id"] == alerts[-2]["id"]
    assert service.metrics().get("detector_dead_letters_total", 0) == 0
    later = start([*options, "--group", second])
    later.wait_for(lambda: judged(later, READINGS) and later.metrics()["detector_alerts_closed_total"] >= 1)
    assert [told(alert) for alert in alerts_on(kafka, f"{second}.alerts")] == [told(alert) for alert in alerts]


def test_what_it_cannot_do_is_said(kafka: str, make_topic: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> None:
    topic = make_topic("sensors", PARTITIONS)
    servers = ["--bootstrap-servers", kafka]
    for options, said in (
        ([STREAM, "--topic", topic, "--partition", "2", *servers], "has no partition 2, only 0 to 1"),
        ([STREAM, "--topic", f"{topic}-x", *servers], f"{topic}-x"),
        ([STREAM, *servers], "no topic to read"),
        (["", "--topic", topic, *servers], "a stream's name has 1 to"),
    ):
        assert main(["reset-baseline", *options]) == 2
        assert said in capsys.readouterr().err
