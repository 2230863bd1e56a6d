"""Messages, and what the decoder makes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from detector.codec.messages import Messages
from detector.codec.reading_format import Decoded
from detector.codec.readings import JsonReadings, ReadingFormat
from detector.core.readings import Partition, StreamNames

T_US = 1_793_527_200_123_456  # 2026-11-01T10:00:00.123456Z


def messages(values: Sequence[bytes | None], keys: Sequence[bytes | None] | bytes = b"s1", log_time_us: int = -1) -> Messages:
    count = len(values)
    return Messages(
        key=[keys] * count if isinstance(keys, bytes) else keys,
        value=values,
        partition=np.zeros(count, np.int32),
        offset=np.arange(100, 100 + count),
        log_time_us=np.full(count, log_time_us, np.int64),
        partitions=(Partition("readings", 0),),
    )


def decode(
    format: ReadingFormat, *values: Any, keys: Sequence[bytes | None] | bytes = b"s1", log_time_us: int = -1
) -> tuple[Decoded, list[str]]:
    """Decoded, and the stream of each reading. What is not bytes is written as JSON."""
    names = StreamNames()
    raw = [value if isinstance(value, bytes | None) else json.dumps(value).encode() for value in values]
    decoded = JsonReadings(format, names).decode(messages(raw, keys, log_time_us))
    return decoded, [names.name(stream) for stream in decoded.batch.stream_id.tolist()]


def values_of(decoded: Decoded) -> list[list[float | None]]:
    return [[None if number != number else number for number in row] for row in decoded.batch.value.tolist()]
