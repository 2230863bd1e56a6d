"""Old bytes stay readable: saved state as each version wrote it, loaded by today's code."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.codec.state_serde import VERSION
from detector.core.detect import Detector
from detector.core.event_time import NEVER, Time
from detector.core.readings import Partition
from detector.core.states import Column
from detector.ports import PartitionPosition
from detector.service.state_manager import StateManager
from tests.codec.loaded_state import read_back
from tests.core.builders import model_of, rows_of, settings_of

FOLDER = Path(__file__).parent
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
    assert detector.alerts_open == 2
