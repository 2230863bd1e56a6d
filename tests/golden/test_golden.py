"""Old bytes stay readable: saved state as each version wrote it, loaded by today's code; and old bundles."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.adapters.bundle import load_bundle, read_bundle
from detector.codec.state_serde import VERSION
from detector.core.detector import Detector
from detector.core.event_time import NEVER, Time
from detector.core.model import Model
from detector.core.readings import Partition
from detector.core.states import Column
from detector.core.batch_result import BatchResult
from detector.ports import PartitionPosition
from detector.service.state_manager import StateManager
from tests.codec.loaded_state import read_back
from tests.core.builders import log_of, model_of, rows_of, run, settings_of

FOLDER = Path(__file__).parent
FINGERPRINT_V1 = "7ab97d9a51a904d7ef05a5c0712b7383"
FINGERPRINT_V2 = "f96fd8d01759c220b2360642fc882c3e"
FINGERPRINT_V3 = "4395b414ddd21185a170e65590cca416"
FINGERPRINT_V4 = "a0853badec14f5c05cbaafb3715548b0"
FINGERPRINT_V5 = "3722bbe3c7031596cd2347457c2052c1"
FINGERPRINT_V6 = "505e1bcd407c4eecc3e19aa54f5c9296"
FINGERPRINT_V8 = "89eca824c6c8fa884280e2dd256f5aef"
FINGERPRINT_V9 = "572219e261675eb08d96ed648fe1787a"
GOLDEN = sorted(FOLDER.glob("state_v*.json"))


def read(path: Path) -> tuple[Any, dict[bytes, bytes]]:
    whole = json.loads(path.read_text("utf-8"))
    return whole, {key.encode(): base64.b64decode(value) for key, value in whole["state"].items()}


def test_there_is_one_of_every_version() -> None:
    assert [path.name for path in GOLDEN] == [f"state_v{version}.json" for version in range(1, VERSION + 1)]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_it_reads_back(path: Path) -> None:
    whole, state = read(path)
    (layout,) = (json.loads(value) for key, value in state.items() if key.startswith(b"layout/"))
    found = read_back(state, {name: Column(dtype, tuple(shape)) for name, dtype, shape in layout})
    saved = found.loaded
    assert saved.checkpoint is not None
    assert (saved.checkpoint.incarnation, saved.checkpoint.offset, saved.checkpoint.next_offset) == (b"golden 1", 190, 231)
    assert saved.checkpoint.time == Time(*whole["clock"])
    assert found.offset == {name.encode(): 231 for name in whole["columns"]}
    assert saved.evicted == {b"gone": 200}
    assert saved.stale == (b"of an earlier incarnation",)
    for name, columns in whole["columns"].items():
        assert found.columns(name.encode()) == {column: base64.b64decode(value) for column, value in columns.items()}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_it_is_loaded(path: Path) -> None:
    """Columns that are the same today hold what they held then; one that changed, or is new, is as a new stream has it."""
    whole, state = read(path)
    (layout,) = (json.loads(value) for key, value in state.items() if key.startswith(b"layout/"))
    then = {name: (np.dtype(dtype), tuple(shape)) for name, dtype, shape in layout}
    detector = Detector(model_of(2), settings_of())
    partition = Partition(*whole["partition"])
    state_manager = StateManager(detector, 10.0)
    assert state_manager.restore({partition: PartitionPosition(231)}, [(partition, state)], 0.0) == {partition: 190}
    rows = rows_of(detector)
    assert rows.keys() == {(partition, name) for name in (*whole["columns"], "gone")}
    assert detector.states.stands_for[rows[partition, "gone"]] == 200
    assert detector.states["event_time_us"][rows[partition, "gone"]] == NEVER
    assert detector.clocks[0] == Time(*whole["clock"])
    assert state_manager.rows_unsaved == 2  # to delete: what is gone, and what is of an earlier incarnation
    same = [name for name, column in detector.states.columns.items() if then.get(name) == (np.dtype(column.dtype), column.shape)]
    assert {"h", "c", "event_time_us"} <= set(same)
    for name, columns in whole["columns"].items():
        row = rows[partition, name]
        assert detector.states.stands_for[row] == 231
        for column in detector.states.columns:
            value = detector.states[column][row].tobytes()
            assert value == (base64.b64decode(columns[column]) if column in same else detector.states.columns[column].array(1).tobytes())
    assert detector.alerts_open == 3


def verdicts_of(version: int, fingerprint: str) -> BatchResult:
    """Of two hundred readings, twenty of which are strange. None can alert: when an alarm opens is not the bundle's to say."""
    bundle = read_bundle(FOLDER / f"bundle_v{version}")
    model = bundle.model
    assert isinstance(model, Model)
    assert (model.fingerprint, model.channels, bundle.training) == (fingerprint, ("a", "b.c", "d e"), {"verdict": "good"})
    detector = Detector(model, settings_of(warmup_readings=1_000))
    values = np.random.default_rng(1).standard_normal((200, 3)).astype(np.float32)
    values[150:170] += 12
    (verdicts,) = run(detector, log_of([("s", t, value) for t, value in enumerate(values)], 3))
    return verdicts


