"""Readings and residuals -> a score."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.core.scaler import Scaling
from detector.core.score import TERM_NAMES, Score
from detector.lab.scoring import scored
from tests.core.builders import normal_values
from tests.core.scoring import Followed, fitted, persistence, scores_of

F4 = NDArray[np.float32]
RATES = (0.3, 0.1, 0.03)
BANDS, FAST, WHITENED, SLOW, RANGE = range(len(TERM_NAMES))


def shares_at(scaling: Scaling, score: Score, value: F4) -> F4:
    """Of the last reading."""
    x = scaling.scaled(value)
    shares: F4 = Followed(score).see(value, x, persistence(x))[1][-1]
    return shares


def reference(score: Score, value: F4, x: F4, e: F4) -> NDArray[np.float64]:
    """The score as its documentation writes it, in float64, one stream."""
    t_end, d = x.shape
    means, level, slow = np.full((3, d), np.nan), np.zeros(d), np.zeros(d)
    top_mean = whitened_mean = slow_mean = 0.0
    low, high = score.low.astype(float), score.high.astype(float)
    out = np.empty(t_end)
    for t in range(t_end):
        here = ~np.isnan(x[t])
        for j, rate in enumerate(RATES):
            means[j, here] = np.where(np.isnan(means[j]), x[t], means[j] + rate * (x[t] - means[j]))[here]
        seen = np.where(here, x[t], means[0])
        bands = np.stack((seen - means[0], means[0] - means[1], means[1] - means[2], means[2] - level)) / score.band_scale
        level = level + np.where(here, score.level_rate * (np.nan_to_num(x[t]) - level), 0)
        f = np.nan_to_num(bands).ravel()
        slow[here] += 0.3 * (e[t] - slow)[here]
        g = np.where(here, (e[t] - slow) / score.error_fast, 0)
        sizes = score.weight * np.abs(e[t]) / score.error_scale
        largest = np.sort(np.log1p(np.where(here, sizes, 0)))[::-1][:3]
        top_mean += 0.3 * (largest.sum() / min(d, 3) - top_mean)
        whitened_mean += 0.1 * (np.log1p(((score.error_white @ g) ** 2).mean() / score.error_q99[0]) - whitened_mean)
        outside = np.where(here, np.maximum(np.maximum(value[t] - high, low - value[t]), 0), 0)
        outside_term = np.log1p(
            (outside / (high - low)).max() / (0.007 * np.sqrt(max(score.weight.sum(), 1)) * (1 + 500 / (score.count[0] + t)))
        )
        low, high = np.fmin(low, np.maximum(value[t], 2 * low - high)), np.fmax(high, np.minimum(value[t], 2 * high - low))
        whole = np.log1p(((score.band_white @ f) ** 2).mean() / score.band_q99[0])
        if here.any():
            slow_mean += 0.03 * (sizes[here].sum() / score.weight[here].sum() - slow_mean)
        measured = np.array((whole, top_mean, whitened_mean, slow_mean))
        terms = np.log1p(np.maximum((measured - score.middle) / score.width, 0))
        out[t] = np.sqrt(2 * terms[BANDS] ** 2 + (terms[[FAST, WHITENED, SLOW]] ** 2).sum() + 2 * outside_term**2)
    return out


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 12])
def test_the_score_is_what_its_documentation_says(channels: int) -> None:
    """Of channels that change with every reading, and, where there are three, of one that does with every eighth."""
    trained, value = [normal_values(800, channels, seed) for seed in range(2)], normal_values(400, channels, 7)
    if channels > 2:
        for each in (*trained, value):
            each[:, 1] = each[::8, 1].repeat(8)
    scaling, score = fitted(trained)
    assert score.weight.min() == pytest.approx(0.25 if channels > 2 else 1, rel=0.02)
    rng = np.random.default_rng(0)
    value[rng.random(value.shape) < 0.1] = np.nan
    value[:20, 0] = value[100:140, -1] = np.nan
    value[200:230, 0] = value[200, 0]
    value[300] += 50 * np.nanstd(value, axis=0)
    value[310] = np.nan
    x = scaling.scaled(value)
    e = persistence(x)
    assert scores_of(scaling, score, value) == pytest.approx(reference(score, value, x, e), rel=2e-4, abs=2e-4)


def test_a_plant_that_drifts_away_stays_normal_and_a_shift_does_not() -> None:
    scaling, score = fitted([normal_values(4_000, 2, seed) for seed in range(2)])
    value = normal_values(12_000, 2, 9)
    usual, deviation = np.median(scores_of(scaling, score, value)[-500:]), value.std(axis=0)
    drifted = value + np.linspace(0, 6, len(value), dtype=np.float32)[:, None] * deviation
    stays = replace(score, level_rate=np.zeros(1, np.float32))
    assert np.median(scores_of(scaling, score, drifted)[-500:]) < np.median(scores_of(scaling, stays, drifted)[-500:]) - 0.5
    shifted = drifted.copy()
    shifted[-100:] += 6 * deviation
    assert np.median(scores_of(scaling, score, shifted)[-60:]) > usual + 1


def test_what_an_alert_is_about_does_not_become_normal_while_it_is_open() -> None:
    """The level stands still; without an alert a lasting shift is learned."""
    scaling, score = fitted([normal_values(2_000, 2, seed) for seed in range(2)])
    value = normal_values(6_000, 2, 9) + np.float32(6) * normal_values(2_000, 2, 9).std(axis=0)
    x = scaling.scaled(value)
    learned, held = Followed(score), Followed(score)
    held.record.heads["score_open"] = 1
    follows, stays = (each.see(value, x, persistence(x))[0] for each in (learned, held))
    assert follows[100] == pytest.approx(stays[100], rel=0.1)
    assert np.median(follows[-500:]) < 0.6 * np.median(stays[-500:])
    assert (held.record.part("level") == 0).all()
    assert learned.record.part("level") == pytest.approx(x[-2_000:].mean(axis=0), abs=0.5)


def worst(found: F4, start: int, end: int) -> float:
    return float(found[start:end].max())


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("fault", ["spike", "level", "noise"])
def test_a_fault_raises_the_score_and_its_channel_takes_the_blame(fault: str, channels: int) -> None:
    scaling, score = fitted([normal_values(2_000, channels, seed) for seed in range(2)])
    value = normal_values(1_000, channels, 5)
    usual = worst(scores_of(scaling, score, value), 100, 1_000)
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
    found = scores_of(scaling, score, faulty)
    assert np.array_equal(found[:start], scores_of(scaling, score, value)[:start])
    assert worst(found, start, end) > 1.3 * usual
    shares = shares_at(scaling, score, faulty[:end])
    assert shares.sum() == pytest.approx(1)
    assert (shares >= 0).all()
    assert shares.argmax() == channel


def test_a_broken_correlation_is_strange_though_each_channel_alone_is_not() -> None:
    """Two channels that move together; then the second repeats what was normal for it at another time."""
    rng = np.random.default_rng(0)

    def pair(seed: int) -> F4:
        wave = np.sin(np.arange(2_000) * 0.3 + seed)
        return (np.stack((wave, 5 * wave), axis=1) + 0.05 * rng.standard_normal((2_000, 2)) * (1, 5)).astype(np.float32)

    scaling, score = fitted([pair(0), pair(1)])
    value = pair(2)
    broken = value.copy()
    broken[1_000:1_200, 1] = value[1_010:1_210, 1]
    alone = [fitted([pair(0)[:, k : k + 1], pair(1)[:, k : k + 1]]) for k in range(2)]
    for k, (scaling_k, score_k) in enumerate(alone):
        before = scores_of(scaling_k, score_k, value[:, k : k + 1])[1_050:1_200]
        assert np.median(scores_of(scaling_k, score_k, broken[:, k : k + 1])[1_050:1_200]) < 1.5 * np.median(before)
    together = scores_of(scaling, score, value)[100:1_000]
    assert np.median(scores_of(scaling, score, broken)[1_050:1_200]) > np.quantile(together, 0.999)


def test_a_missing_value_teaches_its_channel_nothing() -> None:
    scaling, score = fitted([normal_values(500, 3)])
    value, stream = normal_values(50, 3, 4), Followed(score)
    value[40, 1] = np.nan
    x = scaling.scaled(value)
    stream.see(value[:40], x[:40], x[:40])
    before = {name: stream.record.part(name).copy() for name in stream.record.layout.shapes}
    stream.see(value[40:41], x[40:41], x[40:41])
    for name, was in before.items():
        assert np.array_equal(stream.record.part(name)[..., 1], was[..., 1])
    for name in ("ewma", "level", "residual_ewma", "value_last"):
        assert (stream.record.part(name)[..., [0, 2]] != before[name][..., [0, 2]]).all()


@pytest.mark.parametrize("channels", [1, 2, 38])
def test_a_score_is_finite_and_not_negative_whatever_comes(channels: int) -> None:
    rng = np.random.default_rng(0)
    constant = normal_values(300, channels)
    constant[:, 0] = 4.0
    scaling, score = fitted([constant])
    value = (rng.standard_normal((300, channels)) * 10.0 ** rng.integers(-10, 30, (300, channels))).astype(np.float32)
    value[rng.random(value.shape) < 0.3] = np.nan
    value[:10] = np.nan
    value[200:210] = np.nan
    x = scaling.scaled(value)
    found, shares = Followed(score).see(value, x, persistence(x))
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert shares.sum(axis=1) == pytest.approx(np.ones(300), abs=1e-5)
    assert np.isfinite(shares).all()


def test_what_tells_little_counts_little() -> None:
    """A sensor, one whose values are coarse, a command once in a hundred readings, a switch that nobody has touched: an error as large
    in each, and what a leap of each adds to the score."""

    def recorded(seed: int) -> F4:
        value = normal_values(4_000, 4, seed)
        value[:, 1] = value[::2, 1].repeat(2)
        value[:, 2] = np.random.default_rng(seed).random(40).repeat(100)
        value[:, 3] = 0
        return value

    scaling, score = fitted([recorded(0), recorded(1)])
    assert score.weight == pytest.approx([1, 1, 0.02, 0.01], rel=0.05)
    value = recorded(2)[:500]
    x = scaling.scaled(value)
    e, found = persistence(x), []
    for channel in range(4):
        strange = e.copy()
        strange[300, channel] += 20 * score.error_scale[channel]
        found.append(scored(score, value, x, strange)[1][300, [FAST, SLOW]])
    usual = scored(score, value, x, e)[1][300, [FAST, SLOW]]
    sensor, coarse, command, switch = np.array(found) - usual
    assert (sensor > 0.5).all()
    assert (coarse > 0.5).all()
    assert (command < 0.2 * sensor).all()
    assert (switch < 0.05 * sensor).all()


def test_arrays_are_all_that_is_needed_to_score_again() -> None:
    scaling, score = fitted([normal_values(500, 3)])
    other = Score(**{name: array.copy() for name, array in score.arrays().items()})
    value = normal_values(100, 3, 3)
    assert scores_of(scaling, score, value).tobytes() == scores_of(scaling, other, value).tobytes()


def test_a_value_beyond_all_before_is_out_of_range_once_and_its_channel_takes_the_blame() -> None:
    """The second channel leaps a little higher than ever, twice as high, then the same again: each is known from then on."""
    scaling, score = fitted([normal_values(2_000, 2, seed) for seed in range(2)])
    value = normal_values(300, 2, 5)
    span = float(score.high[1] - score.low[1])
    value[:, 1] = np.clip(value[:, 1], score.low[1], score.high[1])
    value[[100, 150, 200], 1] = score.high[1] + span * np.array([0.1, 0.5, 0.5], np.float32)
    margin = 0.007 * np.sqrt(2) * (1 + 500 / (4_000 + np.array([100, 150])))
    x = scaling.scaled(value)
    ranges = scored(score, value, x, persistence(x))[1][:, RANGE]
    assert ranges[[100, 150]] == pytest.approx(np.log1p(np.array([0.1, 0.4 / 1.1]) / margin), rel=1e-3)
    assert np.delete(ranges, [100, 150])[:200].max() == 0
    assert shares_at(scaling, score, value[:101])[1] > 0.9


def test_one_absurd_value_does_not_hide_all_that_follow() -> None:
    scaling, score = fitted([normal_values(2_000, 1, seed) for seed in range(2)])
    value = normal_values(300, 1, 5)
    value[100], value[200] = 1e30, score.high + 3 * (score.high - score.low)
    x = scaling.scaled(value)
    ranges = scored(score, value, x, persistence(x))[1][:, RANGE]
    assert ranges[200] > 3


def test_a_stream_that_brings_its_own_range_needs_one_first() -> None:
    """No first value is out of range, nor is any departure from what was always the same; and early ones count little."""
    _, score = fitted([normal_values(2_000, 1, seed) for seed in range(2)])
    alone = replace(score, low=np.full(1, np.inf, np.float32), high=np.full(1, -np.inf, np.float32), count=np.zeros(1, np.float32))
    value = np.full((3_000, 1), 5, np.float32)
    value[50], value[60], value[2_000] = 6, 7, 8

    def ranges(value: F4) -> F4:
        return scored(alone, value, value, value)[1][:, RANGE]

    found = ranges(value)
    assert np.flatnonzero(found).tolist() == [60, 2_000]
    assert found[60] < found[2_000]
    assert ranges(np.arange(3_000, dtype=np.float32)[:, None])[1_000:].max() < 0.15


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_the_tiled_score_of_equal_channels_is_that_of_one(channels: int) -> None:
    """Terms are means, or largest ones, over channels: how many there are must not matter. But of many, one is out of range sooner."""
    scaling, score = fitted([normal_values(400, 1, seed) for seed in range(3)])
    value = normal_values(300, 1, 9)
    value[100:120] += 30
    x = scaling.scaled(value)
    wide = score.tiled(channels)
    one = scored(score, value, x, persistence(x))[1]
    values, xs, es = (np.repeat(array, channels, axis=1) for array in (value, x, persistence(x)))
    many = scored(wide, values, xs, es)[1]
    assert wide.channels == channels
    assert many[:, :RANGE] == pytest.approx(one[:, :RANGE], rel=1e-4, abs=1e-5)
    assert np.expm1(many[:, RANGE]) == pytest.approx(np.expm1(one[:, RANGE]) / np.sqrt(channels), rel=1e-3)


def test_the_decaying_peak_ranks_what_follows_a_strange_reading_the_more_the_less_a_reading_tells() -> None:
    """Half of it where a reading tells one value, a quarter where it tells two; it fades by 1 / 400 with every reading."""
    for channels in (1, 2):
        scaling, score = fitted([normal_values(800, channels, seed) for seed in range(2)])
        value = normal_values(600, channels, 9)
        value[100] += 40 * value.std(axis=0)
        x = scaling.scaled(value)
        alone, _, with_peak = scored(score, value, x, persistence(x))
        peak = 0.0
        for t in range(600):
            assert with_peak[t] ** 2 == pytest.approx(alone[t] ** 2 + 0.5 / channels * peak**2, rel=1e-4)
            peak = max(peak * np.exp(-1 / 400), float(alone[t]))
        assert with_peak[300] > 1.5 * alone[300]
