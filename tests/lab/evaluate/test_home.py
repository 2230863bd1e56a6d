"""The set HOME: what it is made of, and how calm the shipped detector is on it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.adapters.bundle import load_bundle
from detector.cli import main
from detector.core.rules import Settings
from detector.lab.evaluate.home import CHANNELS, PLANTS, START_S, Plant, calm_of, simulated

BY_NAME = {plant.name: plant for plant in PLANTS}


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.name)
def test_a_plant_is_in_order_and_the_same_for_a_seed(plant: Plant) -> None:
    short = replace(plant, days=9, machines=2)
    one, again, other = simulated(short, 1), simulated(short, 1), simulated(short, 2)
    assert len(one.stream) == 2 * 9 * 86_400 // short.interval_s
    assert (np.diff(one.event_time_us) >= 0).all()
    assert one.event_time_us[0] == START_S * 1_000_000
    assert one.value.shape == (len(one.stream), len(CHANNELS))
    assert np.isfinite(one.value).all()
    assert np.array_equal(one.value, again.value)
    assert not np.array_equal(one.value, other.value)
    assert not np.array_equal(one.value[one.stream == 0], one.value[one.stream == 1])


def test_weekends_are_weekends() -> None:
    week = simulated(replace(BY_NAME["working week, 5 min"], days=7, machines=1), 1)
    by_day = week.value[:, 0].reshape(7, 288)[:, 150]  # half past twelve
    assert (by_day[:5] > 25).all()
    assert (by_day[5:] < 25).all()


@pytest.mark.parametrize(
    ("name", "inside_max", "longest_days_max"),
    [("daily rhythm, 5 min", 0.01, 1), ("working week, 5 min", 0.03, 1), ("on and off, 1 min", 0.03, 1), ("daily rhythm, 1 h", 0.05, 1)],
)
def test_what_is_normal_at_home_is_mostly_calm(name: str, inside_max: float, longest_days_max: float) -> None:
    calm = calm_of(simulated(BY_NAME[name], 8), load_bundle("universal", CHANNELS), Settings())
    assert calm.inside_share < inside_max
    assert calm.longest_s <= longest_days_max * 86_400


def test_evaluate_says_how_calm_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("detector.lab.evaluate.home.PLANTS", (replace(BY_NAME["counter, 5 min"], days=3, machines=1),))
    rows = [f"2026-03-{2 + k // 288:02d}T{k // 12 % 24:02d}:{k % 12 * 5:02d}:00,{20 + k % 7}" for k in range(600)]
    (tmp_path / "mine.csv").write_text("time,a\n" + "\n".join(rows) + "\n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("nothing to read\n", encoding="utf-8")
    assert main(["evaluate", str(tmp_path), "--sets", "HOME", "--json", "--out", str(tmp_path / "out.json")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert list(said["calm"]) == ["counter, 5 min", "mine.csv"]
    assert said["calm"]["mine.csv"]["readings"] == 600
    assert [Path(path).name for path in said["left"]] == ["notes.txt"]
    assert json.loads((tmp_path / "out.json").read_text(encoding="utf-8")) == said
    assert main(["evaluate", str(tmp_path), "--sets", "HOME"]) == 0
    assert "mine.csv" in capsys.readouterr().out