def test_a_bundle_of_version_1_still_judges() -> None:
    """Its score was not calibrated term by term: typical values stand in."""
    verdicts = verdicts_of(1, FINGERPRINT_V1)
    assert np.median(verdicts.score[150:170]) > verdicts.score[100:150].max()


def test_a_bundle_of_version_2_judges_as_it_did() -> None:
    """Its level does not follow the readings."""
    verdicts = verdicts_of(2, FINGERPRINT_V2)
    assert verdicts.score[[60, 120, 150, 160]] == pytest.approx([4.13278, 4.57941, 4.81369, 4.70082], rel=1e-4)


def test_a_bundle_of_version_3_judges_as_it_did() -> None:
    """Its network looks one reading ahead."""
    verdicts = verdicts_of(3, FINGERPRINT_V3)
    assert verdicts.score[[60, 120, 150, 160]] == pytest.approx([4.12253, 4.07257, 6.03134, 6.03397], rel=1e-4)


def test_a_bundle_of_version_4_judges_as_it_did() -> None:
    """It knew no range of its channels' values."""
    verdicts = verdicts_of(4, FINGERPRINT_V4)
    assert verdicts.score[[60, 120, 150, 160]] == pytest.approx([3.4202, 3.40308, 5.86253, 6.96609], rel=1e-4)


def test_a_bundle_of_version_5_judges_as_it_did() -> None:
    """Nothing lingered in its score."""
    verdicts = verdicts_of(5, FINGERPRINT_V5)
    assert verdicts.score[[60, 120, 150, 160]] == pytest.approx([3.44119, 3.49447, 6.29335, 4.3327], rel=1e-4)


def test_a_bundle_of_version_6_judges_as_it_did() -> None:
    """Its channels counted alike, and what lingered was less, for less long."""
    verdicts = verdicts_of(6, FINGERPRINT_V6)
    assert verdicts.score[[60, 120, 150, 160, 190]] == pytest.approx([3.56791, 3.41961, 6.11607, 4.36498, 4.1757], rel=1e-4)


def test_a_bundle_of_version_8_judges_as_it_did() -> None:
    """Its head saw the memory and the last value alone."""
    verdicts = verdicts_of(8, FINGERPRINT_V8)
    assert verdicts.score[[60, 120, 150, 160, 190]] == pytest.approx([3.7464, 3.71573, 8.53593, 7.83318, 7.45903], rel=1e-4)


def test_a_bundle_of_version_9_judges_as_it_did() -> None:
    """No channel was judged by itself."""
    verdicts = verdicts_of(9, FINGERPRINT_V9)
    assert verdicts.score[[60, 120, 150, 160, 190]] == pytest.approx([3.74958, 3.67158, 8.52706, 7.86778, 7.45939], rel=1e-4)


def universal_verdicts_of(version: int, readings: int, strange: int) -> BatchResult:
    """The same of two channels and so many readings, of which twenty are strange from one on."""
    model = load_bundle(FOLDER / f"universal_v{version}", ["a", "b"])
    detector = Detector(model, settings_of(warmup_readings=2_000))
    values = np.random.default_rng(1).standard_normal((readings, 2)).astype(np.float32)
    values[strange : strange + 20] += 12
    (verdicts,) = run(detector, log_of([("s", t, value) for t, value in enumerate(values)], 2))
    return verdicts


def test_a_universal_bundle_of_version_7_judges_as_it_did() -> None:
    """Its channels share a network of one channel, each with a memory of its own."""
    verdicts = universal_verdicts_of(7, 200, 150)
    assert verdicts.score[[60, 120, 150, 160, 190]] == pytest.approx([1.8542, 1.55584, 6.13131, 3.32118, 2.71703], rel=1e-4)


def test_a_universal_bundle_of_version_9_judges_as_it_did() -> None:
    """Its terms are the stream's own."""
    verdicts = universal_verdicts_of(9, 1_000, 900)
    assert verdicts.score[[60, 450, 899, 900, 919, 960]] == pytest.approx([2.08534, 1.86813, 0.93892, 7.10954, 4.98234, 3.27209], rel=1e-4)
