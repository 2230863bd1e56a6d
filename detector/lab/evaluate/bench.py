"""Detectors by name, and what they do on series: each is fitted, plays a series once in order, and is measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.errors import ConfigError
from detector.lab.evaluate.ablations import ABLATIONS
from detector.lab.evaluate.alarms import BUDGETS, Alarmed, Points, against_labels, episodes, points, published
from detector.lab.evaluate.baselines import BASELINES
from detector.lab.evaluate.detectors import Scored, SeriesDetector
from detector.lab.evaluate.forecasts import FORECASTS
from detector.lab.evaluate.nab import Rated, probation, rate
from detector.lab.evaluate.series import F4, Series, calibration_start, runs
from detector.lab.evaluate.vus import vus_pr, window_of

DETECTORS: dict[str, SeriesDetector] = {detector.name: detector for detector in (*BASELINES, *FORECASTS, *ABLATIONS)}
STRANGE_QUANTILE = 0.99
"""The a-priori threshold of single readings: so many stay below it of the last quarter of the training part, scored by what was fitted
without that quarter. A detector finds what it was fitted to less strange than what comes after, the more so the less there was."""
NAB_BUDGETS = (2_000, 1_000, 4_000, 8_000, 16_000)
"""The first is what ships: one a week, of readings every five minutes. Among all of them the best in hindsight is chosen, as the board does."""
NAB_COLLECTION = "NAB"
WINDOWS = {"MGAB": 100}
"""Border widths of VUS-PR where a set's publishers say one."""


class Task(NamedTuple):
    """A detector by name, its seed, and a series by its place."""

    detector: str
    seed: int
    series: int


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a task.

    vus_pr            0..1; NaN where nothing is labelled
    alarmed           at each of BUDGETS
    points            at the a-priori threshold
    normal            f4[n] scores of normal readings, and strange f4[m] of faulty ones: for rates at a false alarm rate
    rated_by_score    for the NAB score, by the score itself; None on other sets
    rated_by_alarm    likewise, by what the shipped alarm publishes at each of NAB_BUDGETS; empty on other sets
    fit_s, score_s    CPU seconds
    """

    task: Task
    title: str
    collection: str
    readings: int
    vus_pr: float
    alarmed: tuple[Alarmed, ...]
    points: Points
    normal: F4
    strange: F4
    rated_by_score: Rated | None
    rated_by_alarm: tuple[Rated, ...]
    fit_s: float
    score_s: float


def run(task: Task, series: Series, detector: SeriesDetector) -> Result:
    """Fit, play, measure."""
    begun = time.process_time()
    scorer = detector.fit(series.train, task.seed)
    fitted = time.process_time()
    scored = scorer(series.whole)
    done, cut = time.process_time(), calibration_start(len(series.train))
    unseen = detector.fit(series.train[:cut], task.seed)(series.train).deciding[cut:]
    return _measured(task, series, scored, unseen, fitted - begun, done - fitted)


def _measured(task: Task, series: Series, scored: Scored, unseen: F4, fit_s: float, score_s: float) -> Result:
    """What scores of a whole series are worth on its test part. The last quarter of the training part calibrates.

    unseen  scores of that quarter by what was fitted without it
    """
    n = len(series.train)
    calibration, deciding, score = scored.deciding[calibration_start(n) : n], scored.deciding[n:], scored.score[n:]
    threshold = float(np.quantile(unseen, STRANGE_QUANTILE))
    counted = np.ones(len(score), bool) if series.ignored is None else ~series.ignored
    by_score, by_alarm = _rated(calibration, deciding, series) if series.collection == NAB_COLLECTION else (None, ())
    return Result(
        task=task,
        title=series.title,
        collection=series.collection,
        readings=len(score),
        vus_pr=vus_pr(score[counted], series.label[counted], WINDOWS.get(series.collection) or window_of(series.test[:, 0])),
        alarmed=tuple(against_labels(episodes(calibration, deciding, budget), series, budget) for budget in BUDGETS),
        points=points((deciding > threshold)[counted], series.label[counted]),
        normal=deciding[~series.label],
        strange=deciding[series.label],
        rated_by_score=by_score,
        rated_by_alarm=by_alarm,
        fit_s=fit_s,
        score_s=score_s,
    )


def _rated(calibration: F4, score: F4, series: Series) -> tuple[Rated, tuple[Rated, ...]]:
    """NAB's view: of the whole series, probation included, which here is the training part."""
    start = len(series.train)
    assert start == probation(start + len(score))
    rated = rate(np.concatenate((np.zeros(start), score)), [(first + start, end + start) for first, end in runs(series.label)])
    by_alarm = [replace(rated, score=published(calibration, score, budget).astype(np.float64)) for budget in NAB_BUDGETS]
    return rated, tuple(by_alarm)


# -- many ---------------------------------------------------------------------------------------------------------------


def detector_named(name: str) -> SeriesDetector:
    """The detector of this name.

    raises ConfigError  there is none
    """
    if name not in DETECTORS:
        raise ConfigError(f"there is no detector {name!r}", fix=f"choose from {', '.join(DETECTORS)}")
    return DETECTORS[name]


def tasks_of(detectors: Sequence[SeriesDetector], series: Sequence[Series], seeds: int) -> list[Task]:
    """Every detector on every series that it can score, with as many seeds as make a difference."""
    return [
        Task(detector.name, seed, place)
        for detector in detectors
        for seed in range(1, (seeds if detector.is_seeded else 1) + 1)
        for place, each in enumerate(series)
        if detector.channels in (None, each.test.shape[1])
    ]


def run_all(
    tasks: Sequence[Task], series: Sequence[Series], bundles: Sequence[SeriesDetector], jobs: int, on_result: Callable[[Result], None]
) -> list[Result]:
    """All tasks, in so many processes; results in the order of the tasks. bundles: detectors that have no name of the project's."""
    found: dict[Task, Result] = {}
    for result in _results(tasks, series, bundles, jobs):
        found[result.task] = result
        on_result(result)
    return [found[task] for task in tasks]


_series: Sequence[Series] = ()
_bundles: dict[str, SeriesDetector] = {}


def _results(tasks: Sequence[Task], series: Sequence[Series], bundles: Sequence[SeriesDetector], jobs: int) -> Iterator[Result]:
    for library in ("OMP", "OPENBLAS", "MKL"):  # a process each is what the cores are for; libraries read it when they are loaded
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    if jobs <= 1:
        _take(series, bundles)
        yield from map(_run, tasks)
        return
    most_first = sorted(tasks, key=lambda task: -series[task.series].test.size)
    with ProcessPoolExecutor(jobs, get_context("spawn"), _take, (series, bundles)) as pool:
        for done in as_completed([pool.submit(_run, task) for task in most_first]):
            yield done.result()


def _take(series: Sequence[Series], bundles: Sequence[SeriesDetector]) -> None:
    """Each process is given these once, not once per task."""
    global _series, _bundles
    _series, _bundles = series, {detector.name: detector for detector in bundles}


def _run(task: Task) -> Result:
    return run(task, _series[task.series], _bundles.get(task.detector) or detector_named(task.detector))


def mean_of(values: Iterable[float]) -> float:
    """The mean of those that are numbers; NaN where none is."""
    known: NDArray[np.float64] = np.array([value for value in values if not np.isnan(value)])
    return float(known.mean()) if len(known) else float("nan")
