"""The tables of `detector evaluate`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def ranking_table(of_detector: dict[str, Any], base: str) -> Table:
    """How well the scores rank, and what they cost."""
    from rich.table import Table

    table = Table(title="Ranking: VUS-PR by set; NAB at the best threshold in hindsight")
    sets = list(next(iter(of_detector.values()))["vus_pr"])
    profiles = list(next(iter(of_detector.values()))["nab"])
    for column in ("", *sets, "mean", f"minus {base}", *(f"NAB {name}" for name in profiles), "fit s", "us/reading"):
        table.add_column(column, justify="right" if column else "left")
    for name, figure in of_detector.items():
        gap = figure.get(f"vus_pr_minus_{base}")
        table.add_row(
            name,
            *(_three(figure["vus_pr"][each]) for each in sets),
            _three(figure["vus_pr_macro"]) + (f" ±{figure['vus_pr_macro_sd_over_seeds']:.3f}" if figure["seeds"] > 1 else ""),
            f"{gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]" if gap else "",
            *(f"{figure['nab'][each]['optimised']:.1f}" for each in profiles),
            f"{figure['fit_s']:.1f}",
            f"{figure['score_us_per_reading']:.1f}",
        )
    return table


def alarm_table(of_detector: dict[str, Any]) -> Table:
    """What the shipped alarm makes of the scores, and rates at a fixed threshold."""
    from rich.table import Table

    table = Table(
        title="Shipped alarm: false alerts over budget, event recall (mean over sets), F1 of overlap; NAB (best budget); rates of single readings"
    )
    first = next(iter(of_detector.values()))
    table.add_column("")
    for budget in first["alarm"]:
        table.add_column(f"1 per {int(budget):,}", justify="right")
    extra = [name for name in ("SKAB",) if name in first["points"]]
    columns = [*(f"NAB {name}" for name in first["nab"]), *(f"{name} F1/FAR/MAR" for name in extra)]
    if not math.isnan(first["detection_rate"]):
        columns.append("TEP at FAR 1 %")
    for column in columns:
        table.add_column(column, justify="right")
    for name, figure in of_detector.items():
        cells = [
            f"{each['false_over_budget']:.2f}  {each['event_recall']:.2f} ({each['event_recall_mean_over_sets']:.2f})  {each['overlap_f1']:.2f}"
            for each in figure["alarm"].values()
        ]
        cells += [f"{each['shipped_alarm']:.1f} ({each['best_budget']:.1f})" for each in figure["nab"].values()]
        for collection in extra:
            rates = figure["points"][collection]
            cells.append(f"{rates['f1']:.3f}/{rates['false_alarm_rate']:.3f}/{rates['missed_alarm_rate']:.3f}")
        if not math.isnan(figure["detection_rate"]):
            cells.append(_three(figure["detection_rate"]))
        table.add_row(name, *cells)
    return table


def _three(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}".replace("0.", ".", 1) if 0 <= value < 1 else f"{value:.3f}"
