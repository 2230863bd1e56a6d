"""Draw a dashboard's queries as panels in its grid, where Grafana is not at hand.

    python -m deploy.grafana.draw --prometheus http://localhost:9090 --minutes 60 --out pictures

Not Grafana's looks, but its queries: what is empty here is empty there.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deploy.grafana.asked import GRID_COLUMNS, Panel, Prometheus, legend, panels, variables
from deploy.grafana.build import DASHBOARDS, FOLDER

CELL_WIDTH, CELL_HEIGHT, DPI = 0.6, 0.42, 80
POINTS = 240
PAPER, INK, FAINT = "#181b1f", "#ccccdc", "#3a3d44"
COLORS = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2", "text": "#8e8e9e"}
CYCLE = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#37872d", "#8ab8ff", "#c4162a", "#ffee52"]
Lines = list[tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any]]]


def shown(value: float, unit: str) -> str:
    """A value with its unit, as short as Grafana writes it."""
    if not math.isfinite(value):
        return "-"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        for size, name in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "us")):
            if abs(value) >= size:
                return f"{value / size:.3g} {name}"
        return "0 s"
    base, suffix = (1_024, {"bytes": "B", "binBps": "B/s"}[unit]) if unit in ("bytes", "binBps") else (1_000, unit.partition(":")[2].strip())
    power = min(int(math.log(abs(value), base)), 4) if abs(value) >= base else 0
    return f"{value / base**power:.3g} {['', 'k', 'M', 'G', 'T'][power]}{suffix}".rstrip()


def answers(panel: Panel, source: Prometheus, from_s: float, to_s: float, step_s: float) -> Lines:
    """The panel's series: name, seconds, values; gaps where nothing came are NaN."""
    lines: Lines = []
    grid = from_s + step_s * np.arange(int((to_s - from_s) / step_s) + 1)
    for expr, text in panel.queries:
        for series in source.range(expr, from_s, to_s, step_s):
            values = np.full(len(grid), np.nan)
            at, value = np.array(series.points).T
            values[np.rint((at - from_s) / step_s).astype(int)] = value
            lines.append((legend(text, series.labels), grid, values))
    return lines


def _timeseries(ax: Axes, panel: Panel, lines: Lines) -> None:
    custom = panel.options["fieldConfig"]["defaults"].get("custom", {})
    unit = panel.options["fieldConfig"]["defaults"]["unit"]
    named = {name: values for name, _, values in lines}
    if {"low", "high"} <= named.keys():
        ax.fill_between(lines[0][1], named["low"], named["high"], color=CYCLE[1], alpha=0.25, lw=0)
        lines = [line for line in lines if line[0] not in ("low", "high")]
    if custom.get("stacking", {}).get("mode") == "normal" and lines:
        filled = [np.nan_to_num(values) for _, _, values in lines]
        step = lines[0][1][1] - lines[0][1][0]
        bottom = np.zeros_like(filled[0])
        for k, ((name, at, _), values) in enumerate(zip(lines, filled, strict=True)):
            color = CYCLE[k % len(CYCLE)]
            if custom.get("drawStyle") == "bars":
                ax.bar(at, values, step, bottom, color=color, label=name)
            else:
                ax.fill_between(at, bottom, bottom + values, color=color, alpha=0.6, lw=0, label=name)
            bottom = bottom + values
    else:
        for k, (name, at, values) in enumerate(lines):
            ax.plot(at, values, color=CYCLE[k % len(CYCLE)], lw=1, label=name)
    if all(np.nanmin(values, initial=0) >= 0 for _, _, values in lines) and unit != "short":
        ax.set_ylim(bottom=0)
    ax.yaxis.set_major_formatter(lambda value, _: shown(value, unit))
    if len(lines) > 6:
        lines = sorted(lines, key=lambda line: -float(np.nanmax(line[2], initial=-np.inf)))[:5]
        chosen = {name for name, *_ in lines}
        handles = [handle for handle in ax.get_legend_handles_labels()[0] if handle.get_label() in chosen]
        ax.legend(handles=handles, title="the largest five", title_fontsize=6, fontsize=6, frameon=False, labelcolor=INK)
    else:
        ax.legend(fontsize=6, frameon=False, ncols=min(len(lines), 3), loc="best", labelcolor=INK)


