"""A log that plays a script, and a judge whose state names the readings that it was made of, for the tests of the service."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.codec.messages import Message, Messages
from detector.codec.readings import Decoded, Reject
from detector.config import Service
from detector.core.alerts import Alert
from detector.core.baseline_reset import BaselineReset
from detector.core.batch_result import BatchResult
from detector.core.event_time import Clocks, Time, move_clock
from detector.core.readings import NOT_JUDGED, Disposition, Partition, ReadingBatch, StreamNames
from detector.core.state_store import StateStore
from detector.core.stream_state import layout_of
from detector.ports import CommitBatch, Observer, PartitionPosition, PollResult, RevokeCallback, WorkerState, WorkerStats, ignore_revoke
from detector.service.state_manager import StateManager
from detector.service.worker import Worker
from tests.simulation.mishaps import Commits
from tests.simulation.service import Clock, Unhurried

P0, P1 = Partition("sensors", 0), Partition("sensors", 1)
SETTINGS = Service(poll_timeout_ms=1, backoff_ms_max=10, drain_timeout_s=0.05)
FINGERPRINT = "0" * 64
CALLS_MAX = 1_000_000


class Judge:
    """Remembers of each stream, in order, the offsets of its readings: as a number in which every offset, and their order, counts.
    A reading with a value above 0 is an alert; there is room for `room` readings per batch."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.room = room
        self.names = StreamNames()
        self.model = SimpleNamespace(fingerprint=FINGERPRINT, channels=("a",))
        self.store = StateStore(layout_of([], {}), self.names, 1_000_000)
        self.clocks = Clocks()
        self.judged: list[tuple[Partition, int]] = []  # every reading that was shown, repeatedly
        self.loses_a_reading = False

    @property
    def streams(self) -> int:
        return len(self.store)

    @property
    def traces(self) -> NDArray[np.uint64]:
        """u8[rows] of the streams. They stand in the place of the time of an alert's level."""
        return self.store.heads["level_since_us"].view(np.uint64)

    @property
    def alerts_open(self) -> int:
        return 0

    def still_open(self) -> list[Alert]:
        """As if every stream had an alert open; its offset is the trace."""
        state = self.state(tuple({self.store.partition(row) for row in np.flatnonzero(self.store.slot_of_row >= 0).tolist()}))
        return [
            Alert("", "opened", "score", "evidence", "warning", name, 0, 0, 1, 0, (), at, trace, 0) for (at, name), trace in state.items()
        ]

    def detect(self, batch: ReadingBatch, resets: Sequence[BaselineReset] = ()) -> BatchResult:
        n = len(batch)
        rows = self.store.rows_for(batch)
        slots = self.store.slots_for(batch.partitions)[batch.partition]
        self.clocks.grow(self.store.slots)
        for slot, event_time_us in zip(slots.tolist(), batch.event_time_us.tolist(), strict=True):
            move_clock.py_func(self.clocks.times, slot, event_time_us)
        is_new = batch.offset >= self.store.stands_for[rows]
        disposition = np.where(is_new, np.uint8(Disposition.SCORED), np.uint8(Disposition.DUPLICATE))
        disposition[self.room :] = Disposition.INVALID
        alerts = []
        for at, row in enumerate(rows.tolist()):
            self.judged.append((batch.partitions[batch.partition[at]], int(batch.offset[at])))
            if disposition[at] == Disposition.SCORED:
                self.traces[row] = self.traces[row] * np.uint64(31) + np.uint64(batch.offset[at] + 1)
                self.store.heads["event_time_us"][row] = batch.event_time_us[at]
                if batch.value[at, 0] > 0:
                    alerts.append(self._alert(batch, at))
        if self.loses_a_reading:
            disposition[:1] = NOT_JUDGED
        nan = np.full(n, np.nan)
        return BatchResult(
            disposition, nan.astype(np.float32), nan, nan[:, None].astype(np.float32), {}, tuple(alerts), rows[is_new].astype(np.int64)
        )

    def _alert(self, batch: ReadingBatch, at: int) -> Alert:
        partition, offset = batch.partitions[batch.partition[at]], int(batch.offset[at])
        return Alert("id", "opened", "score", "evidence", "warning", "s", 0, 0, 1.0, 0.1, (), partition, offset, at)

    def forget(self, partitions: Sequence[Partition]) -> None:
        for slot in self.store.free_partitions(partitions).tolist():
            self.clocks.grow(self.store.slots)
            self.clocks[slot] = Time()

    def state(self, partitions: Sequence[Partition] = (P0, P1)) -> dict[tuple[Partition, str], int]:
        """The trace of every stream in the state."""
        found = {}
        for partition in partitions:
            for row in self.store.rows_in(int(self.store.slots_for((partition,))[0])).tolist():
                found[partition, self.store.stream(row)] = int(self.traces[row])
        return found


