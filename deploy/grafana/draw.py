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
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from deploy.grafana.asked import GRID_COLUMNS, Panel, Prometheus, legend, panels, variables
from deploy.grafana.build import DASHBOARDS, FOLDER

CELL_WIDTH, CELL_HEIGHT, DPI = 0.6, 0.42, 80
POINTS = 240
NAMED_MAX = 6  # of more series only the largest are named
PAPER, INK, FAINT = "#181b1f", "#ccccdc", "#3a3d44"
COLORS = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "blue": "#5794f2", "text": "#8e8e9e", "purple": "#b877d9"}
CYCLE = ["#73bf69", "#f2cc0c", "#5794f2", "#ff6e30", "#f2495c", "#b877d9", "#37872d", "#8ab8ff", "#c4162a", "#ffee52"]
Lines = list[tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any]]]


SCALES = {
    "s": ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"), (1e-3, "ms")),
    "bytes": ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B")),
    "binBps": ((2**20, "MiB/s"), (2**10, "KiB/s"), (1, "B/s")),
    "percentunit": ((0.01, "%"),),
}


def scale(value: float, unit: str) -> tuple[float, str]:
    """What a value of this size is told in."""
    known = SCALES.get(unit)
    name = unit.partition(":")[2].strip()
    steps = known or ((1e9, f"G {name}"), (1e6, f"M {name}"), (1e3, f"k {name}"), (1, name))
    return next((step for step in steps if abs(value) >= step[0]), steps[-1])


def shown(value: float, unit: str) -> str:
    """A value with its unit."""
    size, name = scale(value, unit)
    return f"{value / size:.3g} {name}".rstrip() if math.isfinite(value) else "-"


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


def _largest(line: tuple[str, Any, Any]) -> float:
    return -float(np.nanmax(line[2], initial=-np.inf))


def _colors(panel: Panel, lines: Lines) -> dict[str, str]:
    """Per series: the colour that the dashboard says, else the next."""
    said = {
        override["matcher"]["options"]: COLORS[each["value"]["fixedColor"]]
        for override in panel.options["fieldConfig"]["overrides"]
        for each in override["properties"]
        if each["id"] == "color"
    }
    return {name: said.get(name, CYCLE[place % len(CYCLE)]) for place, (name, *_) in enumerate(lines)}


