"""Dashboards and rules against what a real Prometheus scrapes from the real service on a real Kafka."""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from deploy.grafana.asked import Panel, Prometheus, QueryError, panels, selectors, variables
from detector.adapters.kafka.topic_io import TopicWriter
from detector.adapters.kafka.topics import Topic, create_topics
from detector.cli import main
from tests.broker.service import Service
from tests.conftest import need_part
from tests.deploy.prometheus import SCRAPE_S, prometheus

pytestmark = pytest.mark.broker

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "rules.yaml"
DASHBOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))}
ALL_RULES = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
STEP_S = 2
RATE_S = max(4 * SCRAPE_S, STEP_S + SCRAPE_S)
PLAYED_S = 10
STREAMS_MORE = 10_000
SERIES_MAX = 300
MARGIN_S = 2.5 * SCRAPE_S


@dataclass(frozen=True)
class Watch:
    """A service that runs, and the Prometheus that has watched it from `from_s` to `to_s`."""

    service: Service
    source: Prometheus
    topic: str
    servers: str
    from_s: float
    to_s: float

    def is_empty(self, expr: str) -> bool:
        """Whether nothing, or nothing but NaN, came of it in all the time."""
        found = self.source.range(expr, self.from_s, self.to_s, STEP_S)
        return not any(math.isfinite(value) for series in found for _, value in series.points)

    def missing(self, expr: str) -> set[str]:
        """What an expression names and nobody has."""
        return {selector for selector in selectors(expr) if not self.source.now(f"count_over_time({selector}[10m])")}


@pytest.fixture(scope="module")
def watch(kafka: str, small_bundle: Path, plant_recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """A quarter of a day of a plant with faults is played within seconds, with damaged messages among its readings."""
    program, folder = need_part("prometheus"), tmp_path_factory.mktemp("watch")
    topic, group = f"sensors-{uuid.uuid4().hex[:8]}", f"plant-{uuid.uuid4().hex[:8]}"
    streams = sorted(set(pq.read_table(plant_recording, columns=["stream"])["stream"].to_pylist()))
    config = {
        "group": group,
        "model": str(small_bundle),
        "input": {"topics": [topic], "event_time": {"field": "event_time_us"}},
        "kafka": {"bootstrap.servers": kafka},
        "alerts": {"budget": "20 per stream per day"},
        "state": {"flush_interval_s": 1},
        "metrics": {"watch": streams[:2]},
    }
    (folder / "detector.yaml").write_text(json.dumps(config), encoding="utf-8")
    options = ["--config", str(folder / "detector.yaml")]
    create_topics({"bootstrap.servers": kafka}, [Topic(topic, 2, {})])
    assert main(["topics", "create", *options]) == 0
    service = Service(options, folder)
    try:
        with prometheus(program, folder / "prometheus", [service.port], RULES) as source:
            from_s = time.time()
            for part in range(3):
                with TopicWriter({"bootstrap.servers": kafka}, topic) as writer:
                    writer.write(b"plant1/pump01", b"not JSON")
                if part == 1:
                    speed = str(6 * 3_600 / PLAYED_S)
                    assert main(["simulate", "--from", str(plant_recording), "--topic", topic, "--speed", speed, *options]) == 0
            readings = pq.read_metadata(plant_recording).num_rows
            service.wait_for(lambda: service.metrics()["detector_messages_polled_total"] == readings + 3)
            time.sleep(MARGIN_S)
            yield Watch(service, source, topic, kafka, from_s, time.time())
    finally:
        service.process.kill()
        service.process.wait()


def shown(watch: Watch, name: str) -> list[Panel]:
    return list(panels(DASHBOARDS[name], variables(DASHBOARDS[name], watch.source), RATE_S))


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_panel_is_empty(watch: Watch, name: str) -> None:
    empty = {panel.title: expr for panel in shown(watch, name) for expr, _ in panel.queries if watch.is_empty(expr)}
    assert not empty


@pytest.mark.parametrize("name", DASHBOARDS)
def test_every_metric_that_a_panel_names_has_data(watch: Watch, name: str) -> None:
    exprs = [expr for panel in shown(watch, name) for expr, _ in panel.queries]
    assert all(selectors(expr) for expr in exprs)
    assert not {missing for expr in exprs for missing in watch.missing(expr)}


def test_a_channel_repeats_its_panel(watch: Watch) -> None:
    titles = [panel.title for panel in shown(watch, "streams")]
    assert {"temperature", "pressure", "vibration", "current"} < set(titles)
    places = [(panel.x, panel.y) for panel in shown(watch, "streams")]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_every_metric_that_a_rule_names_has_data(watch: Watch, rule: dict[str, Any]) -> None:
    assert selectors(rule["expr"])
    assert not watch.missing(rule["expr"])
    watch.source.now(rule["expr"])
    if "record" in rule:
        assert watch.source.now(f"count_over_time({rule['record']}[10m])")


def test_prometheus_evaluates_every_rule(watch: Watch) -> None:
    rules = watch.source.rules()
    assert len(rules) == len(ALL_RULES)
    assert {(rule["name"], rule["health"], rule.get("lastError", "")) for rule in rules if rule["health"] != "ok"} == set()


def test_a_metric_that_does_not_exist_is_found_out(watch: Watch) -> None:
    wrong = json.loads(json.dumps(DASHBOARDS["overview"]).replace("detector_consumer_lag_messages", "detector_lag_massages"))
    found = list(panels(wrong, variables(wrong, watch.source), RATE_S))
    assert {panel.title for panel in found for expr, _ in panel.queries if watch.is_empty(expr)} == {"Lag"}
    assert {missing.split("{")[0] for panel in found for expr, _ in panel.queries for missing in watch.missing(expr)} == {
        "detector_lag_massages"
    }
    assert watch.missing('sum(rate(detector_readings_total{disposition="scord"}[5m])) > 0') == {
        'detector_readings_total{disposition="scord"}'
    }
    with pytest.raises(QueryError, match="parse error"):
        watch.is_empty("sum(rate(detector_readings_total)")
    with pytest.raises(LookupError, match="variable job has no value"):
        variables(json.loads(json.dumps(wrong).replace("detector_build_info", "detector_info")), watch.source)


def test_series_do_not_grow_with_streams(watch: Watch) -> None:
    def latest(expr: str) -> float:
        return watch.source.now(expr)[0].points[0][1]

    series = 'max_over_time(scrape_samples_scraped{job="detector"}[10m])'  # a scrape that timed out has none
    before = latest(series)
    assert before < SERIES_MAX
    now_us = int(time.time() * 1e6)
    with TopicWriter({"bootstrap.servers": watch.servers}, watch.topic) as writer:
        for reading in range(2):
            for number in range(STREAMS_MORE):
                value = {"event_time_us": now_us + reading * 1_000_000, "temperature": 50.0, "pressure": 4.0}
                writer.write(f"plant2/sensor{number}".encode(), json.dumps(value).encode())
    watch.service.wait_for(
        lambda: latest("last_over_time(detector_streams[10m])") >= STREAMS_MORE
    )  # the old ones are forgotten: these come from later
    assert latest(series) == before