class Decoder:
    """Of a message such as `s1 alert`: a reading of stream s1 with an alert. `s1` alone is a reading that decides nothing, `s1 two` two
    readings, `bad` a reject."""

    def __init__(self, names: StreamNames) -> None:
        self._names = names

    def decode(self, messages: Messages) -> Decoded:
        words = [(value or b"").split() for value in messages.value]
        at = [k for k, word in enumerate(words) for _ in range({b"bad": 0, b"two": 2}.get(word[-1], 1))]
        batch = ReadingBatch(
            stream_id=np.array([self._names[words[k][0]] for k in at], np.int32),
            event_time_us=messages.offset[at] + 1_000,
            value=np.array([[words[k][-1] == b"alert"] for k in at], np.float32).reshape(len(at), 1),
            partition=messages.partition[at],
            offset=messages.offset[at],
            item=np.zeros(len(at), np.int32),
            partitions=messages.partitions,
        )
        rejects = tuple(Reject(k, "MalformedJson", "not JSON") for k, word in enumerate(words) if word == [b"bad"])
        return Decoded(batch, np.array(at, np.int64), rejects)


class Encoder:
    def message(self, alert: Alert) -> Message:
        return Message(alert.stream.encode(), f"{alert.partition.number}:{alert.offset}".encode())


@dataclass(frozen=True)
class Turn:
    """One poll.

    count      messages of each partition that is being read
    is_heard   revoked with a last word (`on_revoke`); otherwise nobody asks
    assigned, revoked, changed, error, is_joined   as they say
    """

    count: int = 1_000
    assigned: tuple[Partition, ...] = ()
    revoked: tuple[Partition, ...] = ()
    changed: tuple[Partition, ...] = ()
    is_heard: bool = True
    error: Exception | None = None
    is_joined: bool = True


@dataclass
class Log:
    """Some messages per partition, and what is true of them. A poll takes the next of `turns`, or brings all that is there; each other
    call takes the next of its `errors`. `stop` is set in the call that `stops_in` names, the n-th of its kind."""

    stored: dict[Partition, list[str]] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)
    errors: dict[str, list[Exception | None]] = field(default_factory=dict)
    stops_in: tuple[str, int] = ("", 0)
    told: list[str] = field(default_factory=list)
    committed: list[CommitBatch] = field(default_factory=list)
    truth: dict[Partition, PartitionPosition] = field(default_factory=dict)
    kept: dict[Partition, dict[bytes, bytes]] = field(default_factory=dict)
    restored: list[tuple[Partition, ...]] = field(default_factory=list)
    resumed: list[dict[Partition, int]] = field(default_factory=list)
    timeouts_s: list[float] = field(default_factory=list)
    stop: Event = field(default_factory=Event)
    closed: int = 0
    reading: dict[Partition, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def _call(self, name: str) -> None:
        self.told.append(name)
        assert len(self.told) < CALLS_MAX, "it goes round in circles"
        if self.stops_in == (name, self.told.count(name)):
            self.stop.set()
        errors = self.errors.get(name)
        error = errors.pop(0) if errors else None
        if error is not None:
            raise error

    def poll(self, messages_max: int, timeout_s: float, on_revoke: RevokeCallback = ignore_revoke) -> PollResult:
        self._call("poll")
        self.timeouts_s.append(timeout_s)
        turn = self.turns.pop(0) if self.turns else Turn()
        if turn.error is not None:
            raise turn.error
        if turn.revoked and turn.is_heard:
            on_revoke(turn.revoked)
        for partition in (*turn.revoked, *turn.changed):
            self.reading.pop(partition, None)
        return PollResult(self._read(turn.count), turn.assigned, turn.revoked, turn.changed, turn.is_joined)

    def _read(self, count: int) -> Messages:
        found = []
        for partition, position in self.reading.items():
            end = min(position + count, len(self.stored.get(partition, [])))
            found += [(partition, offset) for offset in range(position, end)]
            self.reading[partition] = max(position, end)
        return messages_of(self.stored, found)

    def commit(self, batch: CommitBatch) -> None:
        self._call("commit")
        self.committed.append(batch)
        for partition in {*batch.offsets, *batch.state}:
            at = self.truth.get(partition, PartitionPosition(0, False))
            self.truth[partition] = PartitionPosition(batch.offsets.get(partition, at.offset), True, at.first, at.end)
            state = {**self.kept.get(partition, {}), **batch.state.get(partition, {})}
            self.kept[partition] = {key: value for key, value in state.items() if value is not None}

    def restore(self, partitions: Sequence[Partition]) -> Mapping[Partition, PartitionPosition]:
        for partition in partitions:
            self.reading.pop(partition, None)
        self._call("restore")
        self.restored.append(tuple(partitions))
        return {partition: self.truth.get(partition, PartitionPosition(0, False)) for partition in partitions}

    def state(self, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Mapping[bytes, bytes | None]]]:
        """A record at a time."""
        for partition in partitions:
            for key, value in self.kept.get(partition, {}).items():
                self._call("state")
                yield partition, {key: value}

    def resume(self, offsets: Mapping[Partition, int]) -> None:
        self._call("resume")
        self.resumed.append(dict(offsets))
        self.reading.update(offsets)

    def lag(self) -> Mapping[Partition, int]:
        return {P0: 7}

    def topics_missing(self) -> Sequence[str]:
        return self.missing

    def close(self) -> None:
        self.closed += 1

    @property
    def alerts(self) -> list[str]:
        """As committed: `partition:offset`."""
        return [(message.value or b"").decode() for batch in self.committed for message in batch.alerts]


