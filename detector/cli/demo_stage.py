"""The demo's scenario: a plant, its faults, and a network that delays, repeats and damages messages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detector.lab.faults import Fault, faults_without_end, schedule_faults
from detector.lab.faulty_network import FaultyNetwork, KeyValue
from detector.lab.match import Opening, Summary, match
from detector.lab.plant import Plant
from detector.lab.simulate import encode, simulate

HOUR_US = 3_600_000_000
QUIET_HOURS = 2
"""The first hours are without faults: the service has never seen these machines."""
GAP_HOURS = 2
TOLERANCE_US = HOUR_US // 2
"""An alert up to so long after a fault's end belongs to it: the way back is as strange as the fault, two or three cycles."""
LATE, DUPLICATES, MALFORMED = 0.0005, 0.0005, 0.0001
BATCH_READINGS = 5_000


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages to send, in order, with the event times (i8[N]) at which they are due."""

    keys: list[bytes]
    values: list[bytes]
    event_time_us: NDArray[np.int64]


@dataclass
class Stage:
    """One run. `sent` messages so far; `now_us` is the event time of the newest; `faults` that have begun by then."""

    seed: int
    machines: int
    hours: float
    faults_wanted: int
    without_end: bool
    sent: int = 0
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.plant = Plant(self.seed, self.machines)
        self.now_us = self.plant.start_us
        self._network = FaultyNetwork(self.seed, late=LATE, duplicates=DUPLICATES, malformed=MALFORMED, delay_messages=2 * self.machines)
        first_us, end_us = self.plant.start_us + QUIET_HOURS * HOUR_US, self.plant.start_us + int(self.hours * HOUR_US)
        self._end_us = None if self.without_end else end_us
        self._scheduled: Iterable[Fault]
        if self.without_end:
            self._scheduled = faults_without_end(self.plant, first_us, seed=self.seed)
        else:
            self._scheduled = schedule_faults(self.plant, self.faults_wanted, first_us, end_us, seed=self.seed, gap_us=GAP_HOURS * HOUR_US)

    def batches(self) -> Iterator[Batch]:
        """The readings as messages, in order of event time."""

        def begun() -> Iterator[Fault]:
            for fault in self._scheduled:
                self.faults.append(fault)
                yield fault

        for chunk in simulate(self.plant, begun(), end_us=self._end_us, chunk_readings_max=BATCH_READINGS):
            keys, values = encode(chunk, self.plant.streams)
            yield Batch(keys, values, chunk.event_time_us)

    def carried(self, batch: Batch, begin: int, end: int) -> Iterator[KeyValue]:
        """The messages begin..end of a batch as they arrive: some late, twice or damaged."""
        if end > begin:
            self.now_us = int(batch.event_time_us[end - 1])
        yield from self._counted(self._network.carry(zip(batch.keys[begin:end], batch.values[begin:end], strict=True)))

    def left(self) -> Iterator[KeyValue]:
        """The messages that are still delayed at the end."""
        yield from self._counted(self._network.rest())

    def _counted(self, messages: Iterator[KeyValue]) -> Iterator[KeyValue]:
        for message in messages:
            self.sent += 1
            yield message

    def summary(self, openings: list[Opening]) -> Summary:
        """How well the opened alerts match the faults, for the time that has been played."""
        begun = [fault for fault in self.faults if fault.start_us <= self.now_us]
        hours = (self.now_us - self.plant.start_us) / HOUR_US
        return match(begun, openings, tolerance_us=TOLERANCE_US, stream_hours=hours * self.machines)
