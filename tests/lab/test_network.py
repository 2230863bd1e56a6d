"""The network that is trained is the network that judges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from detector.core.forecast import Kind, Network
from detector.lab.network import Predictor
from detector.lab.offline_inference import bare_model
from detector.lab.playback import Playback, play
from tests.core.builders import network_of

F4 = NDArray[np.float32]
KINDS: tuple[Kind, ...] = ("prediction", "reconstruction")
every_kind = pytest.mark.parametrize(("kind", "layers"), [(kind, layers) for kind in KINDS for layers in (1, 2, 3)])


def drawn(sequences: int, readings: int, channels: int, seed: int = 1) -> F4:
    return np.random.default_rng(seed).standard_normal((sequences, readings, channels), np.float32)


def in_core(network: Network, x: F4) -> Playback:
    return play(bare_model(network), x, with_features=True)


def in_torch(network: Network, x: F4) -> F4:
    with torch.inference_mode():
        expected: F4 = Predictor(network).eval().unroll(torch.from_numpy(x))[0].numpy()
    return expected


@every_kind
def test_the_core_forecasts_what_training_does(kind: Kind, layers: int) -> None:
    """All horizons and lags, several sequences: to 1e-6 of the size of what is forecast."""
    network = network_of(3, 16, layers, kind)
    x = drawn(5, 60, 3)
    expected = in_torch(network, x)
    assert_allclose(in_core(network, x).expected, expected, atol=1e-6 * max(1, np.abs(expected).max()))


@every_kind
def test_a_missing_value_is_as_if_the_network_had_been_fed_its_forecast(kind: Kind, layers: int) -> None:
    network = network_of(3, 16, layers, kind)
    x = drawn(3, 60, 3)
    x[np.random.default_rng(2).random(x.shape) < 0.3] = np.nan
    played = in_core(network, x)
    assert not np.isnan(played.fed).any()
    assert np.array_equal(played.fed[~np.isnan(x)], x[~np.isnan(x)])
    expected = in_torch(network, played.fed)
    assert_allclose(played.expected, expected, atol=1e-6 * max(1, np.abs(expected).max()))


@every_kind
def test_the_head_reads_the_same_features(kind: Kind, layers: int) -> None:
    network, x = network_of(2, 8, layers, kind), drawn(2, 40, 2)
    predictor = Predictor(network).eval()
    values = torch.from_numpy(x)
    with torch.inference_mode():
        h, _ = predictor.lstm(values)
        pasts, _ = predictor.pasts(predictor.state(2).past, torch.cat((torch.zeros(2, 1, 2), values), dim=1))  # a sequence begins after 0
        features = predictor.features(h, values, pasts[:, 1:]).numpy()
    assert_allclose(in_core(network, x).features, features, atol=2e-6)


@every_kind
def test_a_sequence_may_be_cut_into_windows(kind: Kind, layers: int) -> None:
    network, x = network_of(3, 16, layers, kind), torch.from_numpy(drawn(4, 40, 3))
    predictor = Predictor(network).eval()
    with torch.inference_mode():
        whole, end = predictor.unroll(x)
        parts, state = [], None
        for window in (x[:, :3], x[:, 3:25], x[:, 25:]):
            expected, state = predictor.unroll(window, state)
            parts.append(expected)
    assert state is not None
    assert_allclose(torch.cat(parts, dim=1).numpy(), whole.numpy(), atol=2e-6)
    for carried, at_end in zip(state, end, strict=True):
        assert_allclose(carried.numpy(), at_end.numpy(), atol=2e-6)


def test_there_and_back_nothing_is_lost() -> None:
    network = network_of(3, 8, 2)
    back = Predictor(network).network()
    for name in ("kind", "channels", "hidden", "layers", "horizons", "lags"):
        assert getattr(back, name) == getattr(network, name)
    for name in ("head", "head_bias", "horizon_weights"):
        assert np.array_equal(getattr(back, name), getattr(network, name))
    assert back.weights.keys() == network.weights.keys()
    assert all(np.array_equal(back.weights[name], weight) for name, weight in network.weights.items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_training_changes_a_copy_of_all_weights(kind: Kind) -> None:
    network, x = network_of(2, 8, 2, kind), torch.from_numpy(drawn(4, 30, 2))
    before = {name: weight.copy() for name, weight in network.weights.items()} | {"head": network.head.copy()}
    predictor = Predictor(network)
    optimizer = torch.optim.SGD(predictor.parameters(), lr=1.0)
    ((predictor.unroll(x)[0] - x) ** 2).mean().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    after = predictor.network()
    for name, weight in before.items():
        assert np.array_equal(weight, network.head if name == "head" else network.weights[name])
        assert not np.array_equal(weight, after.head if name == "head" else after.weights[name])
    assert np.array_equal(network.horizon_weights, after.horizon_weights)


def test_noise_is_fed_but_never_forecast() -> None:
    predictor = Predictor(network_of(2, 8)).eval()
    x = torch.from_numpy(drawn(3, 10, 2))
    noise = torch.zeros_like(x)
    clean, state = predictor.unroll(x)
    with_zero, same = predictor.unroll(x, noise=noise)
    noise[:, 4] = 1.0
    noisy, _ = predictor.unroll(x, noise=noise)
    assert torch.equal(clean, with_zero)
    assert all(torch.equal(a, b) for a, b in zip(state, same, strict=True))
    assert torch.equal(clean[:, :5], noisy[:, :5])
    assert not torch.equal(clean[:, 5], noisy[:, 5])


@pytest.mark.parametrize("layers", [1, 2])
def test_dropout_is_for_training_only(layers: int) -> None:
    torch.manual_seed(0)
    predictor = Predictor(network_of(2, 8, layers, "reconstruction"), dropout=0.5)
    x = torch.from_numpy(drawn(3, 10, 2))
    assert not torch.equal(predictor.unroll(x)[0], predictor.unroll(x)[0])
    predictor.eval()
    assert torch.equal(predictor.unroll(x)[0], predictor.unroll(x)[0])
