"""The built dashboards are those of the code, and whole: titles, units, descriptions, places, variables, links."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest

from deploy.grafana.asked import GRID_COLUMNS, legend, panels, selectors
from deploy.grafana.build import DASHBOARDS, FOLDER, text
from tests.adapters.prometheus.test_metrics import DOC

BUILT = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in DASHBOARDS}
RATE = re.compile(r"\b(?:rate|increase)\([^\[]+\[(?P<window>[^\]]+)\]")


def shown(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_what_is_committed_is_what_the_code_builds(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == text(name), "run `make dashboards` and commit what it writes"


def test_nothing_else_is_committed() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(DASHBOARDS)


@pytest.mark.parametrize("dashboard", BUILT.values(), ids=BUILT)
def test_every_panel_says_what_it_shows(dashboard: dict[str, Any]) -> None:
    for panel in shown(dashboard):
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert panel["targets"]
        for target in panel["targets"]:
            assert target["legendFormat"]
            assert target["datasource"]["uid"] == "${datasource}"
    titles = [panel["title"] for panel in shown(dashboard)]
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(titles)


@pytest.mark.parametrize("dashboard", BUILT.values(), ids=BUILT)
def test_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    several = {variable["name"]: ["a", "b", "c"] for variable in dashboard["templating"]["list"]}
    placed = list(panels(dashboard, several, 60))
    assert len(placed) >= len(dashboard["panels"])
    for one, other in itertools.combinations(placed, 2):
        apart_x = one.x + one.width <= other.x or other.x + other.width <= one.x
        apart_y = one.y + one.height <= other.y or other.y + other.height <= one.y
        assert apart_x or apart_y, (one.title, other.title)
    assert all(panel.x + panel.width <= GRID_COLUMNS for panel in placed)


@pytest.mark.parametrize("dashboard", BUILT.values(), ids=BUILT)
def test_queries_follow_the_variables_and_the_zoom(dashboard: dict[str, Any]) -> None:
    for target in (target for panel in shown(dashboard) for target in panel["targets"]):
        for selector in selectors(target["expr"]):
            assert 'job="$job", instance=~"$instance"' in selector, target["expr"]
        for found in RATE.finditer(target["expr"]):
            assert found["window"] in ("$__rate_interval", "1d"), target["expr"]
        assert not re.search(r"_total\b(?!.*\[)", target["expr"]) or "unaccounted" in target["expr"]
    names = [variable["name"] for variable in dashboard["templating"]["list"]]
    assert names[:3] == ["datasource", "job", "instance"]


def test_dashboards_link_to_each_other() -> None:
    assert len({dashboard["uid"] for dashboard in BUILT.values()}) == len(BUILT)
    for dashboard in BUILT.values():
        (link,) = dashboard["links"]
        assert link["type"] == "dashboards"
        assert link["includeVars"]
        assert link["keepTime"]
        assert set(link["tags"]) <= set(dashboard["tags"])


def test_every_metric_on_a_dashboard_is_documented() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", DOC.read_text(), re.MULTILINE))
    for dashboard in BUILT.values():
        for target in (target for panel in shown(dashboard) for target in panel["targets"]):
            names = {re.split(r"\{", selector)[0] for selector in selectors(target["expr"])}
            assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in names} <= documented


def test_what_an_expression_names() -> None:
    expr = 'sum by (job, up) (rate(detector_x_total{job="a"}[5m])) / on (job) max(up == 1) - namespace_job:detector_y:sum'
    assert selectors(expr) == {'detector_x_total{job="a"}', "up", "namespace_job:detector_y:sum"}
    assert legend("{{a}}: {{b}}", {"a": "1"}) == "1: "
