"""The gates that are shown are those that judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from detector.adapters.bundle import load_bundle
from detector.cli import main
from detector.core.detector import Detector
from detector.core.rules import Settings
from detector.lab.explain import NAMES, explain
from detector.lab.plant import Plant
from detector.lab.simulate import simulate
from tests.core.builders import log_of, model_of, state_of

F4 = NDArray[np.float32]
N = 300


@pytest.fixture(scope="module")
def value() -> F4:
    plant = Plant(seed=3, machines=1)
    chunk = next(simulate(plant, end_us=plant.start_us + N * plant.interval_us, chunk_readings_max=N))
    found = chunk.value.astype(np.float32)
    found[40:50, 2] = np.nan
    return found


@pytest.mark.parametrize("layers", [1, 2])
def test_the_gates_lead_to_what_the_detector_expected(value: F4, layers: int) -> None:
    model = load_bundle("plant") if layers == 1 else model_of(value.shape[1], 8, layers)
    found = explain(model, value)
    detector = Detector(model, Settings(warmup_readings=N))
    batch = log_of([("m", t, values) for t, values in enumerate(value)], value.shape[1]).batch(detector)
    assert np.allclose(found["expected"], detector.detect(batch).expected, rtol=1e-5, atol=1e-4)
    for name in ("cell", "hidden"):
        assert np.allclose(found[name][-1], state_of(detector, "m")[name], atol=1e-5)
    for name in NAMES:
        assert found[name].shape == (len(value), layers, model.network.hidden)
    for name in ("input", "forget", "output"):
        assert found[name].min() >= 0
        assert found[name].max() <= 1


def test_a_stream_that_learns_to_read_its_memory(value: F4) -> None:
    model = load_bundle("universal", [f"c{k}" for k in range(value.shape[1])])
    found = explain(model, value)
    detector = Detector(model, Settings(warmup_readings=N))  # no alert, no CUSUM: it learns from every reading
    batch = log_of([("m", t, values) for t, values in enumerate(value)], value.shape[1]).batch(detector)
    assert np.allclose(found["expected"], detector.detect(batch).expected, rtol=1e-5, atol=1e-4)
    assert np.allclose(found["cell"][-1], state_of(detector, "m")["cell"], atol=1e-5)


def test_the_command_writes_rows_and_a_picture(plant_recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, picture = tmp_path / "gates.parquet", tmp_path / "gates.png"
    assert (
        main(["explain", str(plant_recording), "--model", "plant", "--name", "plant1/pump02", "--out", str(out), "--picture", str(picture)])
        == 0
    )
    table = pq.read_table(out)
    assert table.column_names == ["event_time_us", "expected", "scaled", "scaled_expected", *NAMES]
    assert len(table["forget"][0]) == load_bundle("plant").network.hidden
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main(["explain", str(plant_recording), "--model", "plant", "--name", "nobody", "--out", str(out)]) == 1
    assert "has no stream 'nobody'" in capsys.readouterr().err
