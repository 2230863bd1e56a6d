"""Score -> tail probability, and the alarm: a CUSUM against its limit."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core import alarm
from detector.core.alarm import EXCESS_MIN, LIFE_READINGS_MIN, OUTLIER_MARGIN, PATIENCE, PENALTY, RESET_AFTER, TAIL, TINY, Event, Prior
from detector.core.compiled import entry
from detector.core.rules import Settings, rules_of
from tests.core.builders import SECOND_US, Records

F8 = NDArray[np.float64]
EXPONENTIAL = Prior(float(np.log(20)), 1.0)
WARMUP = 100
LEARNED = ("quantile", "excess", "mean", "variance", "slow_penalty")


@entry
def judge(heads, score, event_time_us, per_reading_us, rules, p, event, threshold):  # type: ignore[no-untyped-def]
    for t in range(score.shape[0]):
        p[t], event[t], threshold[t] = alarm.judge(heads[0], score[t], event_time_us[t], per_reading_us, rules[0])


@entry
def reset_baseline(heads):  # type: ignore[no-untyped-def]
    alarm.reset_baseline(heads[0])


class Stream:
    """One stream's alarm, one reading a second or every `interval_s`, a budget of one false alert per `readings`."""

    def __init__(
        self,
        prior: Prior = EXPONENTIAL,
        readings: float = 10_000,
        warmup: int = WARMUP,
        reset_baseline_after_s: float = 0,
        interval_s: int = 1,
    ) -> None:
        self.record = Records(starts=prior.starts)
        self._interval_us = interval_s * SECOND_US
        settings = Settings(readings * self._interval_us, warmup, reset_baseline_after_s * SECOND_US or None)
        self._rules = rules_of(settings, prior)
        self.seconds, self.per_reading_us = 0, float(self._interval_us)
        self.threshold: NDArray[np.float32]  # of the latest call

    def judge(self, scores: Any) -> tuple[F8, list[int]]:
        """Tail probabilities and events of readings one after the other."""
        score = np.asarray(scores, np.float32)
        time_us = (self.seconds + np.arange(len(score), dtype=np.int64)) * self._interval_us
        self.seconds += len(score)
        p, event, self.threshold = np.empty(len(score)), np.empty(len(score), np.int64), np.empty(len(score), np.float32)
        judge(self.record.heads, score, time_us, self.per_reading_us, self._rules, p, event, self.threshold)
        return p, event.tolist()

    def __getitem__(self, name: str) -> float:
        return float(self.record.heads[name][0])

    def learned(self) -> dict[str, float]:
        return {name: self[name] for name in LEARNED}

    def settled(self, readings: int = 1_000) -> Stream:
        """After so many normal readings."""
        self.judge(normal(readings))
        return self

    def strange(self) -> float:
        """A score three mean excesses over the quantile."""
        return self["quantile"] + 3 * self["excess"]

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
    """The penalty makes each alert dearer: T / N + 55 while it is below its maximum, and the series drifts as it likes."""
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
        _, event = stream.judge(np.full(patience, stream["quantile"] + size * stream["excess"]))
        assert event.count(Event.OPENED) == 1


def test_a_heavy_tail_cannot_alert_with_one_reading_but_an_absurd_reading_can() -> None:
    stream = Stream().settled()
    assert not any(stream.judge([stream["quantile"] + 7 * stream["excess"], *normal(50)])[1])
    assert stream.settled().judge([1e30])[1] == [Event.OPENED]


def test_one_absurd_reading_in_the_warm_up_does_not_make_a_stream_deaf() -> None:
    stream, other = Stream(), Stream()
    scores = normal(WARMUP)
    stream.judge([*scores[:70], 1_000, *scores[70:-1]])
    other.judge(scores)
    assert stream["quantile"] < other["quantile"] + 1
    assert stream["excess"] < 1.5 * other["excess"]


def test_calm_readings_close_it() -> None:
    stream = Stream().settled().opened()
    _, event = stream.judge(np.full(PATIENCE, 0.5))
    assert event == [*[Event.NONE] * (PATIENCE - 1), Event.CLEARED]
    assert (stream["score_open"], stream["cusum"]) == (0, 0)


def test_one_strange_reading_among_them_begins_the_count_again() -> None:
    stream = Stream().settled().opened()
    calm = np.full(PATIENCE - 1, 0.5)
    assert not any(stream.judge([*calm, 50, *calm])[1])
    assert stream.judge([0.5])[1] == [Event.CLEARED]


