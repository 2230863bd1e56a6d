"""Many seeds of the simulation: `make simulate SEEDS=100000 WORKERS=2`, or one again: `make simulate SEED=7`."""

from __future__ import annotations

import argparse
import multiprocessing
import time
import traceback
from collections import Counter
from collections.abc import Callable

from tests.simulation.oracle import run_seed

CHUNK = 50
PROGRESS_INTERVAL_S = 10.0
COUNTED = {
    "alerts": "alerts",
    "crashes": "kills",
    "rebalances": "rebalances",
    "restores": "restores",
    "replayed messages": "replayed",
}


def failure_of(seed: int, run: Callable[[int], Counter[str]] = run_seed) -> tuple[str, Counter[str]]:
    """Run one seed; a line that says what failed and how to repeat it, or nothing; and what happened."""
    try:
        return "", run(seed)
    except Exception as error:  # noqa: BLE001 - whatever fails is a finding
        reason = " ".join(str(error).split())
        return f"seed {seed} failed: {type(error).__name__}: {reason}; again: make simulate SEED={seed}", Counter()


def chunk_of(first: int, count: int) -> tuple[int, list[str], Counter[str]]:
    """Seeds [first, first + count): how many, failures, what happened."""
    failures, total = [], Counter[str]()
    for seed in range(first, first + count):
        failure, counts = failure_of(seed)
        total += counts
        if failure:
            failures.append(failure)
    return count, failures, total


def main() -> int:
    """Run what the command line says; 1 if a seed failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=100_000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="this one alone, with its traceback")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    options = parser.parse_args()
    if options.seed is not None:
        return again(options.seed)
    chunks = [(first, min(CHUNK, options.seeds - first)) for first in range(0, options.seeds, CHUNK)]
    begun_s = said_s = time.monotonic()
    done, failed, total = 0, 0, Counter[str]()
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for count, failures, counts in pool.imap_unordered(_chunk, [(options.first + first, count) for first, count in chunks]):
            done, failed, total = done + count, failed + len(failures), total + counts
            for failure in failures:
                print(failure, flush=True)
            now_s = time.monotonic()
            if now_s - said_s >= PROGRESS_INTERVAL_S:
                said_s = now_s
                print(f"{done} of {options.seeds} seeds, {failed} failures, {done / (now_s - begun_s):.1f} seeds/s", flush=True)
    print(f"seeds {done}, failures {failed}, " + ", ".join(f"{name} {total[key]}" for name, key in COUNTED.items()))
    return 1 if failed else 0


def _chunk(bounds: tuple[int, int]) -> tuple[int, list[str], Counter[str]]:
    return chunk_of(*bounds)


def again(seed: int) -> int:
    """One seed, and all that is to be known of it."""
    try:
        counts = run_seed(seed)
    except Exception:  # noqa: BLE001 - it is what was asked for
        traceback.print_exc()
        return 1
    print(f"seed {seed} is well: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
