"""Exactly once, by seed: whatever happens to workers and their log, what is committed is what an undisturbed worker commits.

`make simulate` runs a hundred thousand of these seeds, `make simulate SEED=7` one again.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.simulation.simulate import chunk_of

CHUNKS, SEEDS = 20, 100
TOTAL: Counter[str] = Counter()
OFTEN = {
    "alerts": 50_000,
}


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_whatever_happens_nothing_is_lost_and_nothing_repeated(chunk: int) -> None:
    _, failures, happened = chunk_of(chunk * SEEDS, SEEDS)
    TOTAL.update(happened)
    assert not failures, "\n".join(failures)