def _timeseries(ax: Axes, panel: Panel, lines: Lines) -> str:
    custom = panel.options["fieldConfig"]["defaults"].get("custom", {})
    several = len(lines) > NAMED_MAX
    lines = sorted(lines, key=_largest) if several else lines
    colors, named = _colors(panel, lines), {name: values for name, _, values in lines}
    if {"low", "high"} <= named.keys():
        ax.fill_between(lines[0][1], named["low"], named["high"], color=colors["high"], alpha=0.25, lw=0)
        lines = [line for line in lines if line[0] not in ("low", "high")]
    bottom = np.zeros(len(lines[0][1]) if lines else 0)
    for name, at, values in lines:
        if custom.get("stacking", {}).get("mode") != "normal":
            ax.plot(at, values, color=colors[name], lw=1, label=name)
            continue
        top = bottom + np.nan_to_num(values)
        if custom.get("drawStyle") == "bars":
            ax.bar(at, top - bottom, at[1] - at[0], bottom, color=colors[name], label=name)
        else:
            ax.fill_between(at, bottom, top, color=colors[name], alpha=0.6, lw=0, label=name)
        bottom = top
    if all(np.nanmin(values, initial=0) >= 0 for _, _, values in lines) and not panel.options.get("repeat"):
        top = ax.get_ylim()[1] if any(np.nanmax(values, initial=0) > 0 for _, _, values in lines) else 1
        ax.set_ylim(-0.02 * top, top)
    handles = ax.get_legend_handles_labels()[0][: 5 if several else None]
    ncols = 1 if several else max(1, min(len(lines), panel.width // 3))
    ax.legend(handles=handles, title="the largest five" if several else None, title_fontsize=6, fontsize=6, framealpha=0.6, facecolor=PAPER,
              edgecolor="none", ncols=ncols, loc="best", labelcolor=INK)  # fmt: skip
    return _ticks(ax, panel.options["fieldConfig"]["defaults"]["unit"])


def _ticks(ax: Axes, unit: str) -> str:
    """Round numbers beside the panel, in the unit that is returned."""
    low, high = ax.get_ylim()
    size, name = scale(max(abs(low), abs(high)), unit)
    ax.set_yticks([tick * size for tick in MaxNLocator(4).tick_values(low / size, high / size) if low <= tick * size <= high])
    ax.yaxis.set_major_formatter(lambda value, _: f"{value / size:g}")
    return name


def _stat(ax: Axes, panel: Panel, lines: Lines) -> str:
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
            ax.text(
                0.5, 0.6, text, color=COLORS[color], fontsize=16 if len(text) < 9 else 10, ha="center", va="center", transform=ax.transAxes
            )
    return ""


def _states(ax: Axes, panel: Panel, lines: Lines) -> str:
    meanings: Mapping[str, Any] = panel.options["fieldConfig"]["defaults"]["mappings"][0]["options"]
    for row, (_, at, values) in enumerate(lines):
        step = at[1] - at[0]
        for value, meaning in meanings.items():
            spans = [(float(second), step) for second, known in zip(at, values, strict=True) if known == float(value)]
            ax.broken_barh(spans, (row + 0.1, 0.8), color=COLORS[meaning["color"]], lw=0)
        ax.text(
            0.01,
            row + 0.5,
            lines[row][0],
            color=INK,
            fontsize=7,
            va="center",
            bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 1},
            transform=ax.get_yaxis_transform(),
        )
    ax.grid(visible=False)
    ax.set_yticks([])
    there = {str(int(value)) for _, _, values in lines for value in values[np.isfinite(values)]}
    for value in sorted(there & meanings.keys()):
        ax.plot([], [], lw=5, color=COLORS[meanings[value]["color"]], label=meanings[value]["text"])
    ax.legend(fontsize=6, frameon=False, ncols=6, loc="lower right", bbox_to_anchor=(1, 1), labelcolor=INK)
    return ""


KINDS: Mapping[str, Callable[[Axes, Panel, Lines], str]] = {"timeseries": _timeseries, "stat": _stat, "state-timeline": _states}


def draw(dashboard: Mapping[str, Any], source: Prometheus, from_s: float, to_s: float, scrape_s: float, path: Path, **chosen: str) -> None:
    """Write the picture of a dashboard. chosen: values of its variables; what is not chosen takes the first, or all."""
    step_s = max(math.ceil((to_s - from_s) / POINTS), scrape_s)
    placed = list(panels(dashboard, variables(dashboard, source, **chosen), max(4 * scrape_s, step_s + scrape_s)))
    rows = max(panel.y + panel.height for panel in placed)
    with mpl.rc_context({"font.size": 7, "text.color": INK, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK}):
        figure = Figure(figsize=(GRID_COLUMNS * CELL_WIDTH, rows * CELL_HEIGHT), dpi=DPI, facecolor="#111217")
        for panel in placed:
            if panel.kind == "row":
                figure.text(0.004, 1 - (panel.y + 0.7) / rows, panel.title, fontsize=10, fontweight="bold")
                continue
            ax = _paper(figure, panel, rows)
            ax.set_xlim(from_s, to_s)
            unit = KINDS[panel.kind](ax, panel, answers(panel, source, from_s, to_s, step_s))
            title = f"{panel.title}, {unit}" if unit else panel.title
            figure.text(panel.x / GRID_COLUMNS + 0.008, 1 - (panel.y + 0.75) / rows, title, fontsize=8)
        drawn = BytesIO()
        figure.savefig(drawn)
    Image.open(drawn).convert("RGB").quantize(256, kmeans=2).save(path, optimize=True)


def _paper(figure: Figure, panel: Panel, rows: int) -> Axes:
    """The panel's place, with axes inside."""
    left, bottom, width = panel.x / GRID_COLUMNS, 1 - (panel.y + panel.height) / rows, panel.width / GRID_COLUMNS
    paper = figure.add_axes((left + 0.002, bottom + 0.1 / rows, width - 0.004, (panel.height - 0.2) / rows))
    paper.set(facecolor=PAPER, xticks=[], yticks=[])
    if panel.kind == "stat":
        inside = (left + 0.01, bottom + 0.2 / rows, width - 0.02, (panel.height - 1.3) / rows)
    else:
        inside = (left + 0.035, bottom + 1.1 / rows, width - 0.045, (panel.height - 2.2) / rows)
    ax = figure.add_axes(inside, facecolor=PAPER)
    for spine in (*paper.spines.values(), *ax.spines.values()):
        spine.set_color(FAINT)
    ax.xaxis.set_major_formatter(lambda second, _: f"{datetime.fromtimestamp(second, UTC):%H:%M:%S}")
    ax.locator_params(axis="x", nbins=max(3, panel.width // 2))
    ax.grid(color=FAINT, lw=0.4)
    return ax


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
