"""Every shape of file is read as it was meant, and nothing of it goes without a word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detector.adapters.recordings.reader import read_recording
from detector.config import FileInput
from tests.shapes.files import SHAPES, Shape, minutes


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_shape(shape: Shape, tmp_path: Path) -> None:
    path = tmp_path / shape.file
    path.write_bytes(shape.content if isinstance(shape.content, bytes) else shape.content.encode())
    recording = read_recording(path, FileInput(**shape.options))
    told = recording.understanding
    assert recording.channels == shape.channels
    np.testing.assert_array_equal(recording.value, np.array(shape.value, np.float64))
    assert recording.event_time_us.tolist() == (shape.time_us or minutes(len(shape.value)))
    assert [recording.streams[index] for index in recording.stream.tolist()] == (
        shape.streams or [path.name.split(".")[0]] * len(recording)
    )
    assert recording.rejected == shape.rejected, told.rejected
    assert tuple(told.left) == shape.left
    assert {kind: count for kind, count in told.lines.items() if kind in ("title", "units", "comment", "blank")} == shape.lines
    assert told.order == shape.order
    missing = np.isnan(recording.value).sum(axis=0).tolist()
    assert [channel.missing for channel in told.channels] == missing
    assert told.file


def test_there_are_enough() -> None:
    assert len(SHAPES) >= 60
    assert len({shape.name for shape in SHAPES}) == len(SHAPES)
