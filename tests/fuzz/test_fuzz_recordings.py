"""A few hundred of the files of `tests.fuzz.recordings`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.recordings import check


@pytest.mark.parametrize("part", range(4))
def test_spoilt_files_are_read_or_refused_and_every_line_is_accounted_for(part: int, tmp_path: Path) -> None:
    became = [check(random.Random(f"{part}/{number}"), tmp_path / "plant.csv", whole_bytes=number % 4 == 3) for number in range(75)]
    assert "read" in became
    assert any(each.startswith("refused") for each in became)
