"""Workers as processes: started, killed, stopped and continued."""

from __future__ import annotations

import json
import signal
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from prometheus_client.parser import text_string_to_metric_families

from deploy.kafka.local_kafka import free_port
from tests.chaos.broken import break_on_purpose
from tests.chaos.proxy import HOST
from tests.forked import Forked

LEAVE_S_MAX = 30.0


class Worker:
    """`detector run` in a process of its own.

    folder   for its configuration and its log
    name     of both
    config   and through which proxy it connects
    kind     how it is broken on purpose; empty: not at all
    instance the number of its lasting name, if it has one
    """

    def __init__(self, folder: Path, name: str, config: dict[str, Any], proxy: int, kind: str = "", instance: int = 0) -> None:
        self.name, self.proxy, self.instance, self.kind = name, proxy, instance, kind
        self.log = folder / f"{name}.log"
        self._port = free_port()
        path = folder / f"{name}.yaml"
        path.write_text(json.dumps({**config, "http": {"host": HOST, "port": self._port}}))
        environment = {"DETECTOR_DEBUG": "1"}  # an error says where it came from
        first = partial(break_on_purpose, kind) if kind else None
        self._process = Forked(["run", "--config", str(path)], environment, self.log, self.log, first)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative if a signal ended it."""
        return self._process.poll()

    @property
    def has_begun(self) -> bool:
        """Whether it has said anything but what it is going to do; before that a signal ends it as it ends any process."""
        return '"event"' in self.log.read_text(errors="replace")

    @property
    def has_partitions(self) -> bool:
        """Whether it has had partitions."""
        return "partitions assigned" in self.log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL, also to one that is stopped."""
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """SIGSTOP."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def ask_to_leave(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def leave(self) -> int:
        """SIGTERM, and wait; its exit code.

        raises subprocess.TimeoutExpired  it did not leave
        """
        self.ask_to_leave()
        return self._process.wait(LEAVE_S_MAX)

    @property
    def peak_mib(self) -> float:
        """The most memory that it ever had resident, MiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def ask(self, path: str) -> int:
        """The status of an answer of its web server; 0 if there is none."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self._port}{path}", timeout=5) as answer:
                return int(answer.status)
        except HTTPError as error:
            return error.code
        except OSError:
            return 0

    def metric(self, name: str) -> float | None:
        """The sum of a metric over its labels; None if it cannot be asked now."""
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self._port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except OSError:
            return None
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return sum(sample.value for sample in samples if sample.name == name)

    def said(self, event: str) -> list[dict[str, Any]]:
        """The lines of its log whose event begins like this."""
        begin = '{"event": "' + event
        return [json.loads(line) for line in self.log.read_text(errors="replace").splitlines() if line.startswith(begin)]

    def log_tail(self, lines: int = 8) -> str:
        """What it said last."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
