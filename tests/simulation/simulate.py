"""Many seeds of the simulation: `make simulate SEEDS=100000 WORKERS=2`, or one again: `make simulate SEED=7`.

ARGS="--of losses": the seeds of `losses`, in which operators and retention take something away; ARGS="--of changes": those of `changes`, in
which logs are made anew, lose their ends or their beginnings, or are gone, under running workers.
"""

from __future__ import annotations

import argparse
import gc
import logging
import multiprocessing
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

from tests.simulation import changes, losses, oracle

CHUNK = 50
PROGRESS_INTERVAL_S = 10.0
Run: TypeAlias = Callable[[int], Counter[str]]
Chunk: TypeAlias = tuple[int, list[str], Counter[str]]
"""How many seeds; for each that failed a line that says why, and how to repeat it; what happened in the others."""

COUNTED = {
    "alerts": "alerts",
    "crashes": "kills",
    "rebalances": "rebalances",
    "restores": "restores",
    "replayed messages": "replayed",
    "missed": "missed",
    "silent": "silent",
}
RUNS: Mapping[str, Run] = {"disturbances": oracle.run_seed, "losses": losses.run_seed, "changes": changes.run_seed}
"""What plays a seed."""


def failure_of(seed: int, run: Run = oracle.run_seed) -> tuple[str, Counter[str]]:
    """Play one seed: what failed, or nothing; and what happened."""
    try:
        return "", run(seed)
    except Exception as error:  # noqa: BLE001 - whatever fails is a finding
        return f"{type(error).__name__}: {' '.join(str(error).split())}", Counter()


def chunk_of(first: int, count: int, of: str = "disturbances") -> Chunk:
    """Play the seeds [first, first + count)."""
    logger = logging.getLogger("detector")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # that the log is unavailable, ten thousand times
    gc.collect()  # or it would be frozen with the rest, and stay for ever
    gc.freeze()  # what was imported stays: looking through it again and again takes a tenth of the time
    failures, total = [], Counter[str]()
    for seed in range(first, first + count):
        failure, counts = failure_of(seed, RUNS[of])
        total += counts
        if failure:
            failures.append(f"seed {seed} failed: {failure}; again: make simulate SEED={seed} ARGS='--of {of}'")
    gc.unfreeze()
    logger.setLevel(level)
    return count, failures, total


def main() -> int:
    """Play what the command line says; 1 if a seed failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone, with its traceback")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--of", choices=RUNS, default="disturbances", help="what the seeds are of")
    options = parser.parse_args()
    if options.seed is not None:
        return again(options.seed, RUNS[options.of])
    begun_s = said_s = time.monotonic()
    done, failed, total = 0, 0, Counter[str]()
    bounds = [(options.first + at, min(CHUNK, options.seeds - at)) for at in range(0, options.seeds, CHUNK)]
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for count, failures, counts in pool.imap_unordered(partial(_chunk, options.of), bounds):
            done, failed, total = done + count, failed + len(failures), total + counts
            for failure in failures:
                print(failure, flush=True)
            now_s = time.monotonic()
            if now_s - said_s >= PROGRESS_INTERVAL_S:
                said_s = now_s
                print(f"{done} of {options.seeds} seeds, {failed} failures, {done / (now_s - begun_s):.1f} seeds/s", flush=True)
    print(f"seeds {done}, failures {failed}, " + ", ".join(f"{name} {total[key]}" for name, key in COUNTED.items()))
    return 1 if failed else 0


def _chunk(of: str, bounds: tuple[int, int]) -> Chunk:
    return chunk_of(*bounds, of)


def again(seed: int, run: Run) -> int:
    """One seed, and all that is to be known of it."""
    try:
        counts = run(seed)
    except Exception:  # noqa: BLE001 - it is what was asked for
        traceback.print_exc()
        return 1
    print(f"seed {seed} is well: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
