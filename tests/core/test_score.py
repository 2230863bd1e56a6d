"""Readings and residuals -> a score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.core.fitting import fit_scorer
from detector.core.scaling import Scaling
from detector.core.scoring import TERMS, BandScorer
from detector.core.states import arrays_of
from detector.core.terms import told_by
from tests.core.builders import normal_values

F4 = NDArray[np.float32]
RATES = (0.3, 0.1, 0.03)
BANDS, ERRORS, JOINT, SLOW, EXTREMES = range(len(TERMS))


def fitted(values: list[F4]) -> tuple[Scaling, BandScorer]:
    """Scaling and score, with residuals of persistence."""
    scaling = Scaling.fit(np.concatenate(values))
    xs = [scaling.scaled(value) for value in values]
    return scaling, fit_scorer(values, xs, [persistence(x) for x in xs], [0] * len(xs))


def persistence(x: F4) -> F4:
    """Residuals against the last value that was there."""
    last, e = np.zeros(x.shape[1], np.float32), np.empty_like(x)
    for t in range(len(x)):
        e[t] = x[t] - last
        last = np.where(np.isnan(x[t]), last, x[t])
    return e


def scores(scaling: Scaling, scorer: BandScorer, value: F4) -> F4:
    """Of one stream, from its first reading on."""
    x = scaling.scaled(value)
    return scorer.of_one_stream(value, x, persistence(x))[0]


def shares_at(scaling: Scaling, scorer: BandScorer, value: F4) -> F4:
    """Of the last reading."""
    x = scaling.scaled(value)
    e = persistence(x)
    states = arrays_of(scorer.columns())
    scorer.judged(np.zeros(len(x), np.int32), value, x, e, states)
    return scorer.shares(0, x[-1], e[-1], states)


def reference(scorer: BandScorer, value: F4, x: F4, e: F4) -> NDArray[np.float64]:
    """The score as its documentation writes it, in float64, one stream."""
    t_end, d = x.shape
    means, level, slow = np.full((3, d), np.nan), np.zeros(d), np.zeros(d)
    top_mean = joint_mean = slow_mean = 0.0
    low, high = scorer.low.astype(float), scorer.high.astype(float)
    out = np.empty(t_end)
    for t in range(t_end):
        here = ~np.isnan(x[t])
        for j, rate in enumerate(RATES):
            means[j, here] = np.where(np.isnan(means[j]), x[t], means[j] + rate * (x[t] - means[j]))[here]
        seen = np.where(here, x[t], means[0])
        bands = np.stack((seen - means[0], means[0] - means[1], means[1] - means[2], means[2] - level)) / scorer.band_scale
        level = level + np.where(here, scorer.level_rate * (np.nan_to_num(x[t]) - level), 0)
        f = np.nan_to_num(bands).ravel()
        slow[here] += 0.3 * (e[t] - slow)[here]
        g = np.where(here, (e[t] - slow) / scorer.error_fast, 0)
        sizes = scorer.weight * np.abs(e[t]) / scorer.error_scale
        largest = np.sort(np.log1p(np.where(here, sizes, 0)))[::-1][:3]
        top_mean += 0.3 * (largest.sum() / min(d, 3) - top_mean)
        joint_mean += 0.1 * (np.log1p(((scorer.error_white @ g) ** 2).mean() / scorer.error_q99[0]) - joint_mean)
        outside = np.where(here, np.maximum(np.maximum(value[t] - high, low - value[t]), 0), 0)
        extreme = np.log1p(
            (outside / (high - low)).max() / (0.007 * np.sqrt(max(scorer.weight.sum(), 1)) * (1 + 500 / (scorer.count[0] + t)))
        )
        low, high = np.fmin(low, np.maximum(value[t], 2 * low - high)), np.fmax(high, np.minimum(value[t], 2 * high - low))
        whole = np.log1p(((scorer.band_white @ f) ** 2).mean() / scorer.band_q99[0])
        if here.any():
            slow_mean += 0.03 * (sizes[here].sum() / scorer.weight[here].sum() - slow_mean)
        measured = np.array((whole, top_mean, joint_mean, slow_mean))
        terms = np.log1p(np.maximum((measured - scorer.middle) / scorer.width, 0))
        out[t] = np.sqrt(2 * terms[BANDS] ** 2 + (terms[[ERRORS, JOINT, SLOW]] ** 2).sum() + 2 * extreme**2)
    return out


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 12])
def test_the_score_is_what_its_documentation_says(channels: int) -> None:
    """Of channels that change with every reading, and, where there are three, of one that does with every eighth."""
    trained, value = [normal_values(800, channels, seed) for seed in range(2)], normal_values(400, channels, 7)
    if channels > 2:
        for each in (*trained, value):
            each[:, 1] = each[::8, 1].repeat(8)
    scaling, scorer = fitted(trained)
    assert scorer.weight.min() == pytest.approx(0.25 if channels > 2 else 1, rel=0.02)
    rng = np.random.default_rng(0)
    value[rng.random(value.shape) < 0.1] = np.nan
    value[:20, 0] = value[100:140, -1] = np.nan
    value[200:230, 0] = value[200, 0]
    value[300] += 50 * np.nanstd(value, axis=0)
    value[310] = np.nan
    x = scaling.scaled(value)
    e = persistence(x)
    assert scores(scaling, scorer, value) == pytest.approx(reference(scorer, value, x, e), rel=2e-4, abs=2e-4)


def test_each_term_is_near_its_quantile_on_normal_readings() -> None:
    """A value beyond its 99 % quantile, one reading in a hundred: a term of log1p(1) and more."""
    values = [normal_values(4_000, 3, seed) for seed in range(2)]
    scaling, scorer = fitted(values)
    normal = scores(scaling, scorer, normal_values(4_000, 3, 9))[100:]
    assert 0 < np.median(normal) < 1.5
    assert np.quantile(normal, 0.99) < 3


def test_a_plant_that_drifts_away_stays_normal_and_a_shift_does_not() -> None:
    scaling, scorer = fitted([normal_values(4_000, 2, seed) for seed in range(2)])
    value = normal_values(12_000, 2, 9)
    usual, deviation = np.median(scores(scaling, scorer, value)[-500:]), value.std(axis=0)
    drifted = value + np.linspace(0, 6, len(value), dtype=np.float32)[:, None] * deviation
    stays = replace(scorer, level_rate=np.zeros(1, np.float32))
    assert np.median(scores(scaling, scorer, drifted)[-500:]) < np.median(scores(scaling, stays, drifted)[-500:]) - 0.5
    shifted = drifted.copy()
    shifted[-100:] += 6 * deviation
    assert np.median(scores(scaling, scorer, shifted)[-60:]) > usual + 1


def test_what_an_alert_is_about_does_not_become_normal_while_it_is_open() -> None:
    """The alarm's column holds the level; without an alert a lasting shift is learned."""
    scaling, scorer = fitted([normal_values(2_000, 2, seed) for seed in range(2)])
    x = scaling.scaled(normal_values(6_000, 2, 9) + np.float32(6) * normal_values(2_000, 2, 9).std(axis=0))
    learned, held = arrays_of(scorer.columns()), arrays_of(scorer.columns())
    held["is_open"][:] = 1
    rows = np.zeros(len(x), np.int32)
    follows, stays = (scorer.judged(rows, x, x, persistence(x), states)[0] for states in (learned, held))
    assert follows[100] == pytest.approx(stays[100], rel=0.1)
    assert np.median(follows[-500:]) < 0.6 * np.median(stays[-500:])
    assert (held["level"] == 0).all()
    assert learned["level"] == pytest.approx(x[-2_000:].mean(axis=0)[None], abs=0.5)


