from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from detector.lab.evaluate.labelled_datasets import read_labelled
from detector.lab.evaluate.nab import PROFILES, Rated, nab_score, probation, rate
from detector.lab.evaluate.series import runs

STANDARD, LOW_FP, LOW_FN = PROFILES
IN_RESULTS = {"standard": STANDARD, "reward_low_FP_rate": LOW_FP, "reward_low_FN_rate": LOW_FN}


@pytest.mark.parametrize("detector", ["numenta", "contextOSE", "ARTime", "windowedGaussian"])
def test_published_scores_are_reproduced(benchmark_data: Path, detector: str) -> None:
    published = json.loads((benchmark_data / "ANCHORS" / "nab_final_results.json").read_text())[detector]
    with np.load(benchmark_data / "NAB" / "published" / f"{detector}.npz") as scores:
        corpus = [
            rate(scores[f"{each.name}.csv"], [(start + len(each.train), end + len(each.train)) for start, end in runs(each.label)])
            for each in read_labelled(benchmark_data / "NAB")
        ]
    assert len(corpus) == 58
    for name, profile in IN_RESULTS.items():
        assert nab_score(corpus, profile)[0] == pytest.approx(published[name], abs=0.1)


def series(found: list[int], length: int = 1_000, window: tuple[int, int] = (400, 500)) -> Rated:
    score = np.zeros(length)
    score[found] = 1.0
    return rate(score, [window])


def test_silence_is_zero_and_the_first_reading_of_a_window_is_everything() -> None:
    for profile in PROFILES:
        assert nab_score([series([])], profile, 0.5)[0] == 0.0
        assert nab_score([series([400])], profile, 0.5)[0] == pytest.approx(100.0)


def test_only_the_best_detection_of_a_window_counts_and_false_ones_cost_by_their_distance() -> None:
    (once, _), (twice, _) = (nab_score([series(found)], STANDARD, 0.5) for found in ([400], [400, 450]))
    assert once == twice
    late = nab_score([series([499])], STANDARD, 0.5)[0]
    assert 50 < late < 60  # half of the way from silence (0) to perfect (100) is one window found at its very end
    far, near = (nab_score([series([400, place])], STANDARD, 0.5)[0] for place in (900, 505))
    assert far < near < once
    assert far == pytest.approx(100 * (1 + 1 - 0.11) / 2)


def test_the_best_threshold_takes_all_readings_of_one_score() -> None:
    score = np.zeros(1_000)
    score[[400, 900]] = 0.7
    score[700] = 0.9
    assert nab_score([rate(score, [(400, 500)])], STANDARD)[1] == 0.7
    score[450] = 0.95
    assert nab_score([rate(score, [(400, 500)])], LOW_FP)[1] == 0.95


def test_probation_does_not_count() -> None:
    assert (probation(1_000), probation(100_000)) == (150, 750)
    score = np.zeros(1_000)
    score[:150] = 1.0
    rated = rate(score, [(400, 500)])
    assert len(rated.score) == 850
    assert nab_score([rated], STANDARD, 0.5)[0] == 0.0
    assert_allclose(rated.worth[:250], -1.0)  # before the first window every detection is far from one
    assert math.isclose(rated.worth[250], 1.0)
