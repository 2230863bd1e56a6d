"""A log in memory: several partitions, several workers, true transactions, and faults that a seed decides.

    broker = MemoryBroker(partitions=4, faults=Faults(seed=7, commit_aborted=0.1))
    broker.append(0, b"pump7", b'{"temperature": 21.5}')
    worker = broker.join()

Nothing here waits or looks at a clock: the same seed and the same calls give the same run.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from detector.codec.messages import Headers, Message, Messages
from detector.core.readings import Partition
from detector.errors import CommitAborted, Fenced, LogUnavailable
from detector.ports import Fetched, Outcome, Restored


@dataclass(frozen=True, slots=True)
class Faults:
    """How often things go wrong: probabilities, 0..1, per call.

    seed                   the same seed, the same faults
    cut_poll               a poll brings a random part of what it could, of partitions in random order
    poll_unavailable       a poll raises LogUnavailable
    commit_unavailable     a commit raises LogUnavailable; nothing became true
    commit_aborted         a commit raises CommitAborted; nothing became true
    commit_unacknowledged  a commit raises CommitAborted; all of it became true
    rebalance              before a poll the partitions are dealt anew, at random
    """

    seed: int = 0
    cut_poll: float = 0.0
    poll_unavailable: float = 0.0
    commit_unavailable: float = 0.0
    commit_aborted: float = 0.0
    commit_unacknowledged: float = 0.0
    rebalance: float = 0.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in a partition; its offset is its place."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    log_time_us: int


@dataclass(slots=True)
class Truth:
    """What is committed, and so what every reader sees: all of a commit or nothing of it."""

    alerts: list[Message] = field(default_factory=list)
    dead_letters: list[Message] = field(default_factory=list)
    state: dict[Partition, dict[bytes, bytes]] = field(default_factory=dict)
    offsets: dict[Partition, int] = field(default_factory=dict)

    def add(self, outcome: Outcome) -> None:
        self.alerts += outcome.alerts
        self.dead_letters += outcome.dead_letters
        for partition, rows in outcome.state.items():
            saved = self.state.setdefault(partition, {})
            for key, row in rows.items():
                if row is None:
                    saved.pop(key, None)
                else:
                    saved[key] = row
        self.offsets.update(outcome.offsets)


class MemoryBroker:
    """One topic with its consumer group and what the group has committed (`truth`).

    A partition has at most one owner. `_dealt` says who should have it: a worker gives up what is no longer dealt to it, and
    takes what is and has no owner, at its next poll (as cooperative rebalancing does it).
    """

    def __init__(self, partitions: int = 1, *, topic: str = "readings", faults: Faults = Faults()) -> None:
        self.partitions = tuple(Partition(topic, number) for number in range(partitions))
        self.truth = Truth()
        self.faults = faults
        self._random = random.Random(faults.seed)  # noqa: S311 - faults, not secrets
        self._stored: dict[Partition, list[Stored]] = {partition: [] for partition in self.partitions}
        self._members: list[MemoryLog] = []
        self._dealt: dict[Partition, MemoryLog] = {}
        self._owner: dict[Partition, MemoryLog] = {}
        self._expired: set[tuple[MemoryLog, Partition]] = set()  # taken from a worker that has not heard of it yet

    def append(self, partition: int, key: bytes | None, value: bytes | None, *, headers: Headers = (), log_time_us: int = -1) -> int:
        """Add a message; its offset."""
        stored = self._stored[self.partitions[partition]]
        stored.append(Stored(key, value, headers, log_time_us))
        return len(stored) - 1

    def join(self) -> MemoryLog:
        """A new worker of the group."""
        member = MemoryLog(self)
        self._members.append(member)
        self._deal()
        return member

    def remove(self, member: MemoryLog) -> None:
        """Take a worker out of the group for good: it left or crashed."""
        if member in self._members:
            self._members.remove(member)
            self.expire(member)
            self._expired = {(owner, partition) for owner, partition in self._expired if owner is not member}
            self._deal()

    def expire(self, member: MemoryLog) -> None:
        """Take a worker's partitions away without its knowing, as after a long silence. It hears of it at its next poll."""
        for partition in self.owned(member):
            del self._owner[partition]
            self._expired.add((member, partition))

    def happens(self, probability: float) -> bool:
        """Whether a fault happens now."""
        return probability > 0 and self._random.random() < probability

    def _deal(self, order: Sequence[Partition] | None = None) -> None:
        """Deal the partitions to the members in turn."""
        self._dealt = {}
        if self._members:
            for turn, partition in enumerate(order or self.partitions):
                self._dealt[partition] = self._members[turn % len(self._members)]

    # -- what members ask ---------------------------------------------------------------------------------------------

    def rebalance(self, member: MemoryLog) -> tuple[list[Partition], list[Partition]]:
        """Let a member give up and take; what it gained and lost."""
        if self.happens(self.faults.rebalance):
            self._deal(self._random.sample(self.partitions, len(self.partitions)))
        lost = [partition for partition in self.owned(member) if self._dealt.get(partition) is not member]
        for partition in lost:
            del self._owner[partition]
        lost += [partition for owner, partition in self._expired if owner is member]
        self._expired = {(owner, partition) for owner, partition in self._expired if owner is not member}
        gained = [partition for partition, due in self._dealt.items() if due is member and partition not in self._owner]
        self._owner.update(dict.fromkeys(gained, member))
        return sorted(gained), sorted(lost)

    def owned(self, member: MemoryLog) -> list[Partition]:
        """The partitions that a member owns."""
        return [partition for partition in self.partitions if self._owner.get(partition) is member]

    def is_member(self, member: MemoryLog) -> bool:
        """Whether the group still counts this worker."""
        return member in self._members

    def end(self, partition: Partition) -> int:
        """The offset after a partition's last message."""
        return len(self._stored[partition])

    def stored(self, partition: Partition, start: int, stop: int) -> list[Stored]:
        """The messages [start, stop) of a partition."""
        return self._stored[partition][start:stop]

    def cut(self, messages_max: int, ready: Mapping[Partition, int]) -> list[tuple[Partition, int]]:
        """How many messages of which partition the next poll brings, in order; `ready` says how many there are of each."""
        order = list(ready)
        if self.happens(self.faults.cut_poll):
            self._random.shuffle(order)
            messages_max = self._random.randint(0, messages_max)
            ready = {partition: self._random.randint(0, count) for partition, count in ready.items()}
        cuts = []
        for partition in order:
            count = min(messages_max, ready[partition])
            messages_max -= count
            if count:
                cuts.append((partition, count))
        return cuts


