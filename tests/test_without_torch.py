"""Everything but training by gradient works where torch is not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

HIDDEN = "import sys\nsys.modules['torch'] = None\n"
"""Run when Python starts, also by processes that a command starts: nothing finds torch then."""
PROGRAM = """
import sys
assert sys.modules["torch"] is None
from detector.cli import main
for command in {commands!r}:
    code = main(command)
    if code:
        sys.exit(code)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(HIDDEN)
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))}


def run(environment: dict[str, str], *commands: list[str]) -> subprocess.CompletedProcess[str]:
    """One command after the other, until one fails."""
    program = PROGRAM.format(commands=commands)
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, timeout=280)


def test_training_quickly_replaying_explaining_and_comparing(environment: dict[str, str], plant_recording: Path, tmp_path: Path) -> None:
    recording, mine, verdicts, gates = (
        str(plant_recording),
        *(str(tmp_path / name) for name in ("mine", "verdicts.parquet", "gates.parquet")),
    )
    value = np.random.default_rng(0).standard_normal((900, 4), np.float32)
    np.savez(tmp_path / "a.npz", train=value[:300], test=value[300:], label=np.arange(600) % 100 < 5)
    done = run(
        environment,
        ["train", recording, "--quick", "--hidden", "16", "--out", mine, "--no-picture"],
        ["replay", recording, "--model", mine, "--out", verdicts],
        ["replay", recording, "--model", "universal", "--out", verdicts],
        ["explain", recording, "--model", mine, "--out", gates],
        ["evaluate", str(tmp_path), "--sets", tmp_path.name, "--detectors", "linear,random", "--bundle", mine, "--bundle", "universal"],
    )
    assert done.returncode == 0, done.stderr
    assert "smaller than persistence's" in done.stdout.replace("\n", " ")
    assert "universal" in done.stdout
    assert Path(verdicts).exists()
    assert Path(gates).exists()


def test_the_service_on_a_broker_of_its_own(environment: dict[str, str], tmp_path: Path) -> None:
    """The demo runs the real service, `detector run`."""
    summary = tmp_path / "summary.json"
    done = run(environment, ["demo", "--machines", "4", "--seconds", "5", "--hours", "12", "--faults", "2", "--json", str(summary)])
    assert done.returncode == 0, done.stderr
    assert json.loads(summary.read_text())["faults_injected"] == 2


@pytest.mark.parametrize(
    "command", [["train", "absent.csv"], ["evaluate", "--sets", "DUTY", "--detectors", "trained"]], ids=lambda each: each[0]
)
def test_what_needs_it_says_what_to_install(environment: dict[str, str], command: list[str]) -> None:
    done = run(environment, command)
    assert done.returncode == 2
    assert "training by gradient needs torch" in done.stderr
    assert "pip install 'detector[train]'" in done.stderr
