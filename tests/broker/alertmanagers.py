"""A real Alertmanager, and who is notified by it."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from deploy.kafka.local_kafka import free_port
from tests.conftest import need_part

PATIENCE_S = 90.0


def wait_for(what: Callable[[], Any], why: Callable[[], object] = lambda: "") -> Any:
    """The first true answer."""
    deadline = time.monotonic() + PATIENCE_S
    while not (answer := what()):
        assert time.monotonic() < deadline, why()
        time.sleep(0.05)
    return answer


class Receiver:
    """Takes Alertmanager's notifications."""

    def __init__(self) -> None:
        self.notifications: list[dict[str, Any]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.notifications.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts"
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def told(self, stream: str) -> list[list[tuple[str, str]]]:
        """Status and severity of every alert of each notification about a stream, in their order."""
        return [
            sorted((alert["status"], alert["labels"]["severity"]) for alert in each["alerts"])
            for each in list(self.notifications)
            if each["groupLabels"]["stream"] == stream
        ]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class AlertmanagerServer:
    """One that runs on a port of its own, and keeps what it knows in a folder; to be stopped and started at will.

    web   its --web.config.file
    """

    def __init__(self, folder: Path, receiver: Receiver, web: dict[str, Any] | None = None) -> None:
        self._program = need_part("prometheus-alertmanager")
        self._folder = folder
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        self._options = [
            f"--config.file={folder / 'alertmanager.json'}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
            "--cluster.listen-address=",
        ]
        folder.mkdir()
        config = {
            "global": {"resolve_timeout": "2s"},
            "route": {"receiver": "hook", "group_by": ["alertname", "stream"], "group_wait": "0s", "group_interval": "1s"},
            "receivers": [{"name": "hook", "webhook_configs": [{"url": receiver.url, "send_resolved": True}]}],
        }
        (folder / "alertmanager.json").write_text(json.dumps(config))
        if web is not None:
            (folder / "web.json").write_text(json.dumps(web))
            self._options.append(f"--web.config.file={folder / 'web.json'}")
        self.start()

    def start(self) -> None:
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [self._program, *self._options], cwd=self._program.parents[2], stdout=log, stderr=subprocess.STDOUT
            )
        wait_for(self._answers, lambda: (self._folder / "log").read_text())

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def alerts(self, **labels: str) -> list[dict[str, Any]]:
        """The alerts that it holds active, with these labels."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=10) as answer:
            alerts: list[dict[str, Any]] = json.load(answer)
        return [alert for alert in alerts if labels.items() <= alert["labels"].items()]

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=10):
                return True
        except urllib.error.HTTPError:
            return True  # it asks for a password
        except OSError:
            return False