class MemoryLog:
    """One worker's view of a MemoryBroker. Made by `MemoryBroker.join`."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._position: dict[Partition, int] = {}  # of restored partitions: the next offset to read

    def poll(self, messages_max: int, timeout_s: float) -> Fetched:
        """See `ports.Log`; never waits. A partition in both `lost` and `gained` was lost first."""
        broker = self._broker
        if not broker.is_member(self):
            raise Fenced("this worker is no longer a member of the group", fix="start another")
        if broker.happens(broker.faults.poll_unavailable):
            raise LogUnavailable("a fault: the log cannot be reached")
        gained, lost = broker.rebalance(self)
        for partition in lost:
            self._position.pop(partition, None)
        cuts = broker.cut(messages_max, {each: broker.end(each) - position for each, position in self._position.items()})
        return Fetched(self._read(cuts), tuple(gained), tuple(lost))

    def _read(self, cuts: list[tuple[Partition, int]]) -> Messages:
        partitions = tuple(sorted({partition for partition, _ in cuts}))
        stored: list[Stored] = []
        number: list[int] = []
        offset: list[int] = []
        for partition, count in cuts:
            start = self._position[partition]
            stored += self._broker.stored(partition, start, start + count)
            number += [partitions.index(partition)] * count
            offset += range(start, start + count)
            self._position[partition] = start + count
        return Messages(
            [message.key for message in stored],
            [message.value for message in stored],
            np.array(number, np.int32),
            np.array(offset, np.int64),
            np.array([message.log_time_us for message in stored], np.int64),
            partitions,
            lambda position: stored[position].headers,
        )

    def commit(self, outcome: Outcome) -> None:
        """See `ports.Log`. Transactional: refused as a whole if the worker has lost a partition of the outcome."""
        broker, faults = self._broker, self._broker.faults
        owned = broker.owned(self)
        if foreign := sorted({*outcome.offsets, *outcome.state}.difference(owned)):
            raise CommitAborted(f"{foreign[0].topic} {foreign[0].number} belongs to another worker now")
        if broker.happens(faults.commit_unavailable):
            raise LogUnavailable("a fault: the log cannot be reached")
        if broker.happens(faults.commit_aborted):
            raise CommitAborted("a fault: the transaction was aborted")
        broker.truth.add(outcome)
        if broker.happens(faults.commit_unacknowledged):
            raise CommitAborted("a fault: the acknowledgement was lost")

    def restore(self, partitions: Sequence[Partition]) -> Mapping[Partition, Restored]:
        """See `ports.Log`. A partition that was taken away unheard is not read; the next poll says that it is lost."""
        truth = self._broker.truth
        restored = {each: Restored(truth.offsets.get(each, 0), dict(truth.state.get(each, {}))) for each in partitions}
        owned = self._broker.owned(self)
        self._position.update({partition: at.offset for partition, at in restored.items() if partition in owned})
        return restored

    def lag(self) -> Mapping[Partition, int]:
        """See `ports.Log`."""
        return {partition: self._broker.end(partition) - position for partition, position in self._position.items()}

    def close(self) -> None:
        """See `ports.Log`."""
        self._position.clear()
        self._broker.remove(self)
