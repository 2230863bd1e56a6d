"""One detector on one series: fitted, played once in order, measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from detector.lab.evaluate.alarms import BUDGETS, Alarmed, Points, against_labels, episodes, points, tellings
from detector.lab.evaluate.detectors import Method, Scored, Together
from detector.lab.evaluate.methods import method_of
from detector.lab.evaluate.nab import Rated, probation, rate
from detector.lab.evaluate.series import F4, Series, calibration_start, runs
from detector.lab.evaluate.vus import vus_pr, window_of

STRANGE_QUANTILE = 0.99
"""The a-priori threshold of single readings: so many stay below it of the last quarter of the training part, judged by what was fitted
without that quarter. A detector finds what it was fitted to less strange than what comes after, the more so the less there was."""
NAB_BUDGETS = (2_000, 1_000, 4_000, 8_000, 16_000)
"""The first is what ships: one a week, of readings every five minutes. Among all of them the best in hindsight is chosen, as the board does."""
NAB_COLLECTION = "NAB"
WINDOWS = {"MGAB": 100}
"""Border widths of VUS-PR where a set's publishers say one."""


class Task(NamedTuple):
    """A detector by name, its seed, and a series by its place."""

    method: str
    seed: int
    series: int


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a task.

    vus_pr            0..1; NaN where nothing is labelled
    alarmed           at each of BUDGETS
    points            at the a-priori threshold
    normal            f4[n] scores of normal readings, and strange f4[m] of faulty ones: for rates at a false alarm rate
    rated, told       for the NAB score: by the score, and by what the shipped alarm says at each of NAB_BUDGETS; nothing on other sets
    fit_s, judge_s    CPU seconds
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
    rated: Rated | None
    told: tuple[Rated, ...]
    fit_s: float
    judge_s: float


def run(task: Task, series: Series, method: Method) -> Result:
    """Fit, play, measure."""
    torch.set_num_threads(1)
    begun = time.process_time()
    judge = method.fit(series.train, task.seed)
    fitted = time.process_time()
    scored = judge(series.whole)
    judged, cut = time.process_time(), calibration_start(len(series.train))
    unseen = method.fit(series.train[:cut], task.seed)(series.train).deciding[cut:]
    return _measured(task, series, scored, unseen, fitted - begun, judged - fitted)


def run_together(tasks: Sequence[Task], series: Sequence[Series], together: Together) -> Iterator[Result]:
    """As `run`, of a detector that judges these series of one width side by side."""
    torch.set_num_threads(1)
    begun = time.process_time()
    scored = together([each.whole for each in series], [len(each.train) for each in series])
    s_per_reading = (time.process_time() - begun) / sum(len(each.whole) for each in series)
    for task, each, found in zip(tasks, series, scored, strict=True):
        n = len(each.train)
        unseen = found.deciding[calibration_start(n) : n]
        yield _measured(task, each, found, unseen, 0.0, s_per_reading * len(each.whole))


def _measured(task: Task, series: Series, scored: Scored, unseen: F4, fit_s: float, judge_s: float) -> Result:
    """What scores of a whole series are worth on its test part. The last quarter of the training part calibrates.

    unseen  scores of that quarter by what was fitted without it
    """
    n = len(series.train)
    calibration, alone, score = scored.deciding[calibration_start(n) : n], scored.deciding[n:], scored.score[n:]
    threshold = float(np.quantile(unseen, STRANGE_QUANTILE))
    counted = np.ones(len(score), bool) if series.ignored is None else ~series.ignored
    rated, told = _rated(calibration, alone, series) if series.collection == NAB_COLLECTION else (None, ())
    return Result(
        task=task,
        title=series.title,
        collection=series.collection,
        readings=len(score),
        vus_pr=vus_pr(score[counted], series.label[counted], WINDOWS.get(series.collection) or window_of(series.test[:, 0])),
        alarmed=tuple(against_labels(episodes(calibration, alone, budget), series, budget) for budget in BUDGETS),
        points=points((alone > threshold)[counted], series.label[counted]),
        normal=alone[~series.label],
        strange=alone[series.label],
        rated=rated,
        told=told,
        fit_s=fit_s,
        judge_s=judge_s,
    )


def _rated(calibration: F4, score: F4, series: Series) -> tuple[Rated, tuple[Rated, ...]]:
    """NAB's view: of the whole series, probation included, which here is the training part."""
    start = len(series.train)
    assert start == probation(start + len(score))
    rated = rate(np.concatenate((np.zeros(start), score)), [(first + start, end + start) for first, end in runs(series.label)])
    told = [replace(rated, score=tellings(calibration, score, budget).astype(np.float64)) for budget in NAB_BUDGETS]
    return rated, tuple(told)


# -- many ---------------------------------------------------------------------------------------------------------------


def tasks_of(methods: Sequence[Method], series: Sequence[Series], seeds: int) -> list[Task]:
    """Every detector on every series that it can judge, with as many seeds as make a difference."""
    return [
        Task(method.name, seed, place)
        for method in methods
        for seed in range(1, (seeds if method.is_seeded else 1) + 1)
        for place, each in enumerate(series)
        if method.channels in (None, each.test.shape[1])
    ]


def run_all(
    tasks: Sequence[Task], series: Sequence[Series], bundles: Sequence[Method], jobs: int, on_result: Callable[[Result], None]
) -> list[Result]:
    """All tasks, in so many processes; results in the order of the tasks. bundles: detectors that have no name of the project's."""
    found: dict[Task, Result] = {}
    for result in _results(tasks, series, bundles, jobs):
        found[result.task] = result
        on_result(result)
    return [found[task] for task in tasks]


_series: Sequence[Series] = ()
_bundles: dict[str, Method] = {}


def _results(tasks: Sequence[Task], series: Sequence[Series], bundles: Sequence[Method], jobs: int) -> Iterator[Result]:
    if jobs <= 1:
        _take(series, bundles)
        for work in _works(tasks, series, bundles):
            yield from _run(work)
        return
    for library in ("OMP", "OPENBLAS", "MKL"):  # a process each is what the cores are for; they read it when they start
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    with ProcessPoolExecutor(jobs, get_context("spawn"), _take, (series, bundles)) as pool:
        for done in as_completed([pool.submit(_run, work) for work in _works(tasks, series, bundles)]):
            yield from done.result()


def _works(tasks: Sequence[Task], series: Sequence[Series], bundles: Sequence[Method]) -> list[list[Task]]:
    """What is done in one go, the most first: a task, or all of a detector that judges side by side, of series of one width."""
    side_by_side = {method.name for method in bundles if method.together is not None}
    works: dict[object, list[Task]] = {}
    for task in tasks:
        one = (task.method, series[task.series].test.shape[1]) if task.method in side_by_side else task
        works.setdefault(one, []).append(task)
    return sorted(works.values(), key=lambda work: -sum(series[task.series].test.size for task in work))


def _take(series: Sequence[Series], bundles: Sequence[Method]) -> None:
    """Each process is given these once, not once per task."""
    global _series, _bundles
    _series, _bundles = series, {method.name: method for method in bundles}


def _run(work: Sequence[Task]) -> list[Result]:
    method = _bundles.get(work[0].method) or method_of(work[0].method)
    theirs = [_series[task.series] for task in work]
    if method.together is not None:
        return list(run_together(work, theirs, method.together))
    return [run(task, each, method) for task, each in zip(work, theirs, strict=True)]


def mean_of(values: Iterable[float]) -> float:
    """The mean of those that are numbers; NaN where none is."""
    known: NDArray[np.float64] = np.array([value for value in values if not np.isnan(value)])
    return float(known.mean()) if len(known) else float("nan")
