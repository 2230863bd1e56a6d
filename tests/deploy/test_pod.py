"""What a pod of the chart does: its init container and its container, as processes on a real Kafka."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from deploy.kafka.local_kafka import free_port
from tests.conftest import MakeTopic
from tests.deploy.chart import pod, rendered, the, values

pytestmark = pytest.mark.broker
PATIENCE_S = 60.0
NAME = "plant-detector-0"


def environment(container: dict[str, Any]) -> dict[str, str]:
    """The container's own variables, as Kubernetes would fill them in, beside those that this machine's Python needs."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("DETECTOR_")}
    return own | {entry["name"]: entry.get("value", NAME) for entry in container["env"]} | {"DETECTOR_HTTP__HOST": "127.0.0.1"}


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_a_pod_makes_its_topics_becomes_ready_and_drains(kafka: str, make_topic: MakeTopic, tmp_path: Path) -> None:
    topic, port = make_topic("readings", 2), free_port()
    given = values("minimal") | {"partitions": 2, "topics": {"create": True}}
    given["config"] |= {"group": topic, "http": {"port": port}, "kafka": {"bootstrap.servers": kafka}}
    given["config"]["input"]["topics"] = [topic]
    objects = rendered(given)
    spec = pod(objects)
    (tmp_path / "detector.yaml").write_text(the(objects, "ConfigMap")["data"]["detector.yaml"])

    def command(container: dict[str, Any]) -> list[str]:
        arguments = [argument.replace("/etc/detector", str(tmp_path)) for argument in container["args"]]
        return [sys.executable, "-m", "detector", *arguments]

    (topics,), (detector,) = spec["initContainers"], spec["containers"]
    made = subprocess.run(command(topics), env=environment(topics), capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert f"{topic}.alerts: created" in made.stdout

    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command(detector), env=environment(detector), stdout=subprocess.DEVNULL, stderr=log)
        try:
            ready = f"http://127.0.0.1:{port}{detector['readinessProbe']['httpGet']['path']}"
            healthy = f"http://127.0.0.1:{port}{detector['livenessProbe']['httpGet']['path']}"
            deadline = time.monotonic() + PATIENCE_S
            while status(ready) != 200 and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            assert (status(ready), status(healthy)) == (200, 200), (tmp_path / "log").read_text()
            process.send_signal(signal.SIGTERM)
            assert process.wait(spec["terminationGracePeriodSeconds"]) == 0
        finally:
            process.kill()
            process.wait()
