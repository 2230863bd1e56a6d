"""What a log keeps, as a whole."""

from __future__ import annotations

from collections.abc import Sequence

from detector.core.readings import Partition
from detector.ports import Log


def kept(log: Log, partitions: Sequence[Partition]) -> dict[Partition, dict[bytes, bytes]]:
    """The state of restored partitions: of all records the last of each key, without tombstones."""
    last: dict[Partition, dict[bytes, bytes | None]] = {partition: {} for partition in partitions}
    for partition, records in log.state(partitions):
        last[partition] |= records
    return {partition: {key: value for key, value in each.items() if value is not None} for partition, each in last.items()}
