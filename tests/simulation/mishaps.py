"""What happens to a worker from outside: it is killed between any two calls, and its commits end when a seed says so, or never."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import TypeVar

from detector.codec.state_serde import CHECKPOINT
from detector.core.readings import Partition
from detector.errors import DetectorError
from detector.ports import CommitBatch, PartitionPosition, PollResult, RevokeCallback, ignore_revoke
from tests.doubles.memory_log import MemoryLog

T = TypeVar("T")


class Killed(BaseException):
    """SIGKILL: nothing of the worker may run after this."""


class Mortal:
    """A worker's log, in one of whose next calls the worker is killed if it is doomed: before the call does anything, or after.

    saved     what its commits made true: "rows", "checkpoints", "tombstones"
    skipped   messages that were not committed when they were restored, that the worker then did not ask for, and beyond which it committed
    known     messages that it read again although they were committed when their partition was restored
    """

    def __init__(self, log: MemoryLog) -> None:
        self.log = log
        self.saved: Counter[str] = Counter()
        self.skipped = self.known = 0
        self._passed: dict[Partition, int] = {}  # skipped, until something is committed
        self._committed: dict[Partition, int] = {}  # when the partition was restored, of the log that it had then
        self._calls_left: float = float("inf")
        self._dies_before = False

    def doom(self, rng: random.Random, calls_max: int) -> None:
        """Die in one of the next calls."""
        self._calls_left, self._dies_before = rng.randint(1, calls_max), rng.random() < 0.5

    def spare(self) -> None:
        """Live on, after all."""
        self._calls_left = float("inf")

    def _call(self, call: Callable[[], T]) -> T:
        self._calls_left -= 1
        is_last = self._calls_left <= 0
        if is_last and self._dies_before:
            raise Killed
        result = call()
        if is_last:
            raise Killed
        return result

    def poll(self, messages_max: int, timeout_s: float, on_revoke: RevokeCallback = ignore_revoke) -> PollResult:
        polled = self._call(lambda: self.log.poll(messages_max, timeout_s, on_revoke))
        messages = polled.messages
        for index, partition in enumerate(messages.partitions):
            offsets = messages.offset[messages.partition == index]
            self.known += int((offsets < self._committed[partition]).sum())
        return polled

    def commit(self, batch: CommitBatch) -> None:
        self._call(lambda: self.log.commit(batch))
        self.skipped += sum(self._passed.pop(partition, 0) for partition in batch.offsets)
        for rows in batch.state.values():
            for key, row in rows.items():
                self.saved["tombstones" if row is None else "checkpoints" if key == CHECKPOINT else "rows"] += 1

    def restore(self, partitions: Sequence[Partition]) -> Mapping[Partition, PartitionPosition]:
        restored = self._call(lambda: self.log.restore(partitions))
        for partition in restored:
            self._committed[partition] = self.log._broker.known_to(partition)
        return restored

    def state(self, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Mapping[bytes, bytes | None]]]:
        for piece in self.log.state(partitions):
            yield self._call(lambda piece=piece: piece)  # type: ignore[misc]

    def resume(self, offsets: Mapping[Partition, int]) -> None:
        self._call(lambda: self.log.resume(offsets))
        self._passed.update((partition, max(0, offset - self._committed[partition])) for partition, offset in offsets.items())

    def lag(self) -> Mapping[Partition, int]:
        return self.log.lag()

    def topics_missing(self) -> Sequence[str]:
        return self.log.topics_missing()

    def close(self) -> None:
        self.log.close()


class OnItsWay(Future[T]):
    """A call that begins late: when somebody waits for it, or when `end` is called; or never."""

    def __init__(self, call: Callable[[], T]) -> None:
        super().__init__()
        self._call: Callable[[], T] | None = call

    def end(self) -> None:
        """Call, unless that was done before."""
        call, self._call = self._call, None
        if call:
            try:
                self.set_result(call())
            except DetectorError as error:
                self.set_exception(error)

    def result(self, timeout: float | None = None) -> T:
        self.end()
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self.end()
        return super().exception(0)


class Commits:
    """Runs commits beside the next batch: at once, or when they are waited for. One at a time."""

    def __init__(self, rng: random.Random, late: float) -> None:
        self._rng = rng
        self._late = late
        self.on_its_way: OnItsWay[None] | None = None

    def submit(self, call: Callable[[], None]) -> Future[None]:
        assert self.on_its_way is None or self.on_its_way.done(), "two commits on their way"
        self.on_its_way = OnItsWay(call)
        if self._rng.random() >= self._late:
            self.on_its_way.end()
        return self.on_its_way

    def end(self) -> None:
        """Let the commit on its way come to its end."""
        if self.on_its_way:
            self.on_its_way.end()
