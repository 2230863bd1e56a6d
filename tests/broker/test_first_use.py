"""README.md's first real use, word by word, as a person types it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.broker
ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 240.0


def commands() -> str:
    """The block of commands, each as it stands there."""
    found = re.search(
        r"^## A first real use\n.*?^```\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert found is not None
    return found[1]


def fresh_folder(folder: Path) -> dict[str, str]:
    """What a checkout has after `make kafka`, as far as the commands need it; returns their environment."""
    (folder / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "detector.yaml", folder / "deploy")
    program = folder / ".venv" / "bin" / "detector"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m detector "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (program.parent / "activate").write_text(f'PATH="{program.parent}:$PATH"\n', encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DETECTOR_")}
    return {**inherited, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}


def test_it_shows_an_alert(own_kafka: Any, tmp_path: Path) -> None:
    folder, screen = tmp_path / "detector", tmp_path / "screen"
    folder.mkdir()
    elsewhere = {"KAFKA__BOOTSTRAP_SERVERS": own_kafka.bootstrap_servers, "HTTP__HOST": "127.0.0.1", "HTTP__PORT": "0"}
    environment = {**fresh_folder(folder), **{f"DETECTOR_{name}": value for name, value in elsewhere.items()}}
    script = f"set -ex\n{commands()}\nwait $!\n"  # Ctrl-C reaches the service, too
    with screen.open("wb") as out:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # Ctrl-C is heard, whoever started the tests
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not re.search(r"^2026-01-02 \d\d:\d\d:\d\d  ALERT   plant1/pump\d\d  ", screen.read_text(), re.MULTILINE):
            assert shell.poll() is None, screen.read_text()
            assert time.monotonic() < deadline, screen.read_text()
            time.sleep(0.1)
        os.killpg(shell.pid, signal.SIGINT)
        assert shell.wait(60) == 0, screen.read_text()
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
    told = screen.read_text()
    assert re.search(r"^plant1\.alerts: \d+ opened, \d+ worse, \d+ closed; \d+ of them open at the end$", told, re.MULTILINE), told
    assert "The memory earns its place" in told
    assert '"level": "error"' not in told
