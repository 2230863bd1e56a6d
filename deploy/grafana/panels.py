"""What the dashboards share: data source, variables, links, and the kinds of panels.

A panel cannot be made without a title, a description and a unit. `{@}` in an expression stands for the workers that are chosen above the
dashboard: `detector_readings_total{@, disposition="late"}`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from grafana_foundation_sdk.builders import common as options
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common, dashboard, units
from grafana_foundation_sdk.models.common import StackingMode

Kind = TypeVar("Kind", timeseries.Panel, stat.Panel, statetimeline.Panel)
Row: TypeAlias = tuple[str, Sequence[Builder[dashboard.Panel]]]
"""A title, and the panels below it."""

SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
WORKERS = 'job="$job", instance=~"$instance"'
TAG = "detector"
NUMBER, RATIO, SECONDS, BYTES, BYTES_PER_S, CORES = (
    units.Short, units.PercentUnit, units.Seconds, units.BytesIEC, units.BytesPerSecondIEC, "suffix: cores",
)  # fmt: skip
READINGS_PER_S, MESSAGES_PER_S, PER_S = "si: readings/s", "si: messages/s", "si: /s"
GREEN, YELLOW, RED, BLUE, GREY, PURPLE, ORANGE = "green", "orange", "red", "blue", "text", "purple", "dark-yellow"


def fixed(color: str) -> list[dashboard.DynamicConfigValue]:
    """A series always in one colour."""
    return [dashboard.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})]


def band(color: str, below_to: str = "") -> list[dashboard.DynamicConfigValue]:
    """A series without a line, shown as the upper end of an area down to another."""
    hidden = dashboard.DynamicConfigValue("custom.hideFrom", {"legend": True, "tooltip": False, "viz": False})
    filling = {"custom.fillOpacity": 15, "custom.fillBelowTo": below_to} if below_to else {"custom.fillOpacity": 0}
    look = {"custom.lineWidth": 0, **filling}
    return [*fixed(color), hidden, *(dashboard.DynamicConfigValue(name, value) for name, value in look.items())]


class Query(NamedTuple):
    """One expression, and how its series are called."""

    expr: str
    legend: str = ""


class Step(NamedTuple):
    """From this value on, this colour."""

    value: float
    color: str


def series(
    title: str, description: str, unit: str, *queries: Query, width: int = 8, height: int = 8, warn: float | None = None, is_stacked: bool = False,
    is_bars: bool = False, legend: Sequence[str] = (),
) -> timeseries.Panel:  # fmt: skip
    """Lines over time. warn: a dashed line there; legend: calculations shown in a table beside the lines, the first one orders them."""
    panel = timeseries.Panel().line_width(1).fill_opacity(10 if not is_stacked else 40).show_points(common.VisibilityMode.NEVER)
    panel.tooltip(options.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    names = (
        options.VizLegendOptions().show_legend(True).display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)
    )
    if legend:
        names.display_mode(common.LegendDisplayMode.TABLE).placement(common.LegendPlacement.RIGHT).calcs(list(legend))
        names.sort_by(legend[0].capitalize()).sort_desc(True)
    panel.legend(names)
    if is_stacked:
        panel.stacking(options.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    if is_bars:
        panel.draw_style(common.GraphDrawStyle.BARS).fill_opacity(80)
    if warn is not None:
        panel.thresholds_style(options.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED))
    steps = (Step(warn, RED),) if warn is not None else ()
    return _filled(panel, title, description, unit, queries, width, height, Step(0, GREEN), *steps)


def number(title: str, description: str, unit: str, query: Query, *steps: Step, width: int = 3, height: int = 4) -> stat.Panel:
    """One number, coloured by `steps`, the first of which begins below everything."""
    panel = stat.Panel().graph_mode(common.BigValueGraphMode.AREA).color_mode(common.BigValueColorMode.VALUE)
    panel.reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
    return _filled(panel, title, description, unit, [query], width, height, *(steps or (Step(0, BLUE),)))


def names(title: str, description: str, query: Query, *, width: int, height: int = 4) -> stat.Panel:
    """The names of the series, each with how many there are."""
    panel = stat.Panel().graph_mode(common.BigValueGraphMode.NONE).color_mode(common.BigValueColorMode.NONE)
    panel.text_mode(common.BigValueTextMode.VALUE_AND_NAME).reduce_options(options.ReduceDataOptions().calcs(["lastNotNull"]))
    return _filled(panel, title, description, NUMBER, [query], width, height, Step(0, BLUE))


def states(
    title: str, description: str, query: Query, meanings: Sequence[tuple[str, str]], *, width: int = 24, height: int = 5
) -> statetimeline.Panel:
    """What something is over time. meanings: text and colour of 0, 1, ..."""
    mapping = {
        str(value): dashboard.ValueMappingResult(text=text, color=color, index=value) for value, (text, color) in enumerate(meanings)
    }
    panel = statetimeline.Panel().show_value(common.VisibilityMode.AUTO).mappings([dashboard.ValueMap(options=mapping)])
    panel.legend(options.VizLegendOptions().show_legend(False).display_mode(common.LegendDisplayMode.LIST).calcs([]))
    return _filled(panel, title, description, NUMBER, [query], width, height, Step(0, GREEN))


def _filled(panel: Kind, title: str, description: str, unit: str, queries: Sequence[Query], width: int, height: int, *steps: Step) -> Kind:
    """What all kinds of panels have."""
    panel.title(title).description(description).unit(unit).datasource(SOURCE).span(width).height(height)
    levels = [dashboard.Threshold(value=step.value if place else None, color=step.color) for place, step in enumerate(steps)]
    panel.thresholds(build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(levels))
    for letter, query in zip("ABCDEFGH", queries, strict=False):
        target = prometheus.Dataquery().expr(query.expr.replace("@", WORKERS)).legend_format(query.legend or title).ref_id(letter)
        panel.with_target(target.range().datasource(SOURCE))
    return panel


def _of_labels(name: str, label: str, query: str, description: str) -> build.QueryVariable:
    return (
        build.QueryVariable(name)
        .label(label)
        .description(description)
        .query(query)
        .datasource(SOURCE)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
    )


def chosen(name: str, label: str, query: str, description: str) -> build.QueryVariable:
    """A variable of which one value is chosen."""
    return _of_labels(name, label, query, description)


def some(name: str, label: str, query: str, description: str) -> build.QueryVariable:
    """A variable of which some values are chosen; all at first."""
    everything = dashboard.VariableOption(text="All", value="$__all", selected=True)
    return _of_labels(name, label, query, description).multi(True).include_all(True).all_value(".*").current(everything)


def board(name: str, description: str, rows: Sequence[Row], *variables: build.QueryVariable) -> dashboard.Dashboard:
    """A dashboard of rows, each with a title; named as its file is."""
    made = build.Dashboard(f"Detector / {name.capitalize()}").uid(f"detector-{name}").description(description).tags([TAG])
    made.timezone("browser").refresh("30s").time("now-6h", "now").tooltip(dashboard.DashboardCursorSync.CROSSHAIR).editable()
    links = build.DashboardLink("Detector").type(dashboard.DashboardLinkType.DASHBOARDS).tags([TAG]).icon("external link")
    made.link(links.include_vars(True).keep_time(True).tooltip("The other dashboards, with the same time and workers"))
    made.with_variable(build.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    made.with_variable(chosen("job", "Job", "label_values(detector_build_info, job)", "The deployment, by its name in Prometheus"))
    workers = 'label_values(detector_build_info{job="$job"}, instance)'
    made.with_variable(some("instance", "Worker", workers, "Workers of the job"))
    for variable in variables:
        made.with_variable(variable)
    for title, panels in rows:
        made.with_row(build.Row(title))
        for panel in panels:
            made.with_panel(panel)
    whole = made.build()
    for place, placed in enumerate(whole.panels or [], 1):
        placed.id_val = place
    return whole
