"""Training from a topic: the same readings give the same model as from a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from detector.adapters.bundle import load_bundle, read_bundle
from detector.cli import main

pytestmark = pytest.mark.broker
BRIEFLY = ["--epochs", "2", "--hidden", "8", "--window", "32"]


def test_a_topic_trains_the_same_model_as_its_recording(
    kafka: str, make_topic: Callable[..., str], plant_recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = make_topic("normal")
    settings = tmp_path / "detector.yaml"
    settings.write_text(json.dumps({"input": {"event_time": {"field": "event_time_us"}}, "kafka": {"bootstrap.servers": kafka}}))
    assert main(["simulate", "--from", str(plant_recording), "--topic", topic, "--speed", "full", "--config", str(settings)]) == 0
    from_file, from_topic = tmp_path / "file", tmp_path / "topic"
    assert main(["train", str(plant_recording), "--out", str(from_file), *BRIEFLY]) == 0
    channels = ",".join(load_bundle(from_file).channels)
    asked = ["train", "--topic", topic, "--config", str(settings), "--channels", channels, "--out", str(from_topic), *BRIEFLY]
    assert main([*asked, "--from", "2020-01-01", "--to", "2100-01-01"]) == 0
    assert load_bundle(from_topic).fingerprint == load_bundle(from_file).fingerprint
    assert "persistence" in read_bundle(from_topic).training["verdict"]
    capsys.readouterr()
    assert main([*asked, "--from", "2099-01-01"]) == 1
    assert "no readings" in capsys.readouterr().err
