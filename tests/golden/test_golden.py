"""Old bytes stay readable: saved state as each version wrote it, loaded by today's code."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.codec.state_serde import VERSION
from detector.core.detector import Detector
from detector.core.event_time import Time
from detector.core.readings import Partition
from detector.core.stream_state import NEVER
from detector.ports import PartitionPosition
from detector.service.state_manager import StateManager
from tests.codec.loaded_state import read_back
from tests.core.builders import fields_of, rows_of, settings_of, state_of
from tests.golden.make_state import MODEL

FOLDER = Path(__file__).parent
GOLDEN = sorted(FOLDER.glob("state_v*.json"))


def read(path: Path) -> tuple[Any, dict[bytes, bytes]]:
    whole = json.loads(path.read_text("utf-8"))
    return whole, {key.encode(): base64.b64decode(value) for key, value in whole["state"].items()}


def test_there_is_one_of_every_version() -> None:
    assert [path.name for path in GOLDEN] == [f"state_v{version}.json" for version in range(1, VERSION + 1)]


def check_fields(found: dict[str, Any], saved: dict[str, Any]) -> None:
    """Fields that are the same today hold what they held then; one that is new, or has another shape, is as in a new stream."""
    new = fields_of(MODEL.layout(), MODEL.layout().new.tobytes())
    same = [name for name, value in new.items() if name in saved and np.shape(saved[name]) == np.shape(value)]
    assert {"hidden", "cell", "event_time_us", "cusum"} <= set(same)
    for name, value in found.items():
        np.testing.assert_array_equal(value, saved[name] if name in same else new[name], err_msg=name)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_it_reads_back(path: Path) -> None:
    whole, state = read(path)
    found = read_back(state, MODEL.layout())
    saved = found.loaded
    assert saved.checkpoint is not None
    assert (saved.checkpoint.incarnation, saved.checkpoint.offset, saved.checkpoint.next_offset) == (b"golden 1", 190, 231)
    assert saved.checkpoint.time == Time(*whole["clock"])
    assert found.offset == {name.encode(): 231 for name in whole["streams"]}
    assert saved.evicted == {b"gone": 200}
    assert saved.stale == (b"of an earlier incarnation",)
    for name, fields in whole["streams"].items():
        check_fields(fields_of(MODEL.layout(), found.records[name.encode()]), fields)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_it_is_loaded(path: Path) -> None:
    whole, state = read(path)
    detector = Detector(MODEL, settings_of())
    partition = Partition(*whole["partition"])
    state_manager = StateManager(detector, 10.0)
    assert state_manager.restore({partition: PartitionPosition(231)}, [(partition, state)], 0.0) == {partition: 190}
    store, rows = detector.store, rows_of(detector)
    assert rows.keys() == {(partition, name) for name in (*whole["streams"], "gone")}
    assert store.stands_for[rows[partition, "gone"]] == 200
    assert store.heads["event_time_us"][rows[partition, "gone"]] == NEVER
    assert detector.clocks[0] == Time(*whole["clock"])
    assert state_manager.rows_unsaved == 2  # to delete: what is gone, and what is of an earlier incarnation
    for name, fields in whole["streams"].items():
        assert store.stands_for[rows[partition, name]] == 231
        check_fields(state_of(detector, name, partition), fields)
    assert {(alert.stream, alert.kind) for alert in detector.still_open()} == {("a", "timeout"), ("b", "score")}
