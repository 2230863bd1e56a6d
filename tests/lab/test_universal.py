"""Making of the universal model, and what it can do with streams that it has never seen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.adapters.bundle import load_bundle, read_bundle
from detector.core.detector import Detector
from detector.core.forecast import Network
from detector.core.model import UniversalModel
from detector.core.rules import Settings
from detector.lab import universal
from detector.lab.plant import Plant
from detector.lab.simulate import by_machine
from detector.lab.synthetic import synthetic
from detector.lab.universal import INPUTS, calibrated, memory, played, series
from tests.core.builders import alerts_of, log_of, run, state_of

F4 = NDArray[np.float32]
SECOND_US = 1_000_000


def inputs_of(network: Network) -> F4:
    """f4[4 H, D]: what each channel adds to the gates."""
    return network.weights["weight_ih_l0"]


def test_the_same_seed_gives_the_same_memory() -> None:
    first, again, other = (inputs_of(memory(8, seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_stream_may_have_more_channels_than_the_memory_has_inputs() -> None:
    network = memory(8, 1)
    inputs = inputs_of(network.of_channels(INPUTS + 2))
    assert np.array_equal(inputs[:, INPUTS:], inputs[:, :2])
    assert np.array_equal(inputs_of(network.of_channels(INPUTS)), inputs_of(network))
    for channels in (1, 4):  # whose part of the whole is the same
        assert float(inputs_of(network.of_channels(channels)).std()) == pytest.approx(channels**-0.5, rel=0.3)


def test_what_calibrates_is_what_the_service_computes_while_nothing_is_strange() -> None:
    """Bit for bit: what the memory was fed, and with it the scaling."""
    values, network = series(3, 32, 300), memory(16, 1)
    found = played(network, values)
    shipped = read_bundle("universal").model
    assert isinstance(shipped, UniversalModel)
    detector = Detector(replace(shipped, network=network).model("", ("v",)), Settings(warmup_readings=10_000))
    run(detector, log_of([(f"s{k}", t + k / 100, values[k, t]) for t in range(300) for k in range(32)]))
    fed = np.stack([state_of(detector, f"s{k}")["fed"] for k in range(32)])
    assert fed.tobytes() == found.fed[:, -1].tobytes()


def test_calibration_measures_every_divisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(universal, "READINGS", 512)
    monkeypatch.setattr(universal, "CALIBRATION_SERIES", 32)
    score, prior = calibrated(memory(8, 1))
    assert score.channels == 1
    assert (score.low[0], score.high[0]) == (np.inf, -np.inf)  # every stream has its own range
    assert all(np.isfinite(array).all() for name, array in score.arrays().items() if name not in ("low", "high"))
    assert (score.middle > 0).all()
    assert prior.quantile > 0


def plant_values(seed: int, machines: int, readings: int) -> F4:
    """f4[M, T, D] of a simulated plant without faults."""
    plant = Plant(seed, machines)
    return np.stack([value[:readings] for value in by_machine(plant, (readings + 1) * plant.interval_us)])


def settings_of(budget_readings: float) -> Settings:
    """A budget of one false alert in so many readings, one a second."""
    return Settings(budget_period_us=budget_readings * SECOND_US, timeout_intervals=0)


def judge(values: F4, budget_readings: float) -> list[tuple[str, int]]:
    """Judge streams f4[S, T, D] with the bundle that ships; stream and reading of every alert that opened."""
    streams, readings, channels = values.shape
    detector = Detector(load_bundle("universal", [f"c{k}" for k in range(channels)]), settings_of(budget_readings))
    log = log_of([(f"s{k}", t + k / 1_000, values[k, t]) for t in range(readings) for k in range(streams)], channels)
    alerts = alerts_of(run(detector, log, range(0, len(log), 5_000)))
    return [(alert.stream, alert.offset // streams) for alert in alerts if alert.status == "opened"]


@pytest.mark.parametrize("fault", ["spikes", "level", "stuck at another level"])
def test_a_fault_after_200_readings_of_an_unseen_stream_is_found(fault: str) -> None:
    values = plant_values(1, 6, 260)
    deviation = values[:, :200].std(axis=1)
    for k in range(0, 6, 2):  # every other machine
        if fault == "spikes":
            values[k, 200:206] += (20 * deviation[k] * np.array([[1], [-1], [1], [-1], [1], [-1]])).astype(np.float32)
        elif fault == "level":
            values[k, 200:] += 12 * deviation[k]
        else:
            values[k, 200:, 0] = values[k, 0, 0] + 12 * deviation[k, 0]
    opened = judge(values, 10_000)
    assert {stream for stream, at in opened if 200 <= at < 240} == {"s0", "s2", "s4"}
    assert not [stream for stream, at in opened if at < 200]


def test_normal_streams_keep_the_budget() -> None:
    values = np.stack([each[:, :1] for each in synthetic(90_001, 20, 5_000)])
    opened = judge(values, 10_000)
    assert len(opened) <= 2 * 20 * 5_000 / 10_000, opened
