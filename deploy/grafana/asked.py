"""What a built dashboard asks of Prometheus: its panels with variables and intervals filled in, as Grafana does it."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

GRID_COLUMNS = 24
LABEL_VALUES = re.compile(r"^label_values\((?P<series>.+), (?P<label>\w+)\)$")
SELECTOR = re.compile(r"\b((?:detector|process|python|namespace_job:detector)_?[\w:]*|up)\b(?!\()(\{[^}]*\})?")


class QueryError(Exception):
    """Prometheus refuses a query; the message is its own."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series that a query answered with: labels, and values over time, seconds since the epoch."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """The HTTP API of a Prometheus, as far as dashboards need it."""

    url: str

    def _get(self, path: str, **parameters: str) -> Any:
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}", timeout=30) as answer:  # noqa: S310
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise QueryError(json.load(error)["error"]) from None

    def range(self, expr: str, from_s: float, to_s: float, step_s: float) -> list[Series]:
        """What an expression was over time."""
        found = self._get("query_range", query=expr, start=f"{from_s:.3f}", end=f"{to_s:.3f}", step=f"{step_s:g}")["result"]
        return [Series(each["metric"], tuple((float(at), float(value)) for at, value in each["values"])) for each in found]

    def now(self, expr: str) -> list[Series]:
        """What an expression is."""
        found = self._get("query", query=expr)["result"]
        return [Series(each["metric"], ((float(each["value"][0]), float(each["value"][1])),)) for each in found]

    def label_values(self, series: str, label: str) -> list[str]:
        """The values that a label has among some series."""
        return list(self._get(f"label/{label}/values", **{"match[]": series}))

    def rules(self) -> list[dict[str, Any]]:
        """The rules it has loaded, with their health."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel as it is shown. x, y, width, height on the grid; queries: expression and name of the series."""

    kind: str
    title: str
    x: int
    y: int
    width: int
    height: int
    queries: tuple[tuple[str, str], ...]
    options: Mapping[str, Any]


def variables(dashboard: Mapping[str, Any], source: Prometheus, **chosen: str) -> dict[str, list[str]]:
    """Values of the dashboard's variables: what is chosen, else all where that is allowed, else the first.

    raises LookupError  a variable has no value at all
    """
    values: dict[str, list[str]] = {}
    for variable in dashboard["templating"]["list"]:
        name = variable["name"]
        if variable["type"] == "datasource":
            continue
        parts = LABEL_VALUES.match(_filled(variable["query"], values))
        assert parts is not None, variable["query"]
        found = source.label_values(parts["series"], parts["label"])
        if not found:
            raise LookupError(f"variable {name} has no value: {variable['query']}")
        values[name] = [chosen[name]] if name in chosen else found if variable.get("includeAll") else found[:1]
    return values


def _filled(text: str, values: Mapping[str, list[str]]) -> str:
    for name, several in values.items():
        value = several[0] if len(several) == 1 else "|".join(map(re.escape, several)).replace("\\", "\\\\")
        text = re.sub(rf"\$\{{?{name}\b\}}?", lambda _, value=value: value, text)  # type: ignore[misc]
    return text


def panels(dashboard: Mapping[str, Any], values: Mapping[str, list[str]], rate_interval_s: float) -> Iterator[Panel]:
    """All panels and rows, repeated ones once per value, those below them moved down."""
    moved = 0
    for panel in dashboard["panels"]:
        grid, repeat = panel["gridPos"], panel.get("repeat")
        several = values[repeat] if repeat else [""]
        per_row = GRID_COLUMNS // grid["w"] if repeat else 1
        for place, value in enumerate(several):
            known = {**values, repeat: [value]} if repeat else values
            yield Panel(
                kind=panel["type"],
                title=_filled(panel["title"], known),
                x=grid["x"] + grid["w"] * (place % per_row),
                y=grid["y"] + moved + grid["h"] * (place // per_row),
                width=grid["w"],
                height=grid["h"],
                queries=tuple(
                    (_filled(target["expr"].replace("$__rate_interval", f"{rate_interval_s:g}s"), known), target["legendFormat"])
                    for target in panel.get("targets", ())
                ),
                options=panel,
            )
        moved += grid["h"] * ((len(several) - 1) // per_row)


def selectors(expr: str) -> set[str]:
    """The metrics that an expression names, with their labels' matchers."""
    return {name + (labels or "") for name, labels in SELECTOR.findall(re.sub(r"\b(?:by|on|without|group_left) ?\([^)]*\)", "", expr))}


def legend(text: str, labels: Mapping[str, str]) -> str:
    """The name of a series: `{{label}}` filled in."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), text)
