"""From a batch to steps."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core import walk
from detector.core.compiled import entry
from detector.core.readings import Disposition
from detector.core.walk import READING


@entry
def split(readings, occurrences):  # type: ignore[no-untyped-def]
    return walk.split_into_steps(readings, occurrences)


def steps_of(rows: list[int], judged: list[bool] | None = None) -> list[list[int]]:
    """The positions of each step; `judged`: which of the readings are still to be."""
    readings, occurrences = np.zeros(len(rows), READING), np.zeros(8, np.int32)
    readings["row"] = rows
    readings["disposition"][~np.array(judged if judged else [True] * len(rows), np.bool_)] = Disposition.LATE
    positions, starts = split(readings, occurrences)
    assert not occurrences.any()
    return [positions[a:b].tolist() for a, b in itertools.pairwise(starts.tolist())]


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from([True, True, False])), max_size=60))
@settings(max_examples=200, deadline=None)
def test_step_k_holds_the_kth_reading_of_every_stream_that_is_to_be_judged(story: list[tuple[int, bool]]) -> None:
    rows = [row for row, _ in story]
    steps = steps_of(rows, [is_judged for _, is_judged in story])
    waiting = [position for position, (_, is_judged) in enumerate(story) if is_judged]
    assert sorted(position for step in steps for position in step) == waiting
    for k, step in enumerate(steps):
        assert step == sorted(step)
        assert len(step) > 0
        for position in step:
            assert sum(rows[earlier] == rows[position] for earlier in waiting if earlier < position) == k
    assert len(steps) == max((sum(rows[position] == row for position in waiting) for row in rows), default=0)


def test_a_single_stream_makes_steps_of_one() -> None:
    assert steps_of([0, 0, 0, 0]) == [[0], [1], [2], [3]]
