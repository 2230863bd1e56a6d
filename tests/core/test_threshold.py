"""Score -> tail probability, and the alarm: evidence against an account."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core.states import arrays_of
from detector.core.threshold import (
    ACCEPT_READINGS,
    COLD_READINGS,
    PATIENCE,
    PRICE,
    TAIL,
    TINY,
    UNIT_MIN,
    Event,
    Prior,
    accept,
    judge,
)
from tests.core.builders import SECOND_US

F8 = NDArray[np.float64]
EXPONENTIAL = Prior(float(np.log(20)), 1.0)
WARMUP = 100
LEARNED = ("quantile", "unit", "mean", "variance", "account")


class Stream:
    """One stream's alarm, one reading a second, a budget of one false alert per `readings`."""

    def __init__(
        self, prior: Prior = EXPONENTIAL, readings: float = 10_000, warmup: int = WARMUP, reset_baseline_after_s: float = 0
    ) -> None:
        self.columns = arrays_of(prior.columns())
        self._prior, self._readings, self._warmup, self._accept_after_s = prior, readings, warmup, reset_baseline_after_s
        self._seconds = 0
        self.threshold: NDArray[np.float32]  # of the latest call

    def judge(self, scores: Any) -> tuple[F8, list[int]]:
        """Tail probabilities and events; the rows of one call are judged one after the other."""
        score = np.asarray(scores, np.float32)
        time_us = (self._seconds + np.arange(len(score), dtype=np.int64)) * SECOND_US
        interval_us = np.full(len(score), 1e6)
        self._seconds += len(score)
        limits = (self._readings * SECOND_US, self._warmup, self._accept_after_s * SECOND_US, self._prior)
        p, event, self.threshold = judge(np.zeros(len(score), np.int32), score, time_us, interval_us, self.columns, *limits)
        return p, event.tolist()

    def __getitem__(self, name: str) -> float:
        return float(self.columns[name][0])

    def learned(self) -> dict[str, float]:
        return {name: self[name] for name in LEARNED}

    def settled(self, readings: int = 1_000) -> Stream:
        """After so many normal readings."""
        self.judge(normal(readings))
        return self

    def strange(self) -> float:
        """A score three mean excesses over the quantile."""
        return self["quantile"] + 3 * self["unit"]

    def opened(self) -> Stream:
        """With an alert open."""
        assert readings_to_open(self) < 1_000
        return self


def normal(readings: int, seed: int = 0) -> F8:
    return np.random.default_rng(seed).exponential(1, readings)


def readings_to_open(stream: Stream) -> int:
    """How many strange readings in a row it takes."""
    for number in range(1, 1_000):
        if stream.judge([stream.strange()])[1] == [Event.OPENED]:
            return number
    pytest.fail("a fault that lasts must open an alert")


def test_tail_probability_falls_from_1_with_the_score() -> None:
    scores = np.concatenate((np.linspace(0, 30, 400), [100, 1e3, 1e6, 3e38]))
    p = np.array([Stream().judge([score])[0][0] for score in scores])
    assert (np.diff(p) <= 0).all()
    assert p[0] == 1
    assert ((p > 0) & (p <= 1)).all()
    quantile, excess = EXPONENTIAL.quantile, EXPONENTIAL.excess
    assert Stream().judge([quantile])[0][0] == pytest.approx(TAIL)
    assert Stream().judge([quantile + excess])[0][0] == pytest.approx(TAIL / np.e)


def test_tail_probability_says_how_often_a_normal_score_is_as_high() -> None:
    p, _ = Stream().judge(normal(200_000))
    for level in (0.5, 0.1, 0.05, 0.01):
        assert np.mean(p[1_000:] < level) == pytest.approx(level, rel=0.15)
    assert np.mean(p[1_000:] < 0.001) == pytest.approx(0.001, rel=0.6)


