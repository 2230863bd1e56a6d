"""Acceptance by hand: a person says that what an open alert is about is the new normal of a stream.

It stands in the log of readings, at a place of its own between them, so that a replay decides the same. An open alert of the score ends
there as its age would end it, the level that it found becoming the stream's own; so do channels that are stuck or missing. Silence is not accepted: a
stream that is gone for good is forgotten in time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.readings import Partition, ReadingBatch


@dataclass(frozen=True, slots=True)
class Acceptance:
    """One of them.

    stream     its name, UTF-8
    partition, offset   where it stands in the log
    place      how many readings of the batch come before it
    """

    stream: bytes
    partition: Partition
    offset: int
    place: int

    def as_reading(self, stream_id: int, event_time_us: int, channels: int) -> ReadingBatch:
        """It at its place in the log, as a batch of one reading in which everything is missing."""
        one = np.array([0], np.int32)
        return ReadingBatch(
            stream_id=np.array([stream_id], np.int32),
            event_time_us=np.array([event_time_us], np.int64),
            value=np.full((1, channels), np.nan, np.float32),
            partition=one,
            offset=np.array([self.offset], np.int64),
            item=one,
            partitions=(self.partition,),
        )
