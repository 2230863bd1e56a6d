"""The demo's broker, and the service as a process of its own, as a user would run it."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import yaml

from detector.errors import DetectorError, LogUnavailable
from detector.lab.plant import CHANNELS

START_S_MAX = 75.0
STOP_S_MAX = 15.0
ANSWER_S_MAX = 5.0
LINES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Topics:
    """The demo's broker, group and topics. is_mock: the broker is librdkafka's own mock cluster."""

    servers: str
    group: str
    is_mock: bool

    @property
    def readings(self) -> str:
        """The topic of readings, written by the simulator."""
        return f"{self.group}.readings"

    @property
    def alerts(self) -> str:
        """The topic of alerts."""
        return f"{self.group}.alerts"

    @property
    def dead_letters(self) -> str:
        """The topic of dead letters."""
        return f"{self.group}.dead-letters"

    @property
    def state(self) -> str:
        """The topic of saved state; not on the mock broker, which could not keep it."""
        return f"{self.group}.{self.readings}.state"


def broker(stack: ExitStack, bootstrap_servers: str | None) -> Topics:
    """The embedded mock broker, for as long as `stack`; or topics of the demo's own on a real Kafka."""
    from detector.adapters.kafka.mock_broker import MockBroker
    from detector.adapters.kafka.topics import Topic, create_topics, output_topics

    if bootstrap_servers is None:
        names = Topics("", "detector-demo", is_mock=True)
        mock = stack.enter_context(MockBroker([names.readings, names.alerts, names.dead_letters]))
        return Topics(mock.bootstrap_servers, names.group, is_mock=True)
    # Each run has topics of its own: an earlier run's alerts are not this one's.
    names = Topics(bootstrap_servers, f"detector-demo-{uuid.uuid4().hex[:8]}", is_mock=False)
    topics = (Topic(names.readings, 4), *output_topics(names.alerts, names.dead_letters))
    create_topics({"bootstrap.servers": bootstrap_servers}, topics, state={names.readings: names.state})
    return names


class Service:
    """`detector run` as a child process; use as a context manager. It is ready once entered."""

    def __init__(self, topics: Topics, model: str, budget: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="detector-demo-")
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        config = {
            "group": topics.group,
            "model": model,
            "input": {"topics": [topics.readings], "channels": list(CHANNELS), "event_time": {"field": "time", "unit": "ms"}},
            "alerts": {"budget": budget},
            "http": {"host": "127.0.0.1", "port": self._port},
            "kafka": {"bootstrap.servers": topics.servers},
        }
        if topics.is_mock:
            config |= {"delivery": "at_least_once", "state": {"flush_interval_s": 0}}
        (self._path / "detector.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")

    @property
    def _path(self) -> Path:
        return Path(self._folder.name)

    @property
    def metrics_url(self) -> str:
        """Where the service shows its metrics."""
        return f"http://127.0.0.1:{self._port}/metrics"

    def introduction(self) -> str:
        """What the service prints at its start."""
        return (self._path / "stdout").read_text(encoding="utf-8").strip()

    def __enter__(self) -> Service:
        command = [sys.executable, "-m", "detector", "run", "--config", str(self._path / "detector.yaml")]
        try:
            with (self._path / "stdout").open("wb") as out, (self._path / "stderr").open("wb") as err:
                self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)  # noqa: S603
            self._wait_until_ready()
        except BaseException:
            self._clear()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._clear()

    def _clear(self) -> None:
        self.stop()
        self._folder.cleanup()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_S_MAX
        while time.monotonic() < deadline:
            self.must_be_alive()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=ANSWER_S_MAX):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        raise LogUnavailable(f"the service was not ready within {START_S_MAX:g} s", fix="look at what it said:\n" + self._last_words())

    def must_be_alive(self) -> None:
        """raises DetectorError  the service has ended by itself, with its last words"""
        if self._process is not None and self._process.poll() is not None:
            raise DetectorError(f"the service ended with exit code {self._process.returncode}", fix=self._last_words())

    def _last_words(self) -> str:
        return "\n".join((self._path / "stderr").read_text(encoding="utf-8", errors="replace").splitlines()[-LINES_SHOWN:])

    def dispositions(self) -> dict[str, int]:
        """Readings by disposition, from the metrics that everyone can see; empty if they do not answer."""
        try:
            with urllib.request.urlopen(self.metrics_url, timeout=ANSWER_S_MAX) as answer:  # noqa: S310 - our own
                lines = answer.read().decode().splitlines()
        except (urllib.error.URLError, OSError):
            return {}
        counted = (line.removeprefix('detector_readings_total{disposition="').split('"} ') for line in lines if "disposition=" in line)
        return {parts[0]: int(float(parts[1])) for parts in counted if len(parts) == 2}

    def wait_until_judged(self, messages: int, timeout_s: float) -> int:
        """Wait until the service has judged so many messages, or no longer; returns how many it has."""
        deadline = time.monotonic() + timeout_s
        while (judged := sum(self.dispositions().values())) < messages and time.monotonic() < deadline:
            self.must_be_alive()
            time.sleep(0.1)
        return judged

    def stop(self) -> None:
        """Stop it as Kubernetes would: SIGTERM, time to drain, then SIGKILL. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
