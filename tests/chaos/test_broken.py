"""The comparison of `chaos` would notice if the service were not exactly once, or passed messages over in silence: workers that are broken on purpose, on a real Kafka.

A file of its own: where files are tests' unit of distribution, this one runs beside the rounds of `test_chaos`.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.chaos import broken, comparison
from tests.chaos.changes import CHANGES
from tests.chaos.chaos import Chaos
from tests.conftest import need_local_kafka

pytestmark = [pytest.mark.broker, pytest.mark.timeout(900)]
ROUNDS, SEED = 2, 1
LONGER = 1  # the new log is longer than the old one


@pytest.mark.parametrize("kind", broken.ONCE)
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


@pytest.mark.parametrize(("kind", "change"), {"ids unseen": "topic made anew", "silent reset": "retention"}.items())
def test_a_worker_that_does_not_see_what_became_of_its_log_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, change: str
) -> None:
    need_local_kafka()
    monkeypatch.setattr(comparison, "LATE_S_MAX", 2.0)
    chaos = Chaos(tmp_path, SEED, ROUNDS, interval_s=0.05)
    try:
        chaos.open(workers=1, kind=kind)
        before = chaos.site.accounted()
        CHANGES[change](chaos.compared, chaos.source, random.Random(LONGER))
        chaos.compared.account(before, chaos.compared.compare().messages)
    finally:
        chaos.close()
    found = chaos.compared.difference
    print("\n".join(found.examples))
    assert found.lost
    assert found.silent