@pytest.mark.parametrize(("reset_baseline_after_s", "readings"), [(0, RESET_AFTER), (300, 300)])
def test_a_level_that_lasts_becomes_the_baseline(reset_baseline_after_s: float, readings: int) -> None:
    stream = Stream(reset_baseline_after_s=reset_baseline_after_s).settled()
    level = 8 + normal(6_000, seed=1) / 2
    event: list[int] = []
    while Event.RESET not in event:
        event += stream.judge(level[len(event) : len(event) + 1])[1]
    assert stream["quantile"] == pytest.approx(np.quantile(level, 0.95), abs=2)
    event += stream.judge(level[len(event) :])[1]
    opened = event.index(Event.OPENED)
    assert event.index(Event.RESET) == opened + readings
    assert event.count(Event.OPENED) == 1
    p, _ = stream.judge(8 + normal(2_000, seed=2) / 2)
    assert 0.02 < np.mean(p < 0.05) < 0.1


@pytest.mark.parametrize(("interval_s", "readings"), [(1, RESET_AFTER), (60, 1_440), (3_600, 24), (86_400, LIFE_READINGS_MIN)])
def test_an_alert_ends_within_a_day_however_often_it_gets_worse(interval_s: int, readings: int) -> None:
    stream = Stream(interval_s=interval_s).settled()
    event: list[int] = []
    while Event.RESET not in event:  # ever stranger
        event += stream.judge([100.0 * 1.2 ** len(event) if len(event) < 200 else 1e18])[1]
    assert event.index(Event.RESET) == event.index(Event.OPENED) + readings
    assert readings < 100 or Event.ESCALATED in event


@pytest.mark.parametrize(("interval_s", "calm"), [(60, PATIENCE), (540, PATIENCE), (1_080, 10), (3_600, 5), (86_400, 5)])
def test_fewer_calm_readings_close_it_where_they_are_far_apart(interval_s: int, calm: int) -> None:
    stream = Stream(interval_s=interval_s).settled().opened()
    assert stream.judge(np.full(calm, 0.5))[1] == [*[Event.NONE] * (calm - 1), Event.CLEARED]


def test_every_alert_makes_the_next_one_dearer_and_calm_pays_it_back() -> None:
    stream = Stream(readings=1_000).settled(200)
    needed = []
    for _ in range(40):
        needed.append(readings_to_open(stream))
        stream.judge(np.full(PATIENCE, 0.1))
    assert needed == sorted(needed)
    assert needed[-1] > 1.5 * needed[1]
    before = stream["slow_penalty"]
    stream.judge(np.full(1_000, 0.1))  # N readings
    assert stream["slow_penalty"] == pytest.approx(before - PENALTY)


def test_most_of_what_an_alert_costs_is_soon_forgotten() -> None:
    """PENALTY N = 3,000 readings: right after an alert the next one needs more, long after it hardly."""
    stream = Stream(readings=60_000).settled(200)
    stream.judge(np.full(100, 0.1))
    first = readings_to_open(stream)
    stream.judge(np.full(PATIENCE, 0.1))
    assert stream["fast_penalty"] == pytest.approx(1, rel=0.1)
    soon, later = deepcopy(stream), deepcopy(stream)
    later.judge(np.full(10_000, 0.1))
    assert readings_to_open(soon) > 1.5 * first
    assert readings_to_open(later) <= 1.1 * first


def test_the_baseline_is_reset_by_hand() -> None:
    stream = Stream().settled().opened()
    before, level = stream["quantile"], stream["alert_level"]
    reset_baseline(stream.record.heads)
    assert (stream["score_open"], stream["cusum"]) == (0, 0)
    assert stream["quantile"] == max(before, level)


def test_the_slow_penalty_is_never_a_credit() -> None:
    stream = Stream(readings=100)
    stream.judge(np.full(3_000, 0.1))
    assert stream["slow_penalty"] == 0
    stream.opened()
    assert stream["slow_penalty"] == PENALTY


def test_one_reading_alone_opens_an_alert_by_its_rarity() -> None:
    """L + OUTLIER_MARGIN mean excesses over the quantile: after an alert that is still paid for, more."""
    log_n = np.log(TAIL * 10_000)
    stream = Stream().settled()
    stream.judge(np.zeros(20))
    at, unit = stream["quantile"], stream["excess"]
    assert deepcopy(stream).judge([at + unit * (log_n + OUTLIER_MARGIN - 0.01)])[1] == [Event.NONE]
    assert stream.judge([at + unit * (log_n + OUTLIER_MARGIN + 0.01)])[1] == [Event.OPENED]
    stream.judge(np.zeros(PATIENCE))
    assert stream["fast_penalty"] > 0.9
    at, unit = stream["quantile"], stream["excess"]
    assert stream.judge([at + unit * (log_n + 1.8 * OUTLIER_MARGIN)])[1] == [Event.NONE]


