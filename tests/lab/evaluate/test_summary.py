from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.adapters.bundle import load_bundle
from detector.cli import main
from detector.lab.evaluate.alarms import BUDGETS
from detector.lab.evaluate.bench import DETECTORS, Result, Task, run, run_all, tasks_of
from detector.lab.evaluate.bundled import bundled
from detector.lab.evaluate.detectors import Scored, Scorer, SeriesDetector
from detector.lab.evaluate.duty import duty_series
from detector.lab.evaluate.series import Series
from detector.lab.evaluate.summary import by_detector, difference, figures


def spikes(name: str, collection: str = "A", readings: int = 1_200, height: float = 8.0) -> Series:
    generator = np.random.default_rng(len(name) + readings)
    values = generator.standard_normal((readings + 600, 2)).astype(np.float32)
    label = np.zeros(readings, bool)
    label[600:640] = True
    values[600:][label] += height
    return Series(collection, name, values[:600], values[600:], label)


def run_one(place: int, series: Series) -> Result:
    return run(Task("distance", 1, place), series, DETECTORS["distance"])


def results_of(detector: str, vus: dict[tuple[str, str, int], float]) -> list[Result]:
    """Results that differ from a true one in nothing but VUS-PR."""
    true = run_one(0, spikes("a"))
    made = []
    for (collection, name, seed), value in vus.items():
        fields = {field: getattr(true, field) for field in Result.__dataclass_fields__}
        fields |= {"task": Task(detector, seed, 0), "title": f"{collection}/{name}", "collection": collection, "vus_pr": value}
        made.append(Result(**fields))
    return made


def test_a_level_fault_is_ranked_and_found() -> None:
    result = run_one(0, spikes("a"))
    assert result.vus_pr > 0.9
    assert [each.found for each in result.alarmed] == [1] * len(BUDGETS)
    assert result.points.missed_alarm_rate < 0.05
    assert result.points.false_alarm_rate < 0.05
    figure = figures([result])
    assert figure["alarm"]["1000"]["event_recall"] == 1.0
    assert figure["vus_pr"] == {"A": result.vus_pr}
    assert np.isnan(figure["detection_rate"])


def test_the_threshold_of_single_readings_knows_that_what_was_fitted_to_seems_calm() -> None:
    """A detector that is blind to all that it was fitted to, as whitening many bands by few readings nearly is."""

    def fit(train: NDArray[np.float32], seed: int) -> Scorer:
        known = len(train)
        return lambda values: Scored(np.where(np.arange(len(values)) < known, np.float32(0), np.abs(values[:, 0])))

    result = run(Task("blind", 1, 0), spikes("a"), SeriesDetector("blind", "", fit))
    assert result.points.false_alarm_rate < 0.05
    assert result.points.missed_alarm_rate < 0.05


def test_nab_and_tennessee_are_rated_by_their_own_rules() -> None:
    nab = spikes("n", "NAB", readings=3_400)
    probation = 600
    assert len(nab.train) == probation
    figure = figures([run_one(0, nab)])
    assert 50 < figure["nab"]["standard"]["optimised"] <= 100
    assert 50 < figure["nab"]["standard"]["shipped_alarm"] <= figure["nab"]["standard"]["best_budget"] <= 100
    tennessee = [run_one(place, spikes(name, "TEP")) for place, name in enumerate(("d01", "d03"))]
    assert figures(tennessee)["detection_rate"] > 0.9
    assert np.isnan(figures(tennessee[1:])["detection_rate"])  # d03 is left out


def test_means_are_over_seeds_then_series_then_sets() -> None:
    vus = {("A", "a", 1): 0.2, ("A", "a", 2): 0.4, ("A", "b", 1): 0.5, ("A", "b", 2): 0.5, ("B", "c", 1): 1.0, ("B", "c", 2): float("nan")}
    figure = figures(results_of("m", vus))
    assert figure["vus_pr"] == pytest.approx({"A": 0.4, "B": 1.0})
    assert figure["vus_pr_macro"] == pytest.approx(0.7)


