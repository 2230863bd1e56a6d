"""Times between attempts."""

from __future__ import annotations

import random

from detector.backoff import Backoff


def test_full_jitter_below_a_bound_that_doubles() -> None:
    draws = [Backoff(0.5, 30.0, random.Random(seed)) for seed in range(2_000)]
    for bound_s in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
        waits_s = [backoff.next_s() for backoff in draws]
        assert 0.99 * bound_s < max(waits_s) <= bound_s
        assert min(waits_s) < 0.01 * bound_s


def test_a_success_begins_anew_and_many_failures_do_not_overflow() -> None:
    backoff = Backoff(0.5, 30.0, random.Random(1))
    assert max(backoff.next_s() for _ in range(5_000)) <= 30.0
    assert backoff.attempts == 5_000
    backoff.reset()
    assert backoff.next_s() <= 0.5
