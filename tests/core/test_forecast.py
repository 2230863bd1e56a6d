"""From the memory to the forecast, against its definitions: whole sequences through a network in engineering units that are scaled ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.core.forecast import LAGS, ONE_AHEAD, SCALED_MAX, Kind, Network
from detector.core.lstm import gates
from detector.lab.playback import Playback, play
from tests.core.builders import network_of, unfitted_model_of

F4 = NDArray[np.float32]
KINDS: tuple[Kind, ...] = ("prediction", "reconstruction")


def drawn(readings: int, channels: int, seed: int = 1, sequences: int = 1) -> F4:
    return np.random.default_rng(seed).standard_normal((sequences, readings, channels), np.float32)


def played(network: Network, values: F4) -> Playback:
    return play(unfitted_model_of(network), values, with_features=True)


def with_horizons(network: Network, horizons: tuple[int, ...], seed: int = 0) -> Network:
    """The same memory with a random head that looks so far."""
    rng, d = np.random.default_rng(seed), network.channels
    head, bias, weights = (
        rng.standard_normal(shape, np.float32)
        for shape in ((len(horizons) * d, network.head.shape[1]), len(horizons) * d, (len(horizons), d))
    )
    return replace(network, horizons=horizons, head=0.3 * head, head_bias=bias, horizon_weights=weights)


def told_by(network: Network, features: F4) -> NDArray[np.float64]:
    """What the head makes of an empty memory and of each reading's features, [T + 1, K, D]."""
    seen = np.concatenate((np.zeros_like(features[:1]), features)).astype(np.float64)
    told: NDArray[np.float64] = seen @ network.head.T.astype(np.float64) + network.head_bias
    return told.reshape(len(seen), len(network.horizons), network.channels)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_head_reads_the_memory_its_squares_and_what_was_a_few_readings_before(layers: int) -> None:
    """Just before its first reading a stream stands at 0, as its memory does; before that nothing has moved."""
    network, x = network_of(3, 16, layers), drawn(40, 3)
    found = played(network, x)
    features, fed = found.features[0], found.fed[0]
    assert features.shape == (40, network.head.shape[1])
    assert fed.tobytes() == x[0].tobytes()
    memory = [(np.zeros((1, 16), np.float32),) * 2] * layers
    for t in range(40):
        below = fed[t : t + 1]
        for layer in range(layers):
            w_x, w_h, b_x, b_h = (network.weights[f"{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            step = gates(below, *memory[layer], w_x, w_h, b_x + b_h)
            memory[layer], below = (step.hidden, step.cell), step.hidden
        h = features[t, :16]
        np.testing.assert_allclose(h, below[0], atol=2e-6)
        before = [fed[t - lag] - fed[t] if t >= lag else -fed[t] if t + 1 == lag else 0 * fed[t] for lag in LAGS]
        assert np.array_equal(features[t], np.concatenate((h, fed[t], h * h, *before)))


def test_a_reconstruction_reads_its_memory_alone() -> None:
    network, x = network_of(3, 16, 2, "reconstruction"), drawn(30, 3)
    found = played(network, x)
    assert found.features.shape == (1, 30, 16)
    np.testing.assert_allclose(found.expected[0], told_by(network, found.features[0])[1:, 0], atol=1e-5)


@pytest.mark.parametrize("horizons", [(1,), (1, 2), (1, 5, 10)])
def test_a_reading_is_expected_as_the_weighted_mean_of_what_was_forecast_of_it(horizons: tuple[int, ...]) -> None:
    """At each horizon what the head made so many readings before; of an empty memory before the first reading, and nothing earlier."""
    network, x = with_horizons(network_of(2, 16), horizons), drawn(40, 2)
    found = played(network, x)
    told = told_by(network, found.features[0])
    for t in range(40):
        each = [network.horizon_weights[k] * told[t + 1 - horizon, k] for k, horizon in enumerate(horizons) if horizon <= t + 1]
        np.testing.assert_allclose(found.expected[0, t], np.sum(each, axis=0), atol=1e-5)
    assert (found.residual == found.x - found.expected).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_missing_value_is_fed_the_forecast_of_it(kind: Kind, layers: int) -> None:
    """One reading ahead. All that follows is, bit for bit, what follows a reading that was just as forecast."""
    network, x = network_of(3, 16, layers, kind), drawn(60, 3)
    gone = np.random.default_rng(3).random(x.shape) < 0.4
    gone[0, 10], gone[0, 11] = True, False
    missing = played(network, np.where(gone, np.float32(np.nan), x))
    assert np.array_equal(np.isnan(missing.x), gone)
    told = told_by(network, missing.features[0])[:-1, 0]
    np.testing.assert_allclose(missing.fed[gone], told[gone[0]], atol=1e-5)
    observed = played(network, missing.fed)
    for name in ("fed", "features", "expected"):
        assert getattr(missing, name).tobytes() == getattr(observed, name).tobytes()


@pytest.mark.parametrize("layers", [1, 2])
def test_a_prediction_looks_before_it_sees_and_a_reconstruction_sees_first(layers: int) -> None:
    one = drawn(30, 3)
    other = one.copy()
    other[:, 20:] *= -3
    prediction = [played(network_of(3, 16, layers), x).expected[0] for x in (one, other)]
    assert prediction[0][:21].tobytes() == prediction[1][:21].tobytes()
    assert (prediction[0][21] != prediction[1][21]).all()
    seen = [played(network_of(3, 16, layers, "reconstruction"), x).expected[0] for x in (one, other)]
    assert seen[0][:20].tobytes() == seen[1][:20].tobytes()
    assert (seen[0][20] != seen[1][20]).all()


def test_a_memory_that_nothing_was_fitted_to_expects_the_value_before() -> None:
    network, x = network_of(3, 16), drawn(30, 3)
    expected = played(Network.persistent(3, 16, 1, network.weights), x).expected[0]
    assert expected[1:].tobytes() == x[0, :-1].tobytes()
    assert not expected[0].any()


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_a_memory_of_another_number_of_channels_is_fed_by_as_many_of_its_inputs(channels: int) -> None:
    whole = network_of(4, 16)
    network = whole.of_channels(channels)
    inputs = network.weights["weight_ih_l0"]
    for k in range(channels):
        np.testing.assert_allclose(inputs[:, k], whole.weights["weight_ih_l0"][:, k % 4] * (4 / channels) ** 0.5, rtol=1e-6)
    assert network.weights["weight_hh_l0"] is whole.weights["weight_hh_l0"]
    assert (network.kind, network.channels, network.horizons, network.lags) == ("prediction", channels, ONE_AHEAD, ())
    assert played(network, drawn(20, channels)).expected.shape == (1, 20, channels)


@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_that_stays_away_leaves_the_memory_usable(kind: Kind) -> None:
    """Fed its own forecast for long, a network that amplifies would leave all bounds, and never come back from NaN."""
    network = network_of(2, 8, 1, kind)
    head: Any = network.head.copy()
    head[:, -2:] = 1.5 * np.tile(np.eye(2), (len(network.horizons), 1))
    if kind == "prediction":
        head[:, 8:10] = 1.5 * np.tile(np.eye(2), (len(network.horizons), 1))
    network = replace(network, head=head, head_bias=np.ones_like(network.head_bias))
    x = np.full((1, 420, 2), np.nan, np.float32)
    x[:, 400:] = 0
    found = played(network, x)
    assert np.isfinite(found.expected).all()
    assert np.isfinite(found.features).all()
    assert np.abs(found.fed).max() <= SCALED_MAX
    assert np.abs(found.fed[0, 399]).max() > 1