DRAWS: dict[str, Callable[[np.random.Generator, int], F8]] = {
    "exponential": lambda rng, n: rng.exponential(1, n),
    "half normal": lambda rng, n: np.abs(rng.standard_normal(n)),
    "log-normal": lambda rng, n: rng.lognormal(0, 0.5, n),
    "logarithms of a heavy tail, as the score takes them": lambda rng, n: np.log1p(np.abs(rng.standard_t(2, n))),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
@pytest.mark.parametrize("budget", [1_000, 10_000])
def test_false_alerts_stay_within_the_budget_while_nothing_changes(draw: Callable[[np.random.Generator, int], F8], budget: int) -> None:
    rng = np.random.default_rng(0)
    prior = Prior.fit(draw(rng, 20_000))
    streams, readings = 20, 50_000
    alerts = sum(Stream(prior, budget).judge(draw(rng, readings))[1].count(Event.OPENED) for _ in range(streams))
    assert alerts <= 1.1 * streams * readings / budget


@pytest.mark.parametrize("budget", [1_000, 10_000])
@pytest.mark.parametrize("kind", ["walk", "switching", "growing", "storms"])
def test_whatever_the_series_does_alerts_are_bounded(kind: str, budget: int) -> None:
    """The account makes each alert dearer: T / N + 55 while it is below its ceiling, and the series drifts as it likes."""
    rng, n = np.random.default_rng(0), 100_000
    noise = rng.exponential(1, n)
    series = {
        "walk": np.abs(np.cumsum(rng.standard_normal(n))) * 0.3,
        "switching": noise * (1 + 5 * (np.arange(n) // 500 % 2)),
        "growing": noise * np.geomspace(1, 100, n),
        "storms": noise + 8 * (np.arange(n) % 300 < 12),
    }[kind]
    assert Stream(readings=budget).judge(series)[1].count(Event.OPENED) <= n / budget + 55


def test_a_strong_fault_opens_within_a_few_readings() -> None:
    for budget, size, patience in ((1_000, 8, 5), (10_000, 8, 9), (600_000, 15, 30)):
        stream = Stream(readings=budget).settled()
        _, event = stream.judge(np.full(patience, stream["quantile"] + size * stream["unit"]))
        assert event.count(Event.OPENED) == 1


def test_a_heavy_tail_cannot_alert_with_one_reading_but_an_absurd_reading_can() -> None:
    stream = Stream().settled()
    assert not any(stream.judge([stream["quantile"] + 7 * stream["unit"], *normal(50)])[1])
    assert stream.settled().judge([1e30])[1] == [Event.OPENED]


def test_one_absurd_reading_in_the_warm_up_does_not_make_a_stream_deaf() -> None:
    stream, other = Stream(), Stream()
    scores = normal(WARMUP)
    stream.judge([*scores[:70], 1_000, *scores[70:-1]])
    other.judge(scores)
    assert stream["quantile"] < other["quantile"] + 1
    assert stream["unit"] < 1.5 * other["unit"]


def test_calm_readings_close_it() -> None:
    stream = Stream().settled().opened()
    _, event = stream.judge(np.full(PATIENCE, 0.5))
    assert event == [*[Event.NONE] * (PATIENCE - 1), Event.QUIET]
    assert (stream["is_open"], stream["evidence"]) == (0, 0)


def test_one_strange_reading_among_them_begins_the_count_again() -> None:
    stream = Stream().settled().opened()
    calm = np.full(PATIENCE - 1, 0.5)
    assert not any(stream.judge([*calm, 50, *calm])[1])
    assert stream.judge([0.5])[1] == [Event.QUIET]


@pytest.mark.parametrize(("reset_baseline_after_s", "readings"), [(0, ACCEPT_READINGS), (300, 300)])
def test_a_level_that_lasts_is_accepted_and_then_normal(reset_baseline_after_s: float, readings: int) -> None:
    stream = Stream(reset_baseline_after_s=reset_baseline_after_s).settled()
    level = 8 + normal(6_000, seed=1) / 2
    event: list[int] = []
    while Event.ACCEPTED not in event:
        event += stream.judge(level[len(event) : len(event) + 1])[1]
    assert stream["quantile"] == pytest.approx(np.quantile(level, 0.95), abs=2)
    event += stream.judge(level[len(event) :])[1]
    opened = event.index(Event.OPENED)
    assert event.index(Event.ACCEPTED) == opened + readings
    assert event.count(Event.OPENED) == 1
    p, _ = stream.judge(8 + normal(2_000, seed=2) / 2)
    assert 0.02 < np.mean(p < 0.05) < 0.1


def test_every_alert_makes_the_next_one_dearer_and_calm_pays_it_back() -> None:
    stream = Stream(readings=1_000).settled(200)
    needed = []
    for _ in range(40):
        needed.append(readings_to_open(stream))
        stream.judge(np.full(PATIENCE, 0.1))
    assert needed == sorted(needed)
    assert needed[-1] > 1.5 * needed[1]
    before = stream["account"]
    stream.judge(np.full(1_000, 0.1))  # N readings
    assert stream["account"] == pytest.approx(before - PRICE)


def test_most_of_what_an_alert_costs_is_soon_forgotten() -> None:
    """PRICE N = 3,000 readings: right after an alert the next one needs more, long after it hardly."""
    stream = Stream(readings=60_000).settled(200)
    stream.judge(np.full(100, 0.1))
    first = readings_to_open(stream)
    stream.judge(np.full(PATIENCE, 0.1))
    assert stream["recent"] == pytest.approx(1, rel=0.1)
    soon, later = deepcopy(stream), deepcopy(stream)
    later.judge(np.full(10_000, 0.1))
    assert readings_to_open(soon) > 1.5 * first
    assert readings_to_open(later) <= 1.1 * first


def test_an_alert_is_accepted_by_hand() -> None:
    stream = Stream().settled().opened()
    before, level = stream["quantile"], stream["regime"]
    accept(0, stream.columns)
    assert (stream["is_open"], stream["evidence"]) == (0, 0)
    assert stream["quantile"] == max(before, level)


def test_the_account_is_never_a_credit() -> None:
    stream = Stream(readings=100)
    stream.judge(np.full(3_000, 0.1))
    assert stream["account"] == 0
    stream.opened()
    assert stream["account"] == PRICE


def test_nothing_is_learned_from_an_open_alert_nor_from_the_reading_that_opens_it() -> None:
    stream = Stream().settled()
    stream.judge(np.zeros(20))
    assert stream["evidence"] == 0
    before = stream.learned()
    readings_to_open(stream)
    assert stream["account"] >= before["account"] + PRICE - 0.001
    before["account"] = stream["account"]
    assert stream.learned() == before  # what the fault taught while the evidence gathered is taken back
    worse = stream.judge(np.random.default_rng(0).uniform(0, 100, 500))[1].count(Event.WORSE)
    assert stream["is_open"]
    before["account"] += worse * PRICE
    assert stream.learned() == pytest.approx(before)
    stream.judge(np.full(PATIENCE, 0.1))
    assert not stream["is_open"]
    assert stream.learned() == pytest.approx(before)


@given(st.integers(0, 300), st.floats(0, 200, width=32), st.floats(0, 200, width=32))
@settings(max_examples=60, deadline=None)
def test_a_reading_is_judged_before_it_is_learned_from(readings: int, one: float, other: float) -> None:
    """The columns before decide p; two unlike readings meet the same columns."""
    stream = Stream().settled(readings) if readings else Stream()
    columns = {name: column.copy() for name, column in stream.columns.items()}
    quantile, excess = stream["quantile"], stream["unit"]
    for score in (one, other):
        stream.columns = {name: column.copy() for name, column in columns.items()}
        p, _ = stream.judge([score])
        stream._seconds -= 1
        expected = TAIL * np.exp(-(score - quantile) / excess) if score > quantile else TAIL ** (score / quantile)
        assert p[0] == pytest.approx(max(expected, TINY), rel=1e-9)


@pytest.mark.parametrize("warmup", [0, 1, 50, 500])
def test_the_warm_up_never_alerts_and_leaves_no_evidence(warmup: int) -> None:
    stream = Stream(warmup=warmup)
    _, event = stream.judge(np.full(warmup, 1e6))
    assert not any(event)
    assert stream["evidence"] == 0
    assert stream["seen"] == warmup


def test_the_warm_up_moves_the_calibration_to_the_streams_own_level() -> None:
    """But for its first readings, whose memory is empty: they are high and teach nothing."""
    own = 4 + np.random.default_rng(0).standard_normal(400)
    stream = Stream(warmup=400)
    stream.judge([*np.full(COLD_READINGS, 1e4), *own[COLD_READINGS:]])
    assert stream["quantile"] == pytest.approx(np.quantile(own, 0.95), abs=0.5)
    p, event = stream.judge(4 + np.random.default_rng(1).standard_normal(2_000))
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.03)
    assert not any(event)


def test_a_rarer_budget_asks_for_more_evidence() -> None:
    needed = [readings_to_open(Stream(readings=n).settled(200)) for n in (1_000, 10_000, 1_000_000)]
    assert needed == sorted(set(needed))


def test_streams_of_one_step_are_judged_apart() -> None:
    alone = [Stream() for _ in range(5)]
    together = arrays_of(EXPONENTIAL.columns(), 5)
    rng = np.random.default_rng(0)
    for t in range(300):
        scores = rng.exponential(1 if t < 250 else 30, 5).astype(np.float32)
        rows = rng.permutation(5).astype(np.int32)
        time_us, interval_us = np.full(5, t * SECOND_US, np.int64), np.full(5, 1e6)
        p, event, _ = judge(rows, scores[rows], time_us, interval_us, together, 1e4 * SECOND_US, WARMUP, 0.0, EXPONENTIAL)
        for k, row in enumerate(rows.tolist()):
            p_alone, event_alone = alone[row].judge(scores[row : row + 1])
            assert (p[k], event[k]) == (p_alone[0], event_alone[0])
    for name, column in together.items():
        assert column.tolist() == [stream.columns[name][0] for stream in alone]
    assert together["is_open"].any()


def test_the_prior_is_the_quantile_and_the_mean_excess_over_it() -> None:
    prior = Prior.fit(normal(100_000))
    assert prior.quantile == pytest.approx(np.log(20), rel=0.02)
    assert prior.excess == pytest.approx(1, rel=0.05)
    assert Prior.fit(np.full(100, 2.5)) == Prior(2.5, 0.0)


@given(st.lists(st.floats(0, 2.0**127, width=32), max_size=200))
@settings(max_examples=60, deadline=None)
def test_the_state_stays_finite_whatever_the_scores(scores: list[float]) -> None:
    stream = Stream(warmup=40)
    p, _ = stream.judge([*normal(20), *scores, *normal(20)])
    assert ((p > 0) & (p <= 1)).all()
    assert all(np.isfinite(column).all() for column in stream.columns.values())
    assert stream["unit"] >= UNIT_MIN


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_an_alert_opens_exactly_where_the_score_is_beyond_the_threshold(draw: Callable[[np.random.Generator, int], F8]) -> None:
    rng = np.random.default_rng(7)
    noise = draw(rng, 30_000)
    scores = (noise + rng.choice([0, 2, 30], len(noise), p=[0.995, 0.004, 0.001]) * (1 + noise)).astype(np.float32)
    scores[5_000:5_400] *= 4
    stream, is_open, opened, worse = Stream(Prior.fit(noise), 1_000), False, 0, 0
    for score in scores:
        _, (event,) = stream.judge([score])
        beyond = float(score) - float(stream.threshold[0])
        if abs(beyond) > 1e-4 * max(float(score), 1):  # the threshold is rounded, the evidence is not
            assert (event in (Event.OPENED, Event.WORSE)) <= (beyond > 0)
            assert is_open or (event == Event.OPENED) == (beyond > 0)
        opened, worse = opened + (event == Event.OPENED), worse + (event == Event.WORSE)
        is_open = event in (Event.OPENED, Event.WORSE) or (is_open and event == Event.NONE)
    assert opened > 5
    assert worse > 0


def test_the_threshold_comes_down_while_evidence_gathers() -> None:
    stream = Stream().settled()
    strange, thresholds = stream.strange(), list[float]()
    while stream.judge([strange])[1] != [Event.OPENED]:
        thresholds.append(float(stream.threshold[0]))
    assert thresholds[0] > strange + 1  # the first strange reading alone is no alert
    assert stream.threshold[0] < strange


def test_no_threshold_where_no_score_could_alert() -> None:
    stream = Stream()
    stream.judge(normal(WARMUP))
    assert np.isnan(stream.threshold).all()
    stream.judge(normal(1))
    assert np.isfinite(stream.threshold).all()
    stream.opened().judge(normal(PATIENCE + 1) + stream.strange())
    assert np.isnan(stream.threshold[:-1]).all()
    assert np.isfinite(stream.threshold[-1])