def _stat(ax: Axes, panel: Panel, lines: Lines) -> None:
    ax.set_axis_off()
    defaults = panel.options["fieldConfig"]["defaults"]
    with_names = panel.options["options"]["textMode"] == "value_and_name"
    for k, (name, at, values) in enumerate(lines):
        known = values[np.isfinite(values)]
        value = float(known[-1]) if len(known) else math.nan
        color = "text"
        for step in defaults["thresholds"]["steps"]:
            if step["value"] is None or value >= step["value"]:
                color = step["color"]
        if with_names:
            ax.text(0.02, 0.8 - 0.25 * k, f"{shown(value, defaults['unit'])}   {name}", color=INK, fontsize=8, transform=ax.transAxes)
        else:
            spark = ax.inset_axes((0, 0, 1, 0.35))
            spark.fill_between(at, values, np.nanmin(values, initial=0), color=COLORS[color], alpha=0.25, lw=0)
            spark.set_axis_off()
            text = shown(value, defaults["unit"])
            ax.text(0.5, 0.6, text, color=COLORS[color], fontsize=16 if len(text) < 9 else 10, ha="center", va="center", transform=ax.transAxes)


def _states(ax: Axes, panel: Panel, lines: Lines) -> None:
    meanings: Mapping[str, Any] = panel.options["fieldConfig"]["defaults"]["mappings"][0]["options"]
    for row, (_, at, values) in enumerate(lines):
        step = at[1] - at[0]
        for value, meaning in meanings.items():
            spans = [(float(second), step) for second, known in zip(at, values, strict=True) if known == float(value)]
            ax.broken_barh(spans, (row + 0.1, 0.8), color=COLORS[meaning["color"]], lw=0)
    ax.set_yticks([row + 0.5 for row in range(len(lines))], [name for name, *_ in lines])
    there = {str(int(value)) for _, _, values in lines for value in values[np.isfinite(values)]}
    for value in sorted(there & meanings.keys()):
        ax.plot([], [], lw=5, color=COLORS[meanings[value]["color"]], label=meanings[value]["text"])
    ax.legend(fontsize=6, frameon=False, ncols=6, loc="upper left", bbox_to_anchor=(0, -0.12), labelcolor=INK)


KINDS: Mapping[str, Callable[[Axes, Panel, Lines], None]] = {"timeseries": _timeseries, "stat": _stat, "state-timeline": _states}


def draw(dashboard: Mapping[str, Any], source: Prometheus, from_s: float, to_s: float, scrape_s: float, path: Path, **chosen: str) -> None:
    """Write the picture of a dashboard. chosen: values of its variables; what is not chosen takes the first, or all."""
    step_s = max(math.ceil((to_s - from_s) / POINTS), scrape_s)
    placed = list(panels(dashboard, variables(dashboard, source, **chosen), max(4 * scrape_s, step_s + scrape_s)))
    rows = max(panel.y + panel.height for panel in placed)
    with mpl.rc_context({"font.size": 7, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}):
        figure = Figure(figsize=(GRID_COLUMNS * CELL_WIDTH, rows * CELL_HEIGHT), dpi=DPI, facecolor="#111217")
        for panel in placed:
            left, bottom = panel.x / GRID_COLUMNS, 1 - (panel.y + panel.height) / rows
            if panel.kind == "row":
                figure.text(left + 0.004, bottom + 0.3 / rows, panel.title, fontsize=10, fontweight="bold")
                continue
            inside = (left + 0.05, bottom + 1.1 / rows, panel.width / GRID_COLUMNS - 0.06, (panel.height - 2.2) / rows)
            if panel.kind == "stat":
                inside = (left + 0.01, bottom + 0.2 / rows, panel.width / GRID_COLUMNS - 0.02, (panel.height - 1.3) / rows)
            paper = figure.add_axes((left + 0.002, bottom + 0.1 / rows, panel.width / GRID_COLUMNS - 0.004, (panel.height - 0.2) / rows))
            paper.set(facecolor=PAPER, xticks=[], yticks=[])
            ax = figure.add_axes(inside, facecolor=PAPER)
            for spine in (*paper.spines.values(), *ax.spines.values()):
                spine.set_color(FAINT)
            figure.text(left + 0.008, 1 - (panel.y + 0.75) / rows, panel.title, fontsize=8)
            ax.set_xlim(from_s, to_s)
            ax.xaxis.set_major_formatter(lambda second, _: f"{datetime.fromtimestamp(second, UTC):%H:%M:%S}")
            ax.locator_params(axis="x", nbins=max(3, panel.width // 2))
            ax.locator_params(axis="y", nbins=4)
            ax.grid(color=FAINT, lw=0.4)
            KINDS[panel.kind](ax, panel, answers(panel, source, from_s, to_s, step_s))
        figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the dashboards' queries.")
    parser.add_argument("--prometheus", default="http://localhost:9090", help="its address")
    parser.add_argument("--minutes", type=float, default=60, help="how far to look back")
    parser.add_argument("--scrape-s", type=float, default=15, help="its scrape interval, seconds")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the pictures")
    given = parser.parse_args()
    for name in DASHBOARDS:
        path = given.out / f"dashboard-{name}.png"
        dashboard = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
        draw(dashboard, Prometheus(given.prometheus), time.time() - 60 * given.minutes, time.time(), given.scrape_s, path)
        print(path)


if __name__ == "__main__":
    main()
