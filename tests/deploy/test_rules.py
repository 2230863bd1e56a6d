"""The rules: what promtool says of them, and that whoever is paged finds what to do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from detector.adapters.prometheus.collectors import ServiceInfo
from detector.adapters.prometheus.metrics import Telemetry
from detector.core.readings import StreamNames
from detector.ports import AlertmanagerStats, WorkerStats
from tests.conftest import need_part

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = [rule for group in yaml.safe_load((FOLDER / "rules.yaml").read_text())["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
CASES = {case["name"]: case for case in yaml.safe_load((FOLDER / "rules.test.yaml").read_text())["tests"]}


def promtool(*options: str, folder: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(need_part("promtool")), *options], cwd=folder, capture_output=True, text=True, timeout=120, check=False)


def test_rules_are_rules() -> None:
    done = promtool("check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_of_metrics_follow_prometheus_conventions() -> None:
    info = ServiceInfo("1", "plant", "m", "f", ("a",), 6e11, 5, 10.0, watch=("pump",))
    text, _ = Telemetry(info, WorkerStats(), StreamNames(), alertmanagers=[AlertmanagerStats("http://a")]).metrics("text/plain")
    done = subprocess.run([str(need_part("promtool")), "check", "metrics"], input=text, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_scrape_configuration_is_one(tmp_path: Path) -> None:
    text = (FOLDER / "prometheus.yaml").read_text()
    config = yaml.safe_load(text)
    assert config["rule_files"] == ["/etc/prometheus/rules.yaml"]
    (tmp_path / "rules.yaml").write_text((FOLDER / "rules.yaml").read_text())
    (tmp_path / "prometheus.yaml").write_text(text.replace("/etc/prometheus/", ""))
    done = promtool("check", "config", "prometheus.yaml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"SUCCESS: {len(RULES)} rules found" in done.stdout
    (job,) = config["scrape_configs"]
    assert "detector" in job["job_name"]  # the rules know it by that


def test_each_alert_fires_where_it_should_and_nowhere_else() -> None:
    done = promtool("test", "rules", "rules.test.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_each_alert_has_a_case_where_it_fires_and_one_where_it_does_not(rule: dict[str, Any]) -> None:
    expr = f'ALERTS{{alertname="{rule["alert"]}", alertstate="firing"}}'
    expected = [bool(test["exp_samples"]) for test in CASES[rule["alert"]]["promql_expr_test"] if test["expr"] == expr]
    assert set(expected) == {True, False}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_each_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert annotations["summary"][-1] not in ".:"
    assert annotations["description"].endswith(".")
    page, anchor = annotations["runbook_url"].split("#")
    sections = re.findall(r"^## (\w+)$", (ROOT / page).read_text(), re.MULTILINE)
    assert anchor == rule["alert"].lower()
    assert anchor in {section.lower() for section in sections}


def test_each_runbook_is_whole_and_is_for_an_alert() -> None:
    text = (ROOT / "docs" / "runbooks.md").read_text()
    sections = dict(re.findall(r"^## (Detector\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    assert list(sections) == [rule["alert"] for rule in ALERTS]
    for name, section in sections.items():
        for part in ("**Means.**", "**Look.**", "**Do.**"):
            assert part in section, (name, part)


def test_names_of_recorded_series_say_what_they_are_of() -> None:
    for rule in RULES:
        if "record" in rule:
            assert re.fullmatch(r"namespace_job:detector_\w+:\w+", rule["record"])
