"""What judging takes: cores, workers, memory, saved state. The figures are those of docs/sizing.md."""

from __future__ import annotations

import math
from dataclasses import dataclass

AROUND_JUDGING_US = 2.3
"""Fetching, decoding and committing, per reading."""
JUDGING_US = {True: (1.4, 0.2), False: (0.8, 0.126)}
"""Judging, per reading: so much, and so much more per channel; True: the universal model."""
CORE_SHARE = 0.5
"""So much of a core is used, so that a backlog is worked off as fast as it came."""
PROCESS_BYTES = 512 * 2**20
MEMORY_PER_STATE = 1.3


@dataclass(frozen=True, slots=True)
class Estimate:
    """What judging takes.

    cores          busy with it
    workers        of one core each
    memory_bytes   of one worker
    state_bytes    of all streams, as saved
    stream_bytes   of one
    """

    cores: float
    workers: int
    memory_bytes: int
    state_bytes: int
    stream_bytes: int


def estimate(streams: int, readings_hz: float, channels: int, stream_bytes: int, *, is_universal: bool) -> Estimate:
    """What judging takes.

    readings_hz   readings per second, of all streams; NaN: not known, and so are the cores
    stream_bytes  state of a stream
    """
    fixed, per_channel = JUDGING_US[is_universal]
    cores = readings_hz * (AROUND_JUDGING_US + fixed + per_channel * channels) / 1e6
    workers = max(1, math.ceil(cores / CORE_SHARE)) if math.isfinite(cores) else 1
    state = streams * stream_bytes
    return Estimate(cores, workers, int(PROCESS_BYTES + MEMORY_PER_STATE * state / workers), state, stream_bytes)
