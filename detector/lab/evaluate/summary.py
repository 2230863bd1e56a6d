"""From results to what people compare: figures per detector and set, and intervals of differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.lab.evaluate.alarms import BUDGETS, total
from detector.lab.evaluate.bench import NAB_BUDGETS, NAB_COLLECTION, Result, mean_of
from detector.lab.evaluate.nab import PROFILES, nab_score
from detector.lab.evaluate.series import collections

RATE_COLLECTION, RATE_WITHOUT, FALSE_ALARM_RATE = "TEP", ("d03", "d09", "d15"), 0.01
"""Tennessee Eastman: detection at a false alarm rate of 1 %, without the faults that nobody finds."""
DRAWS = 2_000
INTERVAL = (2.5, 97.5)


class Difference(NamedTuple):
    """Mean over collections of the paired difference of two detectors, and its bootstrap interval (95 %)."""

    mean: float
    low: float
    high: float


def by_detector(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Results of each detector, in the order in which they come."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(result.task.detector, []).append(result)
    return found


def _of(results: Sequence[Result], collection: str) -> list[Result]:
    return [result for result in results if result.collection == collection]


def vus_of(results: Sequence[Result]) -> dict[str, float]:
    """VUS-PR per collection: the mean over series and seeds."""
    return {name: mean_of(each.vus_pr for each in _of(results, name)) for name in collections(results)}


def spread_of(results: Sequence[Result]) -> float:
    """Standard deviation over seeds of the mean VUS-PR over collections; 0 with one seed."""
    seeds = sorted({each.task.seed for each in results})
    means = [mean_of(vus_of([each for each in results if each.task.seed == seed]).values()) for seed in seeds]
    return float(np.std(means, ddof=1)) if len(means) > 1 else 0.0


def figures(results: Sequence[Result]) -> dict[str, Any]:
    """All figures of one detector; those of seeds together, scores averaged."""
    readings = sum(each.readings for each in results)
    vus = vus_of(results)
    return {
        "series": len({each.title for each in results}),
        "seeds": len({each.task.seed for each in results}),
        "readings": readings,
        "vus_pr": vus,
        "vus_pr_macro": mean_of(vus.values()),
        "vus_pr_macro_sd_over_seeds": spread_of(results),
        "alarm": {str(budget): _alarm(results, place) for place, budget in enumerate(BUDGETS)},
        "points": {name: _points(_of(results, name)) for name in vus},
        "nab": _nab(_of(results, NAB_COLLECTION)),
        "detection_rate": _detection_rate(_of(results, RATE_COLLECTION)),
        "fit_s": sum(each.fit_s for each in results),
        "score_us_per_reading": 1e6 * sum(each.score_s for each in results) / max(readings, 1),
    }


def _alarm(results: Sequence[Result], place: int) -> dict[str, float]:
    """The shipped alarm at one budget: pooled over series, recall also as the mean over sets."""
    alarmed = [each.alarmed[place] for each in results]
    delays = [delay for each in alarmed for delay in each.delays]
    events, found = sum(each.events for each in alarmed), sum(each.found for each in alarmed)
    overlapped, hits, misses = (sum(getattr(each, name) for each in alarmed) for name in ("overlapped", "hits", "misses"))
    recall_of_sets = [
        _share(sum(each.alarmed[place].found for each in of_set), sum(each.alarmed[place].events for each in of_set))
        for of_set in (_of(results, name) for name in collections(results))
    ]
    recall, precision = _share(overlapped, events), _share(hits, hits + misses)
    return {
        "false": sum(each.false for each in alarmed),
        "budgeted": sum(each.budgeted for each in alarmed),
        "false_over_budget": _share(sum(each.false for each in alarmed), sum(each.budgeted for each in alarmed)),
        "event_recall": _share(found, events),
        "event_recall_mean_over_sets": mean_of(recall_of_sets),
        "overlap_f1": 2 * precision * recall / (precision + recall) if precision and recall and precision + recall > 0 else 0.0,
        "delay_readings_median": float(np.median(delays)) if delays else float("nan"),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def _points(results: Sequence[Result]) -> dict[str, float]:
    counted = total([each.points for each in results])
    return {"f1": counted.f1, "false_alarm_rate": counted.false_alarm_rate, "missed_alarm_rate": counted.missed_alarm_rate}


def _nab(results: Sequence[Result]) -> dict[str, dict[str, float]]:
    """Per profile, means over seeds: with the best threshold in hindsight, by what the shipped alarm publishes at the budget that ships,
    and at the best one in hindsight."""
    seeds = sorted({each.task.seed for each in results})
    of_seeds = [[each for each in results if each.task.seed == seed] for seed in seeds]
    found = {}
    for profile in PROFILES if seeds else ():
        by_alarm = [
            mean_of(nab_score([each.rated_by_alarm[place] for each in of_seed], profile, 0.5)[0] for of_seed in of_seeds)
            for place in range(len(NAB_BUDGETS))
        ]
        optimised = (nab_score([each.rated_by_score for each in of_seed if each.rated_by_score], profile)[0] for of_seed in of_seeds)
        found[profile.name] = {"optimised": mean_of(optimised), "shipped_alarm": by_alarm[0], "best_budget": max(by_alarm)}
    return found


def _detection_rate(results: Sequence[Result]) -> float:
    """Share of faulty readings found where 1 % of the normal ones of all series are called strange."""
    if not results:
        return float("nan")
    threshold = np.quantile(np.concatenate([each.normal for each in results]), 1 - FALSE_ALARM_RATE)
    faulty = [each.strange for each in results if len(each.strange) and not each.title.endswith(RATE_WITHOUT)]
    return float(np.mean(np.concatenate(faulty) > threshold)) if faulty else float("nan")


def difference(one: Sequence[Result], other: Sequence[Result], seed: int = 0) -> Difference:
    """VUS-PR of `one` minus that of `other`: paired over series, resampled within each collection, seeds averaged first."""
    generator = np.random.default_rng(seed)
    pairs = [_paired(_of(one, name), _of(other, name)) for name in collections(one)]
    pairs = [each for each in pairs if len(each)]
    drawn = np.array([[each[generator.integers(len(each), size=len(each))].mean() for each in pairs] for _ in range(DRAWS)]).mean(axis=1)
    low, high = np.percentile(drawn, INTERVAL)
    return Difference(float(np.mean([each.mean() for each in pairs])), float(low), float(high))


def _paired(one: Sequence[Result], other: Sequence[Result]) -> NDArray[np.float64]:
    """f8[S] differences of the series that both have."""
    mine, theirs = _by_series(one), _by_series(other)
    both = [title for title in mine if title in theirs]
    differences = np.array([mine[title] - theirs[title] for title in both])
    known: NDArray[np.float64] = differences[~np.isnan(differences)]
    return known


def _by_series(results: Sequence[Result]) -> dict[str, float]:
    titles = list(dict.fromkeys(each.title for each in results))
    return {title: mean_of(each.vus_pr for each in results if each.title == title) for title in titles}


def details(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Every result, for a file: without the arrays."""
    return [
        {
            "detector": each.task.detector,
            "seed": each.task.seed,
            "series": each.title,
            "readings": each.readings,
            "vus_pr": each.vus_pr,
            "alarm": {str(budget): asdict(alarmed) for budget, alarmed in zip(BUDGETS, each.alarmed, strict=True)},
            "points": each.points._asdict(),
            "fit_s": each.fit_s,
            "score_s": each.score_s,
        }
        for each in results
    ]
