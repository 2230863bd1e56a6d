"""Training on small synthetic recordings: what it must learn, what it must never mix up."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.core.detector import Detector
from detector.core.forecast import HORIZONS
from detector.core.scaler import Scaling
from detector.errors import ConfigError, DataError
from detector.lab.forecast_baselines import LinearForecast, mean_error, persistence
from detector.lab.offline_inference import played_parts, residuals
from detector.lab.options import Options
from detector.lab.plant import CHANNELS, Plant
from detector.lab.plotting import training_png
from detector.lab.progress import Epoch, Reporter
from detector.lab.projection import horizons_of
from detector.lab.reservoir import MEMORY_READINGS_MAX, draw, fit_head, moments_of_changes, random_memory
from detector.lab.ridge import readout
from detector.lab.sequences import Recorded, filled, sequences_of, split, windows
from detector.lab.simulate import by_machine
from detector.lab.train import Trained, train
from tests.core.builders import log_of


def waves(streams: int, readings: int, seed: int = 0) -> list[Recorded]:
    """Two channels: a wave whose frequency jumps between two values, and its echo five readings later, with noise."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(streams):
        fast = np.repeat(rng.random(readings // 40 + 1) < 0.5, 40)[:readings]
        wave = np.sin(np.cumsum(np.where(fast, 0.5, 0.15)))
        both = np.stack((wave, np.roll(wave, 5)), axis=1) + 0.02 * rng.standard_normal((readings, 2))
        found.append(Recorded(f"machine{k}", (both * (3, 50) + (10, 200)).astype(np.float32)))
    return found


def chaos(streams: int, readings: int, seed: int = 0) -> list[Recorded]:
    """Two coordinates of Henon's map, with noise: what comes next is a product of what was, which no sum of the last readings tells."""
    rng = np.random.default_rng(seed)
    x = np.zeros((readings + 50, streams))
    x[0] = rng.uniform(-0.1, 0.1, streams)
    for t in range(1, len(x)):
        x[t] = 1 - 1.4 * x[t - 1] ** 2 + 0.3 * x[t - 2]
    both = np.stack((x[50:], x[47:-3]), axis=-1) + 0.02 * rng.standard_normal((readings, streams, 2))
    return [Recorded(f"machine{k}", both[:, k].astype(np.float32)) for k in range(streams)]


def pumps(machines: int, hours: int) -> list[Recorded]:
    """Machines of the simulated plant, without faults."""
    plant = Plant(1_000, machines)
    return [Recorded(name, value) for name, value in zip(plant.streams, by_machine(plant, hours * 3_600_000_000), strict=True)]


@pytest.fixture(scope="module")
def trained() -> Trained:
    epochs: list[Epoch] = []
    result = train(waves(12, 1_000), ("a", "b"), Options(hidden=24, epochs_max=10, window_readings=64), Reporter(epochs.append))
    assert tuple(epochs) == result.epochs
    return result


def test_it_beats_persistence_on_readings_no_weight_saw(trained: Trained) -> None:
    assert (trained.errors["network"] < 0.5 * trained.errors["persistence"]).all()
    assert "smaller than persistence's" in trained.verdict


def test_training_is_worth_more_than_a_random_memory() -> None:
    quick = train(chaos(12, 1_000), ("a", "b"), Options(hidden=24, is_quick=True))
    trained = train(chaos(12, 1_000), ("a", "b"), Options(hidden=24, epochs_max=10, window_readings=64))
    assert trained.errors["network"][0] < 0.8 * quick.errors["network"][0]


def test_the_best_weights_are_kept(trained: Trained) -> None:
    best = min(epoch.held_out_loss for epoch in trained.epochs)
    assert [epoch.held_out_loss for epoch in trained.epochs if epoch.is_best][-1] == pytest.approx(best, abs=1e-3)


def test_calibration_is_of_streams_that_no_weight_saw(trained: Trained) -> None:
    names = [{s.stream for s in part} for part in (trained.split.train, trained.split.held_out, trained.split.calibrate)]
    assert all(names)
    assert not names[0] & names[1]
    assert not names[0] & names[2]
    assert not names[1] & names[2]


def test_about_five_percent_of_normal_scores_pass_the_prior(trained: Trained) -> None:
    assert np.mean(trained.scores > trained.model.prior.quantile) == pytest.approx(0.05, abs=0.01)


def test_the_service_computes_the_residuals_that_calibrated_it(trained: Trained) -> None:
    """The detector's own walk expects, reading by reading, what calibration saw."""
    recorded = trained.split.calibrate[0].value[:200]
    model = trained.model
    detector = Detector(model)
    batch = log_of([("m", t, values) for t, values in enumerate(recorded)], recorded.shape[1]).batch(detector)
    expected = detector.detect(batch).expected
    scaling = model.scaling
    assert isinstance(scaling, Scaling)
    e = residuals(model.network, [scaling.scaled(recorded)])[0]
    assert np.allclose(scaling.scaled(recorded) - scaling.scaled(expected), e, atol=1e-4)


def weights_of(result: Trained) -> dict[str, NDArray[np.float32]]:
    """What was drawn or learned."""
    network = result.model.network
    return {**network.weights, "head": network.head, "horizon_weights": network.horizon_weights}


def test_the_same_seed_gives_the_same_weights() -> None:
    options = Options(hidden=8, epochs_max=2, window_readings=32, device="cpu")
    first, second = (weights_of(train(waves(8, 200), ("a", "b"), options)) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.usefixtures("trained")  # by then the score is compiled
def test_a_quick_fit_beats_both_baselines_and_takes_seconds() -> None:
    recorded = pumps(machines=12, hours=6)
    begun = time.process_time()
    result = train(recorded, CHANNELS, Options(is_quick=True))
    assert time.process_time() - begun < 8
    assert sum(map(len, recorded)) > 20_000
    for baseline in ("persistence", "linear"):
        assert np.mean(result.errors["network"] / result.errors[baseline]) < 0.97
    assert "earns its place" in result.verdict
    assert training_png(result).startswith(b"\x89PNG")


def test_a_quick_fit_depends_on_the_seed_alone() -> None:
    first, again, other = (weights_of(train(waves(8, 200), ("a", "b"), Options(hidden=8, seed=seed, is_quick=True))) for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["weight_hh_l0"], other["weight_hh_l0"])


def test_a_memory_that_is_drawn_has_orthogonal_blocks_and_all_time_constants() -> None:
    weights = draw(3, 64, 2, np.random.default_rng(1))
    assert [weights[f"weight_ih_l{layer}"].shape for layer in (0, 1)] == [(256, 3), (256, 64)]
    for layer in (0, 1):
        for block in np.split(weights[f"weight_hh_l{layer}"], 4):
            assert np.allclose(block @ block.T, np.eye(64), atol=1e-5)
        _, forget, *others = np.split(weights[f"bias_ih_l{layer}"], 4)
        constants = np.sort(np.exp(forget))
        assert constants[0] < 2
        assert constants[-1] > MEMORY_READINGS_MAX / 2
        assert 10 < np.median(constants) < 20, "log-uniform"
        assert not np.any(others)


def test_a_quick_fit_bears_missing_values_and_stacked_cells() -> None:
    recorded = waves(8, 400)
    for sequence in recorded:
        sequence.value[::7, 0] = np.nan
    result = train(recorded, ("a", "b"), Options(hidden=32, layers=2, is_quick=True))
    assert (result.errors["network"] < 0.7 * result.errors["persistence"]).all()
    with pytest.raises(ConfigError, match="quick"):
        train(recorded, ("a", "b"), Options(kind="reconstruction", is_quick=True))


def test_sums_over_chunks_and_sequences_give_the_readout_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """State is carried from chunk to chunk, no row is lost between them, and sequences of unlike lengths keep to themselves."""
    recorded = [wave.value[:readings] for wave, readings in zip(waves(6, 500), (500, 90, 333, 260, 64, 12), strict=True)]
    xs = [Scaling.fit(value).scaled(value) for value in recorded]
    network = random_memory(2, 8, 1, seed=1)
    at_once = moments_of_changes(network, xs, (1, 5))
    whole = [next(played_parts(network, [x], with_features=True))[2] for x in xs]
    monkeypatch.setattr("detector.lab.offline_inference.CHUNK_READINGS", 64)
    in_chunks = moments_of_changes(network, xs, (1, 5))
    for k, start, part in played_parts(network, xs, with_features=True):
        assert part.features.tobytes() == whole[k].features[start : start + len(part.features)].tobytes()
    assert in_chunks.count == at_once.count == sum(len(x) - 5 - (50 if len(x) > 100 else 0) for x in xs)
    assert np.allclose(in_chunks.gram, at_once.gram)
    assert np.allclose(in_chunks.cross, at_once.cross)
    weight, errors = readout(at_once, at_once), []
    for x, part in zip(xs, whole, strict=True):
        now = np.arange(50 if len(x) > 100 else 0, len(x) - 5)
        changes = np.concatenate((x[now + 1] - x[now], x[now + 5] - x[now]), axis=1)
        errors.append(changes - part.features[now] @ weight[:-1] - weight[-1])
    assert np.allclose(at_once.error(weight), (np.concatenate(errors) ** 2).mean(axis=0), rtol=1e-4)


def test_each_horizon_has_a_head_of_its_own() -> None:
    """A noiseless wave is known ten readings ahead as well as one; and their weighted mean is the forecast."""
    x = np.stack([np.sin(0.3 * np.arange(900) + phase) for phase in (0.0, 1.0)], axis=1).astype(np.float32)
    network, losses = fit_head(random_memory(2, 32, 1, seed=1), [x[:700]], [x[700:]])
    assert max(losses) < 0.05
    _, _, part = next(played_parts(network, [x], with_features=True))
    at_horizons = (part.features @ network.head.T + network.head_bias).reshape(len(x), len(HORIZONS), 2)
    for k, horizon in enumerate(HORIZONS):
        assert np.abs(at_horizons[250:-horizon, k] - x[250 + horizon :]).mean() < 0.02
    weights = network.horizon_weights
    assert np.allclose(weights.sum(axis=0), 1)
    ahead = [weights[k] * at_horizons[250 - horizon : -horizon, k] for k, horizon in enumerate(HORIZONS)]
    assert np.allclose(part.expected[250:], np.sum(ahead, axis=0), atol=1e-5)
    (e,) = residuals(network, [x])
    assert np.array_equal(e, x - part.expected)


def test_a_horizon_that_knows_little_weighs_little() -> None:
    """A walk: nobody knows it ten readings ahead. What repeats itself is known at all horizons, but for the noise."""
    rng = np.random.default_rng(1)
    walk = np.cumsum(rng.standard_normal(4_000)) / 20
    wave = np.sin(0.3 * np.arange(4_000)) + 0.2 * rng.standard_normal(4_000)
    x = np.stack((walk, wave), axis=1).astype(np.float32)
    network, _ = fit_head(random_memory(2, 32, 1, seed=1), [x[:3_000]], [x[3_000:]])
    of_walk, of_wave = network.horizon_weights.T
    assert of_walk[0] > 0.7 > 0.2 > of_walk[-1]
    assert (np.abs(of_wave - 1 / 3) < 0.1).all()


@pytest.mark.parametrize(("window", "horizons"), [(8, (1,)), (20, (1, 5)), (256, (1, 5, 10, 20))])
def test_what_a_window_is_too_short_for_is_not_learned_in_it(window: int, horizons: tuple[int, ...]) -> None:
    assert horizons_of(window) == horizons
    short = Options(hidden=8, window_readings=window, epochs_max=1)
    assert np.isfinite(train(waves(1, 700), ("a", "b"), short).epochs[0].held_out_loss)


@pytest.mark.parametrize(
    ("options", "recorded"),
    [(Options(kind="reconstruction", noise=0.3), waves(8, 400)), (Options(layers=2, dropout=0.1, seed=3), chaos(8, 400))],
    ids=["reconstruction", "stacked"],
)
def test_other_kinds_learn_too(options: Options, recorded: list[Recorded]) -> None:
    few = replace(options, hidden=16, window_readings=64, epochs_max=12)
    result = train(recorded, ("a", "b"), few)
    losses = [epoch.held_out_loss for epoch in result.epochs]
    assert min(losses) < 0.85 * losses[0]


def test_too_little_data_is_said() -> None:
    with pytest.raises(DataError, match="too few"):
        train(waves(1, 100), ("a", "b"), Options())


def test_the_picture_is_a_png(trained: Trained) -> None:
    assert training_png(trained).startswith(b"\x89PNG")


def test_sequences_are_sorted_and_cut_at_gaps() -> None:
    time_us = np.concatenate((np.arange(50), 10_000 + np.arange(40), np.arange(5))).astype(np.int64) * 1_000_000
    stream = np.concatenate((np.zeros(90), np.ones(5))).astype(np.int32)
    value = np.arange(95, dtype=np.float32)[:, None]
    order = np.random.default_rng(0).permutation(95)
    found = sequences_of(stream[order], ("a", "short"), time_us[order], value[order])
    assert [(s.stream, len(s)) for s in found] == [("a", 50), ("a", 40)]
    assert (np.diff(found[0].value[:, 0]) == 1).all()


def test_few_streams_are_split_in_time_without_overlap() -> None:
    parts = split([Recorded("a", np.arange(100, dtype=np.float32)[:, None])], seed=1)
    rows = [np.concatenate([s.value for s in part]).ravel().tolist() for part in (parts.train, parts.held_out, parts.calibrate)]
    assert rows[0] + rows[1] + rows[2] == list(range(100))


@pytest.mark.parametrize("shuffled", [False, True])
def test_windows_play_every_reading_at_most_once_and_carry_within_sequences(shuffled: bool) -> None:
    rng = np.random.default_rng(3) if shuffled else None
    xs = [(1_000 * (k + 1) + np.arange(size, dtype=np.float32))[:, None] for k, size in enumerate((70, 33, 200, 45))]
    seen: list[float] = []
    last: NDArray[np.float32] | None = None
    for window in windows(xs, 16, rng):
        played = [lane[counts[:, 0] > 0, 0] for lane, counts in zip(window.x, window.counts, strict=True)]
        for lane, values in enumerate(played):
            if len(values) and not window.is_new[lane]:
                assert last is not None
                assert values[0] == last[lane] + 1  # the carried state belongs to the reading just before
        last = np.array([values[-1] if len(values) else np.nan for values in played], np.float32)
        seen += np.concatenate(played).tolist()
    assert len(seen) == len(set(seen))
    everything = np.concatenate(xs).ravel().tolist()
    assert set(seen) <= set(everything)
    if not shuffled:
        assert sorted(seen) == everything


def test_missing_values_are_filled_with_the_last() -> None:
    x = np.array([[np.nan, 1], [2, np.nan], [np.nan, np.nan]], np.float32)
    assert filled(x).tolist() == [[0, 1], [2, 1], [2, 1]]


def test_baselines_on_what_they_can_know() -> None:
    wave = np.sin(0.3 * np.arange(600, dtype=np.float32))[:, None]
    linear = mean_error(LinearForecast([wave]).residuals([wave]), skip=20)
    assert linear[0] < 0.02  # a sine is linear in its past
    assert mean_error(persistence([wave]), skip=20)[0] > 0.15
