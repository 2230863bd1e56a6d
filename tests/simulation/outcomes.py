"""What came of messages: alerts and dead letters by the place of their messages, and the disposition of every reading."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from detector.codec.messages import Message
from detector.codec.readings import Decoded
from detector.core.batch_result import BatchResult
from detector.core.readings import Disposition, Partition
from detector.ports import Observer

REASON = "__connect.errors."


@dataclass
class Outcomes(Observer):
    """An observer: what became of every reading, per partition in log order, bit for bit; and how often, by disposition."""

    rows: dict[Partition, list[tuple[Any, ...]]] = field(default_factory=dict)
    dispositions: Counter[Disposition] = field(default_factory=Counter)

    def observe(self, decoded: Decoded, result: BatchResult, seconds: Mapping[str, float]) -> None:
        batch = decoded.batch
        self.dispositions.update(map(Disposition, result.disposition.tolist()))
        self.dispositions[Disposition.INVALID] += sum(reject.readings for reject in decoded.rejects)
        for at in range(len(batch)):
            self.rows.setdefault(batch.partitions[batch.partition[at]], []).append(
                (
                    int(batch.offset[at]),
                    int(batch.item[at]),
                    int(result.disposition[at]),
                    result.score[at].tobytes(),
                    result.tail_probability[at].tobytes(),
                    result.expected[at].tobytes(),
                    result.alert.get(at),
                )
            )


def place_of(message: Message) -> tuple[int, int]:
    """Number of the partition, and offset, that an alert or a dead letter belongs to."""
    headers = dict(message.headers)
    if REASON + "partition" in headers:
        return int(headers[REASON + "partition"] or b""), int(headers[REASON + "offset"] or b"")
    return _place_in(message.value or b"")


@lru_cache(100_000)
def _place_in(alert: bytes) -> tuple[int, int]:
    place = json.loads(alert)["input"]
    return place["partition"], place["offset"]


def offset_of(message: Message) -> int:
    """The offset that an alert or a dead letter belongs to."""
    return place_of(message)[1]


def by_partition(messages: Sequence[Message]) -> dict[int, list[Message]]:
    """Alerts or dead letters per number of their partition, in order."""
    found: dict[int, list[Message]] = {}
    for message in messages:
        found.setdefault(place_of(message)[0], []).append(message)
    return found
