"""How long to wait before what failed is tried again."""

from __future__ import annotations

import random

DOUBLINGS_MAX = 40


class Backoff:
    """Exponential back-off with full jitter: a random time below a bound that doubles with each failure in a row.

    first_s  the first bound, seconds
    most_s   the last bound, seconds
    jitter   draws the times

    attempts  failures in a row

    source: M. Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015
    """

    def __init__(self, first_s: float, most_s: float, jitter: random.Random) -> None:
        self._first_s, self._most_s, self._jitter = first_s, most_s, jitter
        self.attempts = 0

    def next_s(self) -> float:
        """It failed: how long to wait, seconds."""
        bound_s = min(self._most_s, self._first_s * 2.0 ** min(self.attempts, DOUBLINGS_MAX))
        self.attempts += 1
        return self._jitter.uniform(0, bound_s)

    def reset(self) -> None:
        """It succeeded."""
        self.attempts = 0
