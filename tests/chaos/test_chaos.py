"""Exactly once through crashes, rebalances and broker failures, on a real Kafka; and that the comparison would notice if it were not so."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.chaos import broken
from tests.chaos.chaos import Chaos, run
from tests.chaos.disturbances import KINDS, kinds
from tests.conftest import need_local_kafka

pytestmark = [pytest.mark.broker, pytest.mark.timeout(900)]
ROUNDS, BROKEN_ROUNDS, SEED = 13, 2, 1


def test_nothing_is_lost_repeated_or_different(tmp_path: Path) -> None:
    need_local_kafka()
    assert set(itertools.islice(kinds(SEED), ROUNDS)) == set(KINDS)
    for line in run(tmp_path, SEED, ROUNDS):
        print(line)
    assert line.startswith(f"rounds {ROUNDS}, ")
    assert line.endswith(", lost 0, repeated 0, differing 0")


@pytest.mark.parametrize("kind", broken.KINDS)
def test_a_broken_worker_is_found_out(tmp_path: Path, kind: str) -> None:
    need_local_kafka()
    chaos = Chaos(tmp_path, SEED, BROKEN_ROUNDS, interval_s=0.05)
    try:
        chaos.open(workers=1, kind=kind)
        for _ in range(BROKEN_ROUNDS):
            chaos.calm_round()
    finally:
        chaos.close()
    found = chaos.difference
    print("\n".join(found.examples))
    assert found.differing if kind.startswith("row offset") else found.lost
