"""The demo as people start it, and whether the bundle that ships keeps what the demo promises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from detector import Detector, Settings, load_bundle
from detector.cli import main
from detector.cli.demo_service import Service
from detector.cli.demo_stage import Stage
from detector.codec.messages import Messages
from detector.codec.readings import JsonReadings
from detector.core.readings import Partition
from detector.lab.match import Opening
from detector.lab.simulate import SIMULATED_FORMAT

HALF_DAY_US = 43_200e6
BRIEF = ["demo", "--seconds", "8", "--hours", "12", "--faults", "10", "--seed", "3"]


@pytest.mark.parametrize("seed", [1, 2])
def test_faults_are_found_and_false_alerts_are_rare(seed: int) -> None:
    """What the demo plays at full length, without Kafka: the summary is made from the alerts alone."""
    stage = Stage(seed, machines=24, hours=24, faults_wanted=40, without_end=False)
    detector = Detector(load_bundle("plant"), Settings(budget_period_us=HALF_DAY_US))
    decoder = JsonReadings(SIMULATED_FORMAT, detector.names)
    openings, offset = [], 0
    for batch in stage.batches():
        carried = list(stage.carried(batch, 0, len(batch.keys)))
        n = len(carried)
        messages = Messages(
            [key for key, _ in carried],
            [value for _, value in carried],
            np.zeros(n, np.int32),
            np.arange(offset, offset + n),
            np.full(n, -1, np.int64),
            (Partition("readings", 0),),
        )
        offset += n
        alerts = detector.detect(decoder.decode(messages).batch).alerts
        openings += [Opening(alert.stream, alert.opened_at_us, alert.kind) for alert in alerts if alert.status == "opened"]
    summary = stage.summary(openings)
    assert summary.faults_injected == 40
    assert summary.faults_found >= 36, summary.missed
    assert 50 * summary.false_alerts <= summary.stream_hours, summary.false


def brief_demo(options: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main([*BRIEF, "--json", str(folder / "summary.json"), *options]) == 0
    said = json.loads((folder / "summary.json").read_text())
    assert said["faults_injected"] == 10
    assert said["faults_found"] >= 8
    assert said["stream_hours"] == pytest.approx(24 * 12, abs=0.1)
    assert 50 * said["false_alerts"] <= said["stream_hours"]
    assert said["delay_to_alert_s_median"] > 0
    assert said["readings_per_s"] > 1_000
    assert said["dispositions"]["late"] > 0
    assert said["dispositions"]["invalid"] > 0
    return capsys.readouterr().out


def test_the_demo_needs_no_kafka(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    screen = brief_demo([], tmp_path, capsys)
    assert "mock cluster" in screen
    assert "/metrics" in screen
    assert "ALERT" in screen


@pytest.mark.broker
def test_the_demo_runs_on_a_real_kafka(kafka: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "your Kafka" in brief_demo(["--bootstrap-servers", kafka], tmp_path, capsys)


def test_a_service_that_cannot_start_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--model", "nowhere"]) == 1
    assert "no model bundle 'nowhere'" in capsys.readouterr().err


@pytest.mark.parametrize("judged", [0, 1_900])
def test_a_service_that_did_not_judge_everything_is_no_result(
    judged: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A first start compiles; on a machine that is too busy for that the table would read as if little had been found."""
    monkeypatch.setattr(Service, "wait_until_judged", lambda self, messages, timeout_s: judged)
    monkeypatch.setattr("detector.cli.demo._play", lambda stage, *others: setattr(stage, "sent", 2_000))
    assert main(BRIEF) == 1
    told = capsys.readouterr()
    assert f"the service judged {judged:,} of 2,000 readings" in told.err
    assert "what the alerts were worth" not in told.out