def test_a_stream_whose_usual_interval_is_not_known_cannot_alert() -> None:
    stream = Stream().settled()
    stream.per_reading_us = 0.0
    assert stream.judge(np.full(50, 1e6))[1] == [Event.NONE] * 50
    assert np.isnan(stream.threshold).all()


def test_nothing_is_learned_from_an_open_alert_nor_from_the_reading_that_opens_it() -> None:
    stream = Stream().settled()
    stream.judge(np.zeros(20))
    assert stream["cusum"] == 0
    before = stream.learned()
    readings_to_open(stream)
    assert stream["slow_penalty"] >= before["slow_penalty"] + PENALTY - 0.001
    before["slow_penalty"] = stream["slow_penalty"]
    assert stream.learned() == before  # what the fault taught while the CUSUM rose is taken back
    escalated = stream.judge(np.random.default_rng(0).uniform(0, 100, 500))[1].count(Event.ESCALATED)
    assert stream["score_open"]
    before["slow_penalty"] += escalated * PENALTY
    assert stream.learned() == pytest.approx(before)
    stream.judge(np.full(PATIENCE, 0.1))
    assert not stream["score_open"]
    assert stream.learned() == pytest.approx(before)


@given(st.integers(0, 300), st.floats(0, 200, width=32), st.floats(0, 200, width=32))
@settings(max_examples=60, deadline=None)
def test_a_reading_is_judged_before_it_is_learned_from(readings: int, one: float, other: float) -> None:
    """The record before decides p; two unlike readings meet the same record."""
    stream = Stream().settled(readings) if readings else Stream()
    quantile, excess = stream["quantile"], stream["excess"]
    for score in (one, other):
        p, _ = deepcopy(stream).judge([score])
        expected = TAIL * np.exp(-(score - quantile) / excess) if score > quantile else TAIL ** (score / quantile)
        assert p[0] == pytest.approx(max(expected, TINY), rel=1e-9)


@pytest.mark.parametrize("warmup", [0, 1, 50, 500])
def test_the_warm_up_never_alerts_and_leaves_no_cusum(warmup: int) -> None:
    stream = Stream(warmup=warmup)
    _, event = stream.judge(np.full(warmup, 1e6))
    assert not any(event)
    assert stream["cusum"] == 0
    assert stream["seen"] == warmup


def test_the_warm_up_moves_the_calibration_to_the_streams_own_level() -> None:
    """But for its first readings, whose memory is empty: they are high and teach nothing."""
    own = 4 + np.random.default_rng(0).standard_normal(400)
    stream = Stream(warmup=400)
    stream.judge([*np.full(PATIENCE, 1e4), *own[PATIENCE:]])
    assert stream["quantile"] == pytest.approx(np.quantile(own, 0.95), abs=0.5)
    p, event = stream.judge(4 + np.random.default_rng(1).standard_normal(2_000))
    assert np.mean(p < 0.05) == pytest.approx(0.05, abs=0.03)
    assert not any(event)


def test_a_rarer_budget_needs_a_larger_cusum() -> None:
    needed = [readings_to_open(Stream(readings=n).settled(200)) for n in (1_000, 10_000, 1_000_000)]
    assert needed == sorted(set(needed))


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
    assert all(np.isfinite(stream[name]) for name in stream.record.heads.dtype.names or ())
    assert stream["excess"] >= EXCESS_MIN


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_an_alert_opens_exactly_where_the_score_is_beyond_the_threshold(draw: Callable[[np.random.Generator, int], F8]) -> None:
    rng = np.random.default_rng(7)
    noise = draw(rng, 30_000)
    scores = (noise + rng.choice([0, 2, 30], len(noise), p=[0.995, 0.004, 0.001]) * (1 + noise)).astype(np.float32)
    scores[5_000:5_400] *= 4
    stream, is_open, opened, escalated = Stream(Prior.fit(noise), 1_000), False, 0, 0
    for score in scores:
        _, (event,) = stream.judge([score])
        beyond = float(score) - float(stream.threshold[0])
        if abs(beyond) > 1e-4 * max(float(score), 1):  # the threshold is rounded, the CUSUM is not
            assert (event in (Event.OPENED, Event.ESCALATED)) <= (beyond > 0)
            assert is_open or (event == Event.OPENED) == (beyond > 0)
        opened, escalated = opened + (event == Event.OPENED), escalated + (event == Event.ESCALATED)
        is_open = event in (Event.OPENED, Event.ESCALATED) or (is_open and event == Event.NONE)
    assert opened > 5
    assert escalated > 0


def test_the_threshold_comes_down_while_the_cusum_rises() -> None:
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
