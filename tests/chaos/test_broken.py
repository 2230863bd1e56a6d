"""The comparison of `chaos` would notice if the service were not exactly once: workers that are broken on purpose, on a real Kafka.

A file of its own: where files are tests' unit of distribution, this one runs beside the rounds of `test_chaos`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import broken
from tests.chaos.chaos import Chaos
from tests.conftest import need_local_kafka

pytestmark = [pytest.mark.broker, pytest.mark.timeout(900)]
ROUNDS, SEED = 2, 1


@pytest.mark.parametrize("kind", broken.KINDS)
def test_a_broken_worker_is_found_out(tmp_path: Path, kind: str) -> None:
    need_local_kafka()
    chaos = Chaos(tmp_path, SEED, ROUNDS, interval_s=0.05)
    try:
        chaos.open(workers=1, kind=kind)
        for _ in range(ROUNDS):
            chaos.calm_round()
    finally:
        chaos.close()
    found = chaos.compared.difference
    print("\n".join(found.examples))
    assert found.differing if kind.startswith("row offset") else found.lost