def worst(score: F4, start: int, end: int) -> float:
    return float(score[start:end].max())


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("fault", ["spike", "level", "noise"])
def test_a_fault_raises_the_score_and_its_channel_takes_the_blame(fault: str, channels: int) -> None:
    scaling, scorer = fitted([normal_values(2_000, channels, seed) for seed in range(2)])
    value = normal_values(1_000, channels, 5)
    usual = worst(scores(scaling, scorer, value), 100, 1_000)
    faulty, channel, start, end = value.copy(), channels - 1, 600, 660
    part, deviation = faulty[start:end], float(value[:, channel].std())
    match fault:
        case "spike":
            end = start + 1
            part[0, channel] += 10 * deviation
        case "level":
            part[:, channel] += 6 * deviation
        case "noise":
            part[:, channel] += (4 * deviation * np.random.default_rng(0).standard_normal(len(part))).astype(np.float32)
    score = scores(scaling, scorer, faulty)
    assert np.array_equal(score[:start], scores(scaling, scorer, value)[:start])
    assert worst(score, start, end) > 1.3 * usual
    shares = shares_at(scaling, scorer, faulty[:end])
    assert shares.sum() == pytest.approx(1)
    assert (shares >= 0).all()
    assert shares.argmax() == channel


def test_a_broken_correlation_is_strange_though_each_channel_alone_is_not() -> None:
    """Two channels that move together; then the second repeats what was normal for it at another time."""
    rng = np.random.default_rng(0)

    def pair(seed: int) -> F4:
        wave = np.sin(np.arange(2_000) * 0.3 + seed)
        return (np.stack((wave, 5 * wave), axis=1) + 0.05 * rng.standard_normal((2_000, 2)) * (1, 5)).astype(np.float32)

    scaling, scorer = fitted([pair(0), pair(1)])
    value = pair(2)
    broken = value.copy()
    broken[1_000:1_200, 1] = value[1_010:1_210, 1]
    alone = [fitted([pair(0)[:, k : k + 1], pair(1)[:, k : k + 1]]) for k in range(2)]
    for k, (scaling_k, scorer_k) in enumerate(alone):
        before = scores(scaling_k, scorer_k, value[:, k : k + 1])[1_050:1_200]
        assert np.median(scores(scaling_k, scorer_k, broken[:, k : k + 1])[1_050:1_200]) < 1.5 * np.median(before)
    together = scores(scaling, scorer, value)[100:1_000]
    assert np.median(scores(scaling, scorer, broken)[1_050:1_200]) > np.quantile(together, 0.999)


