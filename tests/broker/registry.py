"""A real schema registry for a test: a program of `tests/parts`, schemas in its memory."""

from __future__ import annotations

import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from deploy.kafka.local_kafka import free_port
from tests.conftest import need_part

START_S_MAX = 30.0


class Registry:
    """A schema registry on a port of its own, which it keeps when it is stopped and started again; what it knew is then gone."""

    def __init__(self, folder: Path, certificate: Path | None = None, key: Path | None = None) -> None:
        self._program = need_part("schema-registry")
        self.port = free_port()
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self.port}"
        self._config = folder / "registry.yaml"
        tls = f"security: {{tls: {{enabled: true, cert_file: {certificate}, key_file: {key}}}}}" if certificate else ""
        self._config.write_text(
            f"server: {{host: 127.0.0.1, port: {self.port}}}\nstorage: {{type: memory}}\nlogging: {{level: warn}}\n{tls}\n"
        )
        self._log = folder / "registry.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([self._program, "-config", str(self._config)], stdout=log, stderr=log)
        deadline = time.monotonic() + START_S_MAX
        while not self._listens():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
            self._process = None

    def _listens(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except (urllib.error.URLError, ConnectionError) as error:
            return "CERTIFICATE" in str(error)