def messages_of(stored: Mapping[Partition, Sequence[str]], places: Sequence[tuple[Partition, int]]) -> Messages:
    """The messages at these places."""
    partitions = tuple(sorted({partition for partition, _ in places}))
    return Messages(
        key=[b"key"] * len(places),
        value=[stored[partition][offset].encode() for partition, offset in places],
        partition=np.array([partitions.index(partition) for partition, _ in places], np.int32),
        offset=np.array([offset for _, offset in places], np.int64),
        log_time_us=np.full(len(places), -1, np.int64),
        partitions=partitions,
    )


@dataclass
class Seen(Observer):
    """An observer: readings and seconds of every batch; and in which order it heard of what: offsets of a batch, what was open, what was lost."""

    batches: list[tuple[int, set[str]]] = field(default_factory=list)
    offsets: Counter[tuple[Partition, int]] = field(default_factory=Counter)
    seconds: list[Mapping[str, float]] = field(default_factory=list)
    heard: list[Any] = field(default_factory=list)

    def restored(self, alerts: Sequence[Alert]) -> None:
        self.heard.append({(alert.partition, alert.stream): alert.offset for alert in alerts})

    def forget(self, partitions: Sequence[Partition]) -> None:
        self.heard.append(tuple(partitions))

    def observe(self, decoded: Decoded, result: BatchResult, seconds: Mapping[str, float]) -> None:
        assert all(spent >= 0 for spent in seconds.values())
        self.batches.append((len(result), set(seconds)))
        self.seconds.append(seconds)
        batch = decoded.batch
        offsets = [(batch.partitions[p], int(offset)) for p, offset in zip(batch.partition, batch.offset, strict=True)]
        self.offsets.update(offsets)
        self.heard.append(offsets)


class Noting(WorkerStats):
    """WorkerStats that remember the way through the states."""

    def __init__(self) -> None:
        self.path: list[str] = []
        super().__init__()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name == "state":
            self.path.append(WorkerState(value).value)


@dataclass
class Bench:
    """A worker and all it is made of. late: how many of its commits begin only when they are waited for, 0..1."""

    log: Log
    late: float = 0.0
    interval_s: float = 1.0
    judge: Judge = field(default_factory=Judge)
    seen: Seen = field(default_factory=Seen)
    clock: Clock = field(default_factory=Clock)
    settings: Service = SETTINGS
    executor: Any = None
    stats: Noting = field(default_factory=Noting)
    worker: Worker = field(init=False)

    def __post_init__(self) -> None:
        judge: Any = self.judge
        incarnations = (bytes([k] * 8) for k in range(1, 256))
        self.state_manager = StateManager(judge, self.interval_s, lambda: next(incarnations))
        self.worker = Worker(
            self.log,
            Decoder(self.judge.names),
            judge,
            Encoder(),
            self.state_manager,
            settings=self.settings,
            observers=[self.seen],
            stats=self.stats,
            jitter=Unhurried(),
            clock=self.clock,
            executor=self.executor or Commits(random.Random(0), self.late),
        )

    def step(self, count: int = 1, pause_s: float = 0.0) -> None:
        """So many steps, and before each so much time."""
        for _ in range(count):
            self.clock.now_s += pause_s
            self.worker.step()

    def run(self) -> None:
        """Until the log says that it is enough."""
        self.worker.run(self.log.stop)


def undisturbed(stored: Mapping[Partition, Sequence[str]]) -> tuple[dict[tuple[Partition, str], int], list[str]]:
    """The state of a judge that saw all of it once, and the alerts, sorted."""
    judge = Judge()
    places = [(partition, offset) for partition, values in stored.items() for offset in range(len(values))]
    result = judge.detect(Decoder(judge.names).decode(messages_of(stored, places)).batch)
    return judge.state(tuple(stored)), sorted(f"{alert.partition.number}:{alert.offset}" for alert in result.alerts)
