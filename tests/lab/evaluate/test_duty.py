"""Faults of time: the same for the same seed, labelled where they act, invisible to rules of level and visible to a sense of time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.lab.evaluate.duty import EPISODES_MAX, EPISODES_MIN, QUIET, TEST, TRAIN, draw_plant, duty_series
from detector.lab.evaluate.duty_faults import DutyKind, Episode, altered_path, altered_phases, draw_episode
from detector.lab.evaluate.series import Series, runs

SEED, PER_KIND = 1, 3
SERIES = duty_series(SEED, PER_KIND)
KINDS = list(DutyKind)
DWELL = np.array([10.0, 20.0, 30.0, 40.0])

LEVELS_DIFFER_MAX = {DutyKind.SKIPPED: 0.25, DutyKind.STUCK: 0.25, DutyKind.SLUGGISH: 0.35}
"""Kolmogorov distance; 0.2 for all others. Skipped and stuck phases change shares, sluggish channels reach their levels late."""
CHANCE = {DutyKind.STUCK: (0.4, 0.66), DutyKind.SLUGGISH: (0.1, 0.5)}
"""AUC of rules of level; 0.4 to 0.62 for all others. Sluggish channels are less extreme: such a rule calls them the more normal."""


def of_kind(kind: DutyKind) -> list[Series]:
    return [each for each in SERIES if each.name.startswith(f"{kind}-")]


def kolmogorov(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    at = np.concatenate((a, b))
    share_a, share_b = (np.searchsorted(np.sort(x), at, "right") / len(x) for x in (a, b))
    return float(np.abs(share_a - share_b).max())


def auc(score: NDArray[np.floating], label: NDArray[np.bool_]) -> float:
    """How often a labelled reading scores higher than another; ties count half."""
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    n = int(label.sum())
    return float((rank[label].sum() - n * (n + 1) / 2) / (n * (len(label) - n)))


def scaled(series: Series) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    mean, deviation = series.train.mean(axis=0), series.train.std(axis=0)
    return (series.train - mean) / deviation, (series.test - mean) / deviation


def rules_of_level(series: Series) -> list[float]:
    """AUC of the root mean square, and of how far the most extreme channel lies beyond what training has shown."""
    train, test = scaled(series)
    beyond = np.maximum(test - train.max(axis=0), train.min(axis=0) - test).max(axis=1)
    return [auc(np.sqrt((test**2).mean(axis=1)), series.label), auc(beyond, series.label)]


def sense_of_time(series: Series, readings: int = 30) -> float:
    """AUC of the distance between the last readings and the most similar ones in training."""

    def windows(value: NDArray[np.float32], step: int) -> NDArray[np.float32]:
        return np.lib.stride_tricks.sliding_window_view(value, readings, axis=0)[::step].reshape(-1, readings * value.shape[1])

    known, seen = (windows(value, step) for value, step in zip(scaled(series), (4, 8), strict=True))
    distance = (seen**2).sum(axis=1)[:, None] + (known**2).sum(axis=1) - 2 * seen @ known.T
    return auc(distance.min(axis=1), series.label[readings - 1 :: 8])


def test_a_seed_gives_one_set_and_a_series_does_not_depend_on_the_others() -> None:
    fewer = {each.name: each for each in duty_series(SEED, 1)}
    assert [each.name for each in SERIES] == [f"{kind}-{number}" for kind in KINDS for number in range(1, PER_KIND + 1)]
    for each in SERIES:
        assert each.collection == "DUTY"
        if each.name in fewer:
            assert np.array_equal(each.train, fewer[each.name].train)
            assert np.array_equal(each.test, fewer[each.name].test)
            assert np.array_equal(each.label, fewer[each.name].label)
    assert duty_series(SEED + 1, 1)[0].test.tobytes() != SERIES[0].test.tobytes()


@pytest.mark.parametrize("series", SERIES, ids=lambda series: series.name)
def test_episodes_keep_their_distances(series: Series) -> None:
    kind, number = series.name.split("-")
    plant = draw_plant(np.random.default_rng([SEED, KINDS.index(DutyKind(kind)), int(number)]))
    cycle, d = plant.dwell.sum(), len(plant.lag)
    assert 2 <= d <= 3
    assert 40 <= cycle <= 90
    assert series.train.shape == (TRAIN, d)
    assert series.test.shape == (TEST, d)
    assert series.train.dtype == series.test.dtype == np.float32
    assert np.isfinite(series.train).all()
    assert np.isfinite(series.test).all()
    spans = runs(series.label)
    assert EPISODES_MIN <= len(spans) <= EPISODES_MAX
    assert spans[0][0] >= QUIET
    assert spans[-1][1] < TEST - cycle / 2
    assert all(later[0] - earlier[1] >= 8 * cycle for earlier, later in pairwise(spans))
    # Altered cycles may be shorter (skipped, period) or longer (period, stuck); changes within one leave its ends regular.
    assert all(1.1 * cycle <= end - start <= 10 * cycle for start, end in spans)


@pytest.mark.parametrize("kind", KINDS)
def test_levels_stay_what_they_were(kind: DutyKind) -> None:
    low, high = CHANCE.get(kind, (0.4, 0.62))
    for series in of_kind(kind):
        inside, outside = series.test[series.label], series.test[~series.label]
        distance = [kolmogorov(inside[:, channel], outside[:, channel]) for channel in range(inside.shape[1])]
        assert max(distance) <= LEVELS_DIFFER_MAX.get(kind, 0.2)
        assert all(low <= each <= high for each in rules_of_level(series)), rules_of_level(series)
        beyond = (inside < series.train.min(axis=0)) | (inside > series.train.max(axis=0))
        assert beyond.any(axis=1).mean() < 0.04, "hardly a reading is larger or smaller than any in training"


@pytest.mark.parametrize("kind", KINDS)
def test_a_sense_of_time_finds_them(kind: DutyKind) -> None:
    least = {DutyKind.SKIPPED: 0.7, DutyKind.STUCK: 0.75}.get(kind, 0.8)
    assert np.mean([sense_of_time(series) for series in of_kind(kind)]) > least


@pytest.mark.parametrize(
    ("episode", "phases", "dwell", "begin", "end"),
    [
        (Episode(DutyKind.SWAPPED, 2, 3, other=1), [0, 3, 2, 1], [10, 40, 30, 20], 10, 100),
        (Episode(DutyKind.SKIPPED, 2, 2), [0, 1, 3], [10, 20, 40], 30, 30),
        (Episode(DutyKind.STUCK, 2, 1, factor=3.0), [0, 1, 2, 3], [10, 60, 30, 40], 30, 70),
        (Episode(DutyKind.REVERSED, 2, 1), [0, 3, 2, 1], [10, 40, 30, 20], 10, 100),
        (Episode(DutyKind.PERIOD, 2, 1, factor=1.5), [0, 1, 2, 3], [15, 30, 45, 60], 10, 150),
        (Episode(DutyKind.PERIOD, 2, 1, factor=0.8), [0, 1, 2, 3], [8, 16, 24, 32], 8, 80),
        (Episode(DutyKind.REPLAYED, 2, 1, ago=50), [0, 1, 2, 3], [10, 20, 30, 40], 0, 100),
    ],
)
def test_altered_phases(episode: Episode, phases: list[int], dwell: list[float], begin: float, end: float) -> None:
    cycle = altered_phases(episode, DWELL)
    assert cycle.phase.tolist() == phases
    assert cycle.dwell == pytest.approx(dwell)
    assert (cycle.begin, cycle.end) == pytest.approx((begin, end))


def test_lags_and_delays_change_where_they_should() -> None:
    for episode, lags, delays in [
        (Episode(DutyKind.SLUGGISH, 2, 0, factor=3.0), [3, 6], [0, 8]),
        (Episode(DutyKind.LAG, 2, 0, channel=1, factor=4.0), [1, 8], [0, 8]),
        (Episode(DutyKind.LAG, 2, 0, channel=1, factor=0.25, of_delay=True), [1, 2], [0, 2]),
        (Episode(DutyKind.SWAPPED, 2, 0, other=1), [1, 2], [0, 8]),
    ]:
        lag, delay = np.tile([1.0, 2.0], (5, 1)), np.tile([0, 8], (5, 1))
        altered_path(episode, lag, delay)
        assert np.array_equal(lag, np.tile(np.array(lags, float), (5, 1)))
        assert np.array_equal(delay, np.tile(delays, (5, 1)))


@pytest.mark.parametrize("kind", KINDS)
def test_episodes_are_drawn_within_their_ranges(kind: DutyKind) -> None:
    generator = np.random.default_rng(5)
    drawn = [draw_episode(kind, 2, DWELL, np.array([1.0, 4.0, 9.0]), np.array([0, 0, 12]), generator) for _ in range(200)]
    assert {each.cycles for each in drawn} == ({3, 4, 5, 6} if kind is DutyKind.SKIPPED else {2, 3, 4, 5})
    factors = [max(each.factor, 1 / each.factor) for each in drawn]
    low, high = {"stuck": (2, 4), "period": (1.25, 1.6), "lag": (3, 5), "sluggish": (2, 3)}.get(kind, (1, 1))
    assert low <= min(factors) <= max(factors) <= high
    if kind is DutyKind.SWAPPED:
        assert {each.other for each in drawn} == {0, 1, 3}
    if kind is DutyKind.REPLAYED:
        assert {each.ago for each in drawn} == {50, 150, 250}
    if kind is DutyKind.LAG:
        assert {each.channel for each in drawn if each.of_delay} == {2}
        assert all(each.factor < 1 for each in drawn if each.channel == 2), "what is slow becomes fast"


def test_a_replayed_channel_says_exactly_what_it_said_before() -> None:
    for series in of_kind(DutyKind.REPLAYED):
        for start, end in runs(series.label):
            shifts = [
                (channel, ago)
                for ago in range(20, 240)
                for channel in range(series.test.shape[1])
                if np.array_equal(series.test[start:end, channel], series.test[start - ago : end - ago, channel])
                or (
                    ago < end - start
                    and np.array_equal(series.test[start : start + ago, channel], series.test[start - ago : start, channel])
                )
            ]
            assert len(shifts) == 1, (series.name, start, end)
