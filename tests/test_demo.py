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
SEEDS = (1, 2, 3, 4)
BRIEF = ["demo", "--seconds", "8", "--hours", "12", "--faults", "10", "--seed", "3"]


def test_faults_are_found_and_false_alerts_are_rare() -> None:
    """What the demo plays at full length, without Kafka: the summary is made from the alerts alone. Each seed's plant is a partition of
    one detector: side by side four of them take hardly longer than one."""
    stages = [Stage(seed, machines=24, hours=24, faults_wanted=40, without_end=False) for seed in SEEDS]
    detector = Detector(load_bundle("plant"), Settings(budget_period_us=HALF_DAY_US))
    decoder = JsonReadings(SIMULATED_FORMAT, detector.names)
    partitions = tuple(Partition("readings", place) for place in range(len(stages)))
    openings: list[list[Opening]] = [[] for _ in stages]
    offset = 0
    for batches in zip(*(stage.batches() for stage in stages), strict=True):
        carried = [
            (key, value, place)
            for place, (stage, batch) in enumerate(zip(stages, batches, strict=True))
            for key, value in stage.carried(batch, 0, len(batch.keys))
        ]
        keys, values, places = zip(*carried, strict=True)
        offsets = np.arange(offset, offset + len(carried))
        offset += len(carried)
        messages = Messages(list(keys), list(values), np.array(places, np.int32), offsets, np.full(len(carried), -1, np.int64), partitions)
        for alert in detector.detect(decoder.decode(messages).batch).alerts:
            if alert.status == "opened":
                openings[alert.partition.number].append(Opening(alert.stream, alert.opened_at_us, alert.kind))
    for seed, stage, opened in zip(SEEDS, stages, openings, strict=True):
        summary = stage.summary(opened)
        assert summary.faults_injected == 40
        assert summary.faults_found >= 36, (seed, summary.missed)
        assert 50 * summary.false_alerts <= summary.stream_hours, (seed, summary.false)


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
