"""What judging takes: the examples of docs/sizing.md."""

from __future__ import annotations

from detector.inspection.sizing import estimate


def test_the_example_of_the_documentation() -> None:
    need = estimate(50_000, 50_000, 24, 34_000, is_universal=True)
    assert 0.40 < need.cores < 0.45  # 8.5 us a reading
    assert need.workers == 1
    assert need.state_bytes == 50_000 * 34_000


def test_more_readings_take_more_workers_and_each_less_memory() -> None:
    few, many = (estimate(1_000_000, rate, 4, 1_512, is_universal=False) for rate in (10_000, 1_000_000))
    assert (few.workers, many.workers) == (1, 8)
    assert few.memory_bytes > many.memory_bytes > 512 * 2**20
    assert estimate(0, 0, 4, 1_512, is_universal=False).workers == 1