def test_a_difference_is_paired() -> None:
    generator = np.random.default_rng(0)
    base = {("A", str(k), 1): float(generator.random()) for k in range(30)}
    better = {key: value + 0.1 + 0.02 * float(generator.standard_normal()) for key, value in base.items()}
    found = difference(results_of("x", better), results_of("y", base))
    assert 0.08 < found.low < found.mean < found.high < 0.12  # though the series themselves spread over 0 to 1
    nothing = difference(results_of("x", base), results_of("y", base))
    assert nothing == (0.0, 0.0, 0.0)


def test_processes_give_what_one_gives(small_bundle: Path) -> None:
    model = load_bundle(str(small_bundle))
    series, mine = [spikes("a"), machines("b", len(model.channels))], bundled("mine", model)
    tasks = tasks_of([DETECTORS["distance"], DETECTORS["bands"], mine], series, 3)
    alike = [Task(detector, 1, place) for detector in ("distance", "bands") for place in range(2)]
    assert tasks == [*alike, Task("mine", 1, 1)]
    seen: list[Result] = []
    one, two = (run_all(tasks, series, [mine], jobs, seen.append) for jobs in (1, 2))
    assert [each.task for each in one] == [each.task for each in two] == tasks
    assert [each.vus_pr for each in one] == [each.vus_pr for each in two]
    assert len(seen) == 2 * len(tasks)
    assert list(by_detector(two)) == ["distance", "bands", "mine"]


def test_a_bundle_scores_as_the_service_would(small_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = load_bundle(str(small_bundle))
    series, detector = machines("b", len(model.channels)), bundled("mine", model)
    judged, part = (detector.fit(series.train, 1)(values) for values in (series.test, series.test[:700]))
    assert np.array_equal(judged.score[:700], part.score)
    assert np.isfinite(judged.score).all()
    np.savez(tmp_path / "a.npz", train=series.train, test=series.test, label=series.label)
    assert main(["evaluate", str(tmp_path), "--detectors", "distance", "--bundle", str(small_bundle), "--sets", tmp_path.name]) == 0
    assert "small" in capsys.readouterr().out
    assert main(["evaluate", "--detectors", "distance", "--bundle", str(small_bundle)]) == 2
    assert "small scores 4 channels, and no series has as many" in capsys.readouterr().err


def machines(name: str, channels: int) -> Series:
    wide = spikes(name)
    return Series("A", name, np.tile(wide.train[:, :1], channels), np.tile(wide.test[:, :1], channels), wide.label)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    series = spikes("a")
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data" / "a.npz", train=series.train, test=series.test, label=series.label)
    out = tmp_path / "figures.json"
    assert main(["evaluate", str(tmp_path / "data"), "--detectors", "distance,bands", "--sets", "data", "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "VUS-PR" in shown
    assert "minus distance" in shown
    written = json.loads(out.read_text())
    assert written["detectors"]["bands"]["vus_pr"]["data"] > 0.5
    assert {row["detector"] for row in written["results"]} == {"distance", "bands"}
    drawn = tmp_path / "plots"
    options = ["--detectors", "linear", "--sets", "data", "--plot", "data/a", "--plots", str(drawn)]
    assert main(["evaluate", str(tmp_path / "data"), *options]) == 0
    assert (drawn / "data-a-linear.png").read_bytes().startswith(b"\x89PNG")
    assert main(["evaluate", str(tmp_path / "data"), "--sets", "data", "--plot", "data/b"]) == 2
    assert "there is no series 'data/b'" in capsys.readouterr().err
    assert main(["evaluate", "--detectors", "magic"]) == 2
    assert "there is no detector 'magic'" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "data"), "--sets", "data", "--against", "pca"]) == 2
    assert "'pca' is not among the detectors" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "data"), "--sets", "SMD"]) == 2
    assert "choose from data" in capsys.readouterr().err


def test_every_detector_has_a_name_of_its_own_and_says_what_it_does() -> None:
    assert all(name == detector.name and detector.about for name, detector in DETECTORS.items())
    assert len(DETECTORS) == 24
    assert {each.name.partition("-")[0] for each in duty_series(1, per_kind=1)} >= {"swapped", "stuck", "lag"}
