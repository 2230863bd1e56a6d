"""Exactly once through crashes, rebalances and broker failures, on a real Kafka."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.changes import CHANGES
from tests.chaos.chaos import run
from tests.chaos.disturbances import KINDS
from tests.conftest import need_local_kafka

pytestmark = [pytest.mark.broker, pytest.mark.timeout(900)]
ROUNDS, SEED = 19, 1


def test_nothing_is_lost_repeated_or_different(tmp_path: Path) -> None:
    need_local_kafka()
    assert len({*KINDS, *CHANGES}) == ROUNDS  # each once
    for line in run(tmp_path, SEED, ROUNDS):
        print(line)
    assert line.startswith(f"rounds {ROUNDS}, ")
    assert line.endswith(", lost 0, repeated 0, differing 0, silent 0")
