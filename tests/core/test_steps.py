"""From a batch to steps."""

from __future__ import annotations

import doctest

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core import steps
from detector.core.steps import plan_steps


def test_the_example_in_the_documentation() -> None:
    assert doctest.testmod(steps) == (0, 1)


@given(st.lists(st.integers(0, 6), max_size=60))
@settings(max_examples=200, deadline=None)
def test_step_k_holds_the_kth_reading_of_every_stream(rows: list[int]) -> None:
    plan = plan_steps(np.array(rows, np.int32))
    assert sorted(position for step in plan for position in step.tolist()) == list(range(len(rows)))
    for k, step in enumerate(plan):
        positions = step.tolist()
        assert positions == sorted(positions)
        assert len(positions) > 0
        for position in positions:
            assert rows[:position].count(rows[position]) == k
    assert len(plan) == max((rows.count(row) for row in rows), default=0)


def test_a_single_stream_makes_steps_of_one() -> None:
    assert [step.tolist() for step in plan_steps(np.zeros(4, np.int32))] == [[0], [1], [2], [3]]
