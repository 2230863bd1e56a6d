"""The classical forecasters on signals whose best forecast is known. What every detector has to hold is in test_levels.py."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import lfilter

from detector.lab.calibration import floored
from detector.lab.evaluate.filters import error_scale, from_lags, in_blocks, past
from detector.lab.evaluate.forecasts import FORECASTERS, FORECASTS, VECTORS_CURVED_CHANNELS, errors_of
from tests.core.builders import normal_values

F4 = NDArray[np.float32]
LEARNT = [name for name in FORECASTERS if name != "persistence"]


def recursion(readings: int, channels: int = 1, seed: int = 0) -> F4:
    """AR(2) of standard deviation 1, f4[T, D]: the best forecast is wrong by NOISE."""
    noise = np.random.default_rng(seed).standard_normal((readings, channels))
    return np.asarray(NOISE * lfilter([1.0], [1.0, -1.6, 0.8], noise, axis=0), np.float32)


NOISE = np.sqrt((1 - 0.8) * ((1 + 0.8) ** 2 - 1.6**2) / (1 + 0.8))


def error(name: str, signal: F4, cut: int = 1_200) -> float:
    """Root mean square error on what follows the first `cut` readings, of which 3/4 fit."""
    forecast = FORECASTERS[name](signal[: 3 * cut // 4], signal[3 * cut // 4 : cut], 0)
    after = signal[cut:]
    return float(np.sqrt(np.mean((forecast(after) - after)[20:] ** 2)))


def test_every_forecaster_has_a_detector() -> None:
    assert [detector.name for detector in FORECASTS] == list(FORECASTERS)
    assert [detector.name for detector in FORECASTS if detector.is_seeded] == ["support_vectors", "feed_forward"]


def test_persistence_expects_the_last_reading() -> None:
    x = normal_values(10, 2)
    np.testing.assert_array_equal(FORECASTERS["persistence"](x, x, 0)(x), np.concatenate((np.zeros((1, 2)), x[:-1])))


@pytest.mark.parametrize(
    ("name", "worse"), [("autoregression", 1.1), ("arima", 1.25), ("spectrum", 3.0), ("support_vectors", 1.25), ("feed_forward", 1.3)]
)
def test_a_linear_recursion_is_forecast_nearly_to_its_noise(name: str, worse: float) -> None:
    signal = recursion(2_000)
    assert 0.9 * NOISE < error(name, signal) < worse * NOISE


def test_many_channels_are_forecast_by_linear_support_vectors() -> None:
    signal = recursion(1_600, VECTORS_CURVED_CHANNELS + 1)
    assert error("support_vectors", signal) < 1.15 * NOISE


@pytest.mark.parametrize("name", ["spectrum", "autoregression"])
def test_a_sine_is_continued(name: str) -> None:
    signal = np.sin(0.2 * np.arange(1_600, dtype=np.float32))[:, None]
    x = signal[1_200:]
    assert np.abs(FORECASTERS[name](signal[:900], signal[900:1_200], 0)(x) - x)[70:].max() < 0.03


def test_arima_is_never_much_worse_than_persistence() -> None:
    """Without noise its fit ends at the edge of what is stationary, or does not end."""
    signal = np.sin(0.2 * np.arange(1_600, dtype=np.float32))[:, None]
    assert error("arima", signal) <= 1.01 * error("persistence", signal)


def test_the_spectrum_does_not_amplify_noise() -> None:
    noise = np.random.default_rng(0).standard_normal((1_600, 1)).astype(np.float32)
    assert error("spectrum", noise) < 1.5  # the best is 1; without a limit on nu^2 it is 3


@pytest.mark.parametrize("name", LEARNT)
def test_what_did_not_vary_is_as_it_was_and_disturbs_nobody(name: str) -> None:
    """A constant channel that jumps is expected where it now is, and the others as if it were not there."""
    x = recursion(800, 2)
    constant = np.zeros((800, 1), np.float32)
    jumped = np.where(np.arange(400) < 200, 0, 20).astype(np.float32)[:, None]
    with_it = FORECASTERS[name](np.hstack((x, constant))[:600], np.hstack((x, constant))[600:], 0)(np.hstack((x[:400], jumped)))
    np.testing.assert_array_equal(with_it[:, :2], FORECASTERS[name](x[:600], x[600:], 0)(x[:400]))
    np.testing.assert_array_equal(with_it[1:, 2], jumped[:-1, 0])


@pytest.mark.parametrize("name", LEARNT)
def test_a_channel_may_vary_at_the_end_of_the_fitting_part_only(name: str) -> None:
    fit = np.zeros((75, 1), np.float32)
    fit[-1] = 8.0
    expected = FORECASTERS[name](fit, np.zeros((25, 1), np.float32), 0)(recursion(200))
    assert np.isfinite(expected).all()


@pytest.mark.parametrize("name", ["support_vectors", "feed_forward"])
def test_another_seed_is_another_forecast(name: str) -> None:
    x = recursion(2_600, 1)
    one, other = (FORECASTERS[name](x[:1_900], x[1_900:], seed)(x[:50]) for seed in (0, 1))
    assert (one != other).any()


def test_the_expectation_is_in_engineering_units() -> None:
    train, test = normal_values(400, 2), normal_values(100, 2, seed=1)
    test[50, 0] = np.nan
    expected = FORECASTS[0].fit(train, 0)(test).expected
    assert expected is not None
    np.testing.assert_allclose(expected[1:50], test[:49], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(expected[51, 0], test[49, 0], rtol=1e-4)  # as the last one seen


def test_the_score_is_the_smoothed_mean_of_the_three_largest_errors() -> None:
    detector = errors_of("mean", "the training mean", lambda fit, calibrate, seed: np.zeros_like)
    rng = np.random.default_rng(0)
    train = rng.standard_normal((4_000, 4)).astype(np.float32)
    test = np.zeros((2, 4), np.float32)
    test[0] = 1, -2, 3, 0.1
    test[1] = 0, np.nan, 0, 0
    score = detector.fit(train, 0)(test).score
    first = 0.1 * np.log1p(np.array([1, 2, 3]) / 2.576).mean()
    np.testing.assert_allclose(score, [first, 0.9 * first], rtol=0.08)


def test_divisors_are_floored() -> None:
    np.testing.assert_allclose(floored(np.array([0.0, 1.0, 3.0])), [0.1, 1, 3])
    np.testing.assert_allclose(floored(np.zeros(2)), 0.01)
    errors = np.full((100, 2), 2.0)
    errors[:, 1] = np.nan
    np.testing.assert_allclose(error_scale(errors), [2, 0.1])


def test_the_past_is_the_last_first_and_nothing_comes_before_the_first() -> None:
    x = np.arange(1, 6, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(past(x, np.array([1, 4]), 3)[:, :, 0], [[1, 1, 1], [4, 3, 2]])
    np.testing.assert_array_equal(from_lags(x, np.array([[1.0], [0.0], [0.5]]), np.array([10.0]))[:, 0], [0, 11.5, 12.5, 13.5, 15])


@pytest.mark.parametrize("readings", [1, 1_024, 1_025])
def test_blocks_all_have_one_shape(readings: int) -> None:
    lengths = []

    def of_rows(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        lengths.append(len(rows))
        assert rows.max() < readings
        return rows

    np.testing.assert_array_equal(in_blocks(readings, of_rows), np.arange(readings))
    assert set(lengths) == {1_024}
