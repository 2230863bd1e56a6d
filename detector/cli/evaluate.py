"""`detector evaluate`: compares detectors on labelled recordings, with one configuration."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.cli.progress import progress_bar

if TYPE_CHECKING:
    from detector.lab.evaluate.bench import Result, Task
    from detector.lab.evaluate.detectors import SeriesDetector
    from detector.lab.evaluate.series import Series

DUTY, HOME = "DUTY", "HOME"
FILE_COLUMNS = 240


def evaluate(
    data: Annotated[
        Path | None,
        typer.Argument(help="Folder of labelled recordings, or of such folders (NAB, SKAB, SMD, TEP, ...).", show_default=False),
    ] = None,
    detectors: Annotated[str, typer.Option(help="Detectors to compare, comma-separated, or 'all'.")] = "distance,bands,linear,random",
    bundle: Annotated[
        list[str] | None, typer.Option(help="Also this bundle, on series with as many channels (a universal one: on all); may be repeated.")
    ] = None,
    sets: Annotated[
        str | None,
        typer.Option(
            help="Only these sets, comma-separated; made here are DUTY (faults of time), and only if named LONG (2.8 million readings) and HOME "
            "(machines without faults, and DATA's recordings: how calm alerts are)."
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of what is random; the others are run once.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    out: Annotated[Path | None, typer.Option(help="JSON file of all figures, series by series.")] = None,
    plot: Annotated[
        list[str] | None, typer.Option(help="Draw this series, as SMD/machine-1-6, by every detector; may be repeated.")
    ] = None,
    plots: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("plots"),
    against: Annotated[
        str | None, typer.Option(help="The detector whose VUS-PR the others' is compared with; the first if left out.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 1 where a file of DATA was left out.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print all figures, and what was read, as one JSON object.")] = False,
) -> None:
    """Compare detectors on labelled recordings: ranking (VUS-PR, NAB), the shipped alarm at three budgets, rates at a fixed threshold.

    Understood are NAB, SKAB, Tennessee Eastman (Braatz' files), and .npz files with train, test and label, or x and label. A detector
    learns from the training part and sees the test part once, in order. Without DATA only DUTY is run.

    Example: [bold]detector evaluate data/SMD --detectors pca,linear,random --seeds 3 --jobs 2 --out smd.json[/bold]

    Example: [bold]detector evaluate data/home --sets HOME[/bold]
    """
    from rich.console import Console

    from detector.adapters.bundle import read_bundle
    from detector.cli import evaluate_tables
    from detector.errors import ConfigError
    from detector.lab.evaluate.bench import DETECTORS, detector_named, tasks_of
    from detector.lab.evaluate.bundled import bundled
    from detector.lab.evaluate.summary import by_detector, details, difference, figures

    wanted = sets.split(",") if sets else None
    if wanted is not None and HOME in wanted:
        _home(data, (bundle or ["universal"])[0], out, as_json=as_json)
        wanted.remove(HOME)
        if not wanted:
            return
    bundles = [bundled(Path(name).name, read_bundle(name).model) for name in bundle or ()]
    chosen = [*(detector_named(name) for name in (DETECTORS if detectors == "all" else detectors.split(","))), *bundles]
    left: dict[str, str] = {}
    series = _series(data, wanted, left)
    for title in plot or ():
        _draw(title, series, chosen, plots)
    tasks = tasks_of(chosen, series, seeds)
    base = against or chosen[0].name
    able = {task.detector for task in tasks}
    for detector in chosen:
        if detector.name not in able:
            raise ConfigError(f"{detector.name} scores {detector.channels} channels, and no series has as many", fix="leave it out")
    if base not in able:
        raise ConfigError(f"{base!r} is not among the detectors to compare with", fix=f"choose from {', '.join(sorted(able))}")
    results = by_detector(_run(tasks, series, bundles, jobs))
    of_detector: dict[str, Any] = {name: figures(found) for name, found in results.items()}
    for name, found in results.items():
        if name != base:
            of_detector[name][f"vus_pr_minus_{base}"] = difference(found, results[base])._asdict()
    content = {"read": read_of(series, tasks, chosen), "left": left, "detectors": of_detector}
    if as_json:
        typer.echo(json.dumps(_plain(content)))
    else:
        console = Console()
        if not console.is_terminal:  # a file is as wide as the tables need
            console = Console(width=max(console.width, FILE_COLUMNS))
        console.print(evaluate_tables.ranking_table(of_detector, base), evaluate_tables.alarm_table(of_detector))
    if out is not None:
        whole = {**content, "results": [row for found in results.values() for row in details(found)]}
        out.write_text(json.dumps(_plain(whole), indent=1) + "\n", encoding="utf-8")
        typer.echo(f"all figures -> {out}", err=as_json)
    _end(content, is_strict=strict, to_error=as_json)


def _home(data: Path | None, bundle: str, out: Path | None, *, as_json: bool) -> None:
    """How calm alerts are on HOME."""
    from rich.console import Console

    from detector.cli import evaluate_home

    left: dict[str, str] = {}
    found = evaluate_home.calm_of_home(data, bundle, left)
    if as_json:
        typer.echo(json.dumps(_plain({"calm": found, "left": left})))
    else:
        console = Console()
        console = console if console.is_terminal else Console(width=FILE_COLUMNS)
        console.print(evaluate_home.table(found))
        for path, reason in left.items():
            typer.echo(f"left       {path}: {reason}")
    if out is not None:
        out.write_text(json.dumps(_plain({"calm": found, "left": left}), indent=1) + "\n", encoding="utf-8")


def read_of(series: Sequence[Series], tasks: Sequence[Task], detectors: Sequence[SeriesDetector]) -> dict[str, Any]:
    """What was read, set by set, and how many series each detector could score."""
    import numpy as np

    from detector.lab.evaluate.series import collections

    sets = {}
    for name in collections(series):
        own = [each for each in series if each.collection == name]
        missing = sum(int(np.isnan(each.whole).sum()) for each in own)
        sets[name] = {
            "series": len(own),
            "readings": sum(len(each.train) + len(each.test) for each in own),
            "channels": sorted({each.test.shape[1] for each in own}),
            "values_missing": missing,
        }
    scored = {detector.name: len({task.series for task in tasks if task.detector == detector.name}) for detector in detectors}
    return {"sets": sets, "series": len(series), "series_scored": scored}


def _end(content: dict[str, Any], *, is_strict: bool, to_error: bool) -> None:
    """Say what was read and what was left; raises Exit  something was, where that is forbidden."""
    read, left = content["read"], content["left"]
    for name, own in read["sets"].items():
        channels = ", ".join(map(str, own["channels"]))
        missing = f", {own['values_missing']:,} values missing" if own["values_missing"] else ""
        typer.echo(f"read       {name}: {own['series']:,} series, {own['readings']:,} readings, channels {channels}{missing}", err=to_error)
    for path, reason in left.items():
        typer.echo(f"left       {path}: {reason}", err=to_error)
    for name, scored in read["series_scored"].items():
        if scored < read["series"]:
            other = f"{read['series'] - scored:,} of {read['series']:,} series have another number of channels"
            typer.echo(f"left       by {name}: {other}", err=to_error)
    warning = f"; warning: {len(left):,} files were left out" if left else ""
    readings = sum(own["readings"] for own in read["sets"].values())
    typer.echo(f"{read['series']:,} series of {len(read['sets']):,} sets, {readings:,} readings{warning}", err=to_error)
    if left and is_strict:
        raise typer.Exit(1)


def _series(data: Path | None, sets: Sequence[str] | None, left: dict[str, str]) -> list[Series]:
    """The series to compare on. left: is told of files that are none, and why

    raises ConfigError, DataError  sets that are not there; nothing that can be read
    """
    from detector.errors import ConfigError
    from detector.lab.evaluate.duty import duty_series
    from detector.lab.evaluate.labelled_datasets import read_labelled
    from detector.lab.evaluate.long import COLLECTION as LONG
    from detector.lab.evaluate.long import long_series
    from detector.lab.evaluate.series import collections

    found = read_labelled(data, lambda path, reason: left.update({str(path): reason})) if data is not None else []
    if data is None or sets is None or DUTY in sets:
        found += duty_series(1)
    if sets is not None and LONG in sets:
        found += long_series(1)
    known = collections(found)
    if unknown := [name for name in sets or () if name not in known]:
        raise ConfigError(f"there is no set {', '.join(unknown)}", fix=f"choose from {', '.join(known)}")
    return [series for series in found if sets is None or series.collection in sets]


def _draw(title: str, series: Sequence[Series], detectors: Sequence[SeriesDetector], folder: Path) -> None:
    """raises ConfigError  no such series"""
    from detector.errors import ConfigError
    from detector.lab.evaluate.alarms import BUDGETS
    from detector.lab.evaluate.plot import series_png

    found = next((each for each in series if each.title == title), None)
    if found is None:
        raise ConfigError(f"there is no series {title!r}", fix=f"choose from {', '.join(each.title for each in series[:20])} ...")
    folder.mkdir(parents=True, exist_ok=True)
    for detector in (detector for detector in detectors if detector.channels in (None, found.test.shape[1])):
        path = folder / f"{title.replace('/', '-')}-{detector.name}.png"
        path.write_bytes(series_png(found, detector.fit(found.train, 1), detector.name, BUDGETS[1]))
        typer.echo(f"{title}, {detector.name} -> {path}")


def _run(tasks: Sequence[Task], series: Sequence[Series], bundles: Sequence[SeriesDetector], jobs: int) -> list[Result]:
    """Run all tasks; on a terminal with a progress bar."""
    from detector.lab.evaluate.bench import run_all

    with progress_bar() as progress:
        bar = progress.add_task("", total=len(tasks))
        return run_all(
            tasks,
            series,
            bundles,
            jobs,
            lambda result: progress.update(bar, advance=1, description=f"{result.task.detector} {result.title}"),
        )


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
