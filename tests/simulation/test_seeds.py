"""Exactly once, by seed: whatever happens to workers and their log, what is committed is what an undisturbed worker commits.

`make simulate` runs a hundred thousand of these seeds, `make simulate SEED=7` one again.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.simulation import changes
from tests.simulation.simulate import Chunk, chunk_of

CHUNKS, SEEDS = 10, 20
LOSSES = CHANGES = 100
OFTEN = Counter(
    alerts=50_000,
    rows=25_000,
    checkpoints=15_000,
    tombstones=1_500,
    replayed=150_000,
    restores=15_000,
    rebalances=8_000,
    kills=2_500,
    ghosts_committed=200,
    leaves=400,
    sleeps=1_500,
    sessions_expired=1_000,
    fenced=250,
    refused=300,
    retained=1_000,
    cut_poll=10_000,
    poll_unavailable=1_500,
    restore_unavailable=1_500,
    resume_unavailable=1_500,
    commit_unavailable=1_500,
    commit_aborted=500,
    commit_unacknowledged=500,
    commit_outlives=1_000,
    expiry_unheard=800,
    rebalance=1_500,
)
"""What must have happened in 2,000 seeds, at least so often, and in fewer accordingly: or they would prove little."""


@pytest.fixture(scope="module")
def chunks() -> Iterator[Callable[[int], Chunk]]:
    """The seeds of each chunk, run by as many processes as there are cores."""
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(chunk_of, chunk * SEEDS, SEEDS) for chunk in range(CHUNKS)]
        yield lambda chunk: running[chunk].result()
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_whatever_happens_nothing_is_lost_and_nothing_repeated(chunks: Callable[[int], Chunk], chunk: int) -> None:
    _, failures, _ = chunks(chunk)
    assert not failures, "\n".join(failures)


def test_everything_happened_often(chunks: Callable[[int], Chunk]) -> None:
    happened = sum((chunks(chunk)[2] for chunk in range(CHUNKS)), Counter[str]())
    assert not {name: happened[name] for name, least in OFTEN.items() if happened[name] < least * CHUNKS * SEEDS / 2_000}


def test_what_is_taken_away_costs_no_more_than_it_must() -> None:
    _, failures, happened = chunk_of(0, LOSSES, "losses")
    assert not failures, "\n".join(failures)
    assert all(happened[kind] >= 3 for kind in ("hole", "beyond", "back", "earlier", "forward", "deleted"))
    assert happened["missed"] > 300


def test_a_log_that_changes_costs_no_more_than_it_must() -> None:
    _, failures, happened = chunk_of(0, CHANGES, "changes")
    assert not failures, "\n".join(failures)
    assert all(happened[kind] >= 10 for kind in changes.KINDS)
    assert happened["missed"] > 300
    assert happened["change_unheard"]