def test_a_missing_value_teaches_its_channel_nothing() -> None:
    scaling, scorer = fitted([normal_values(500, 3)])
    value = normal_values(50, 3, 4)
    states = arrays_of(scorer.columns())
    row = np.zeros(1, np.int32)
    x = scaling.scaled(value)
    for t in range(40):
        scorer.judged(row, value[t : t + 1], x[t : t + 1], x[t : t + 1], states)
    before = {name: array[0].copy() for name, array in states.items()}
    value[40, 1] = np.nan
    x = scaling.scaled(value)
    scorer.judged(row, value[40:41], x[40:41], x[40:41], states)
    for name in ("bands", "error_band", "value_last"):
        assert np.array_equal(states[name][0][..., 1], before[name][..., 1])
    assert not np.array_equal(states["bands"][0][..., 0], before["bands"][..., 0])


def test_streams_are_scored_apart() -> None:
    """Interleaved in any order of rows: the same bits as one stream after the other."""
    scaling, scorer = fitted([normal_values(500, 2)])
    values = [normal_values(60, 2, seed) for seed in range(4)]
    alone = np.stack([scores(scaling, scorer, value) for value in values])
    states, together = arrays_of(scorer.columns(), 4), np.empty_like(alone)
    rng, xs = np.random.default_rng(0), [scaling.scaled(value) for value in values]
    es = [persistence(x) for x in xs]
    for t in range(60):
        rows = rng.permutation(4).astype(np.int32)
        value, x, e = (np.stack([array[row][t] for row in rows]) for array in (values, xs, es))
        together[rows, t] = scorer.judged(rows, value, x, e, states)[0]
    assert together.tobytes() == alone.tobytes()


@pytest.mark.parametrize("channels", [1, 2, 38])
def test_a_score_is_finite_and_not_negative_whatever_comes(channels: int) -> None:
    rng = np.random.default_rng(0)
    constant = normal_values(300, channels)
    constant[:, 0] = 4.0
    scaling, scorer = fitted([constant])
    value = (rng.standard_normal((300, channels)) * 10.0 ** rng.integers(-10, 30, (300, channels))).astype(np.float32)
    value[rng.random(value.shape) < 0.3] = np.nan
    value[:10] = np.nan
    value[200:210] = np.nan
    score = scores(scaling, scorer, value)
    assert np.isfinite(score).all()
    assert (score >= 0).all()
    for end in (5, 150, 205, 300):
        shares = shares_at(scaling, scorer, value[:end])
        assert shares.sum() == pytest.approx(1, abs=1e-5)
        assert np.isfinite(shares).all()


def test_it_can_be_fitted_on_constant_missing_and_copied_channels() -> None:
    value = normal_values(500, 5)
    value[:, 1], value[:, 2], value[:, 3] = 3.0, np.nan, value[:, 0]
    value[100:150, 4] = np.nan
    scaling, scorer = fitted([value])
    assert all(np.isfinite(array).all() for name, array in scorer.arrays().items() if name not in ("low", "high"))
    assert (scorer.low[[1, 2]].tolist(), scorer.high[[1, 2]].tolist()) == ([3.0, np.inf], [3.0, -np.inf])
    assert np.isfinite(scores(scaling, scorer, value)).all()


def test_what_tells_little_counts_little() -> None:
    """A sensor, one whose values are coarse, a command once in a hundred readings, a switch that nobody has touched: an error as large
    in each, and what a leap of each adds to the score."""

    def recorded(seed: int) -> F4:
        value = normal_values(4_000, 4, seed)
        value[:, 1] = value[::2, 1].repeat(2)
        value[:, 2] = np.random.default_rng(seed).random(40).repeat(100)
        value[:, 3] = 0
        return value

    scaling, scorer = fitted([recorded(0), recorded(1)])
    assert scorer.weight == pytest.approx([1, 1, 0.02, 0.001], rel=0.05)
    assert told_by(scorer.weight) == pytest.approx(2.021, rel=1e-3)
    assert scorer.held_share == pytest.approx(0.5)
    value = recorded(2)[:500]
    x = scaling.scaled(value)
    e, found = persistence(x), []
    for channel in range(4):
        strange = e.copy()
        strange[300, channel] += 20 * scorer.error_scale[channel]
        found.append(scorer.of_one_stream(value, x, strange)[1][300, [ERRORS, SLOW]])
    usual = scorer.of_one_stream(value, x, e)[1][300, [ERRORS, SLOW]]
    sensor, coarse, command, switch = np.array(found) - usual
    assert (sensor > 0.5).all()
    assert (coarse > 0.5).all()
    assert (command < 0.2 * sensor).all()
    assert (switch < 0.02 * sensor).all()


def test_arrays_are_all_that_is_needed_to_score_again() -> None:
    scaling, scorer = fitted([normal_values(500, 3)])
    other = BandScorer(**{name: array.copy() for name, array in scorer.arrays().items()})
    value = normal_values(100, 3, 3)
    assert scores(scaling, scorer, value).tobytes() == scores(scaling, other, value).tobytes()


def test_a_value_beyond_all_before_is_an_extreme_once_and_its_channel_takes_the_blame() -> None:
    """The second channel leaps a little higher than ever, twice as high, then the same again: each is known from then on."""
    scaling, scorer = fitted([normal_values(2_000, 2, seed) for seed in range(2)])
    value = normal_values(300, 2, 5)
    span = float(scorer.high[1] - scorer.low[1])
    value[:, 1] = np.clip(value[:, 1], scorer.low[1], scorer.high[1])
    value[[100, 150, 200], 1] = scorer.high[1] + span * np.array([0.1, 0.5, 0.5], np.float32)
    margin = 0.007 * np.sqrt(2) * (1 + 500 / (4_000 + np.array([100, 150])))
    x = scaling.scaled(value)
    extremes = scorer.of_one_stream(value, x, persistence(x))[1][:, EXTREMES]
    assert extremes[[100, 150]] == pytest.approx(np.log1p(np.array([0.1, 0.4 / 1.1]) / margin), rel=1e-3)
    assert np.delete(extremes, [100, 150])[:200].max() == 0
    assert shares_at(scaling, scorer, value[:101])[1] > 0.9


def test_one_absurd_value_does_not_hide_all_that_follow() -> None:
    scaling, scorer = fitted([normal_values(2_000, 1, seed) for seed in range(2)])
    value = normal_values(300, 1, 5)
    value[100], value[200] = 1e30, scorer.high + 3 * (scorer.high - scorer.low)
    x = scaling.scaled(value)
    extremes = scorer.of_one_stream(value, x, persistence(x))[1][:, EXTREMES]
    assert extremes[200] > 3


def test_a_stream_that_brings_its_own_range_needs_one_first() -> None:
    """No first value is an extreme, nor is any departure from what was always the same; and early ones count little."""
    _, scorer = fitted([normal_values(2_000, 1, seed) for seed in range(2)])
    alone = replace(scorer, low=np.full(1, np.inf, np.float32), high=np.full(1, -np.inf, np.float32), count=np.zeros(1, np.float32))
    value = np.full((3_000, 1), 5, np.float32)
    value[50], value[60], value[2_000] = 6, 7, 8

    def extremes(value: F4) -> F4:
        return alone.of_one_stream(value, value, value)[1][:, EXTREMES]

    found = extremes(value)
    assert np.flatnonzero(found).tolist() == [60, 2_000]
    assert found[60] < found[2_000]
    assert extremes(np.arange(3_000, dtype=np.float32)[:, None])[1_000:].max() < 0.15


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_the_tiled_score_of_equal_channels_is_that_of_one(channels: int) -> None:
    """Terms are means, or largest ones, over channels: how many there are must not matter. But of many, one is an extreme sooner."""
    scaling, scorer = fitted([normal_values(400, 1, seed) for seed in range(3)])
    value = normal_values(300, 1, 9)
    value[100:120] += 30
    x = scaling.scaled(value)
    wide, rows = scorer.tiled(channels), np.zeros(len(x), np.int32)
    one = scorer.judged(rows, value, x, persistence(x), arrays_of(scorer.columns()))[1]
    values, xs, es = (np.repeat(array, channels, axis=1) for array in (value, x, persistence(x)))
    many = wide.judged(rows, values, xs, es, arrays_of(wide.columns()))[1]
    assert wide.channels == channels
    assert many[:, :EXTREMES] == pytest.approx(one[:, :EXTREMES], rel=1e-4, abs=1e-5)
    assert np.expm1(many[:, EXTREMES]) == pytest.approx(np.expm1(one[:, EXTREMES]) / np.sqrt(channels), rel=1e-3)
