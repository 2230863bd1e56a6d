"""A log in memory: several partitions, several workers, true transactions, and faults that a seed decides.

    broker = MemoryBroker(partitions=4, faults=Faults(seed=7, commit_aborted=0.1))
    broker.append(0, b"pump7", b'{"temperature": 21.5}')
    worker = broker.join()

Nothing here waits or looks at a clock: the same seed and the same calls give the same run.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from detector.codec.messages import Headers, Messages
from detector.core.readings import Partition
from detector.errors import CommitAborted, Fenced, LogUnavailable
from detector.ports import CommitBatch, PartitionPosition, PollResult, RevokeCallback, ignore_revoke
from tests.doubles.memory_faults import NO_FAULTS, Faults, Identity, Stored, Truth, last_of


class MemoryBroker:
    """One topic with its consumer group.

    truth      what the group has committed
    members    the group's workers
    stored     every message of the present logs; `first` says from which on they still hold them
    identity   per partition which log it has now
    resets_to_end   a worker whose offset the log no longer holds goes on at its end
    happened   faults by their names; "rebalances" that moved a partition, "restores" of one, "refused" commits

    A partition has at most one owner. `_dealt` says who should have it: a worker gives up what is no longer dealt to it, and
    takes what is and has no owner, at its next poll (as cooperative rebalancing does it). `_committer` says whose commits count:
    the owner's, once it has restored; a worker's whose session ended no later than that.
    """

    def __init__(self, partitions: int = 1, *, topic: str = "readings", faults: Faults = NO_FAULTS) -> None:
        self.partitions = tuple(Partition(topic, number) for number in range(partitions))
        self.truth = Truth()
        self.faults = faults
        self.happened: Counter[str] = Counter()
        self._random = random.Random(faults.seed)
        self.stored: dict[Partition, list[Stored]] = {partition: [] for partition in self.partitions}
        self.first = dict.fromkeys(self.partitions, 0)
        self.identity = {partition: Identity() for partition in self.partitions}
        self.resets_to_end = False
        self.members: list[MemoryLog] = []
        self._dealt: dict[Partition, MemoryLog] = {}
        self._owner: dict[Partition, MemoryLog] = {}
        self._committer: dict[Partition, MemoryLog] = {}
        self._expired: set[tuple[MemoryLog, Partition]] = set()  # taken from a worker that has not heard of it yet

    def append(self, partition: int, key: bytes | None, value: bytes | None, *, headers: Headers = (), log_time_us: int = -1) -> int:
        """Add a message; its offset."""
        stored = self.stored[self.partitions[partition]]
        stored.append(Stored(key, value, headers, log_time_us))
        return len(stored) - 1

    def drop(self, partition: Partition, first: int) -> None:
        """Let retention pass: the log no longer holds what comes before `first`."""
        self.first[partition] = max(self.first[partition], first)

    def recreate(self, partition: Partition) -> None:
        """Another log in the place of the old one, empty; the group's offset goes with the old one."""
        self.remove_topic(partition)
        self.identity[partition] = self.identity[partition].made_anew()

    def remove_topic(self, partition: Partition) -> None:
        """Nothing is there any more, until it is made anew."""
        self.stored[partition], self.first[partition] = [], 0
        self.identity[partition].is_missing = True
        self.truth.offsets.pop(partition, None)
        self.truth.epochs.pop(partition, None)
        self.truth.history.pop(partition, None)

    def truncate(self, partition: Partition, end: int) -> None:
        """Let the log lose its end; what is appended then has a later epoch."""
        del self.stored[partition][end:]
        self.first[partition] = min(self.first[partition], end)
        self.identity[partition].cut(end)

    def known_to(self, partition: Partition) -> int:
        """Up to where the messages that the log holds now were committed."""
        offset = self.truth.offsets.get(partition, self.truth.history.get(partition, [0])[-1])  # it may have been deleted since
        diverges_at = self.identity[partition].diverges_at(offset, self.truth.epochs.get(partition, 0))
        return offset if diverges_at is None else diverges_at

    def join(self) -> MemoryLog:
        """A new worker of the group."""
        member = MemoryLog(self)
        self.members.append(member)
        self._deal()
        return member

    def remove(self, member: MemoryLog) -> None:
        """Take a worker out of the group for good: it left or crashed."""
        if member in self.members:
            self.members.remove(member)
            self.expire(member)
            self._expired = {(owner, partition) for owner, partition in self._expired if owner is not member}
            self._deal()

    def expire(self, member: MemoryLog) -> None:
        """Take a worker's partitions away without its knowing, as after a long silence. It hears of it at a later poll."""
        outlives = self.happens("commit_outlives")
        for partition in self.owned(member):
            del self._owner[partition]
            self._expired.add((member, partition))
            if not outlives:
                self._committer.pop(partition, None)

    def happens(self, fault: str) -> bool:
        """Whether this one of `Faults` happens now."""
        probability: float = getattr(self.faults, fault)
        happens = probability > 0 and self._random.random() < probability
        self.happened[fault] += happens
        return happens

    def _deal(self, order: Sequence[Partition] | None = None) -> None:
        """Deal the partitions to the members in turn."""
        self._dealt = {}
        if self.members:
            for turn, partition in enumerate(order or self.partitions):
                self._dealt[partition] = self.members[turn % len(self.members)]

    # -- what members ask ---------------------------------------------------------------------------------------------

    def rebalance(self, member: MemoryLog, on_revoke: RevokeCallback) -> tuple[list[Partition], list[Partition]]:
        """Let a member give up and take partitions; what was assigned and revoked."""
        if self.happens("rebalance"):
            self._deal(self._random.sample(self.partitions, len(self.partitions)))
        revoked = [partition for partition in self.owned(member) if self._dealt.get(partition) is not member]
        if revoked:
            on_revoke(tuple(revoked))
        for partition in revoked:
            del self._owner[partition]
        expired = {partition for owner, partition in self._expired if owner is member}
        if expired and not self.happens("expiry_unheard"):
            self._expired -= {(member, partition) for partition in expired}
            revoked += expired
            expired = set()
        assigned = [each for each, due in self._dealt.items() if due is member and each not in self._owner and each not in expired]
        self._owner.update(dict.fromkeys(assigned, member))
        self.happened["rebalances"] += bool(assigned or revoked)
        for partition in revoked:
            if self._committer.get(partition) is member:
                del self._committer[partition]
        return sorted(assigned), sorted(revoked)

    def owned(self, member: MemoryLog) -> list[Partition]:
        """The partitions that a member owns."""
        return [partition for partition in self.partitions if self._owner.get(partition) is member]

    def end(self, partition: Partition) -> int:
        """The offset after a partition's last message."""
        return len(self.stored[partition])

    def cut(self, messages_max: int, ready: Mapping[Partition, int]) -> list[tuple[Partition, int]]:
        """How many messages of which partition the next poll brings, in order; `ready` says how many there are of each."""
        order = list(ready)
        if self.happens("cut_poll"):
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

    def commit(self, member: MemoryLog, batch: CommitBatch) -> None:
        """Make a batch true, unless one of its partitions is not the member's to commit, or a fault happens."""
        faults = self.faults
        for partition in sorted({*batch.offsets, *batch.state}):
            if self._committer.get(partition) is not member:
                self.happened["refused"] += 1
                refused = CommitAborted if member in self.members else Fenced
                raise refused(f"{partition.topic} {partition.number} is not this worker's to commit")
            if not member.reads_the_same(partition):
                self.happened["refused"] += 1
                raise CommitAborted(f"{partition.topic} {partition.number} was made anew")
        if self.happens("commit_unavailable"):
            raise LogUnavailable("a fault: the log cannot be reached")
        if self.happens("commit_aborted"):
            raise CommitAborted("a fault: the transaction was aborted")
        if self.happens("torn_commit"):
            if faults.torn_half == "rest":
                self.truth.add(replace(batch, state={}))
                self.truth.epochs.update(member.epochs(batch.offsets))
                return
            self.truth.add(CommitBatch(state=batch.state))
            raise CommitAborted("a fault: only the state was committed")
        self.truth.add(batch)
        self.truth.epochs.update(member.epochs(batch.offsets))
        if self.happens("commit_unacknowledged"):
            raise CommitAborted("a fault: the acknowledgement was lost")

    def restore(self, member: MemoryLog, partition: Partition) -> PartitionPosition:
        """Where a partition stands. Nobody else's commits count from now on, if the member owns it."""
        if self._owner.get(partition) is member:
            self._committer[partition] = member
        self.happened["restores"] += 1
        first, end, identity = self.first[partition], self.end(partition), self.identity[partition]
        committed = self.truth.offsets.get(partition)
        diverges_at = None if committed is None else identity.diverges_at(committed, self.truth.epochs.get(partition, 0))
        offset = (end if self.resets_to_end else first) if committed is None else committed
        return PartitionPosition(
            offset, committed is not None, first, end,
            log_id=identity.log_id, diverges_at=diverges_at, resets_to_end=self.resets_to_end,
        )  # fmt: skip

    def pieces(self, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Mapping[bytes, bytes | None]]]:
        """What was ever written as state, cut and compacted as a seed decides; in one piece per partition without faults."""
        for partition in partitions:
            written = self.truth.written.get(partition, [])
            if self.happens("cut_poll"):
                compacted = self._random.randint(0, len(written))
                written = [*last_of(written[:compacted]).items(), *written[compacted:]]
                while written:
                    count = self._random.randint(1, len(written))
                    yield partition, last_of(written[:count])
                    written = written[count:]
                    if self.happens("restore_unavailable"):
                        raise LogUnavailable("a fault: the log cannot be reached")
            elif written:
                yield partition, last_of(written)


class MemoryLog:
    """One worker's view of a MemoryBroker. Made by `MemoryBroker.join`."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._position: dict[Partition, int] = {}  # of resumed partitions: the next offset to read
        self._restored: dict[Partition, Identity] = {}  # which log it was, and the epoch of what was read last
        self._known_to: dict[Partition, int] = {}  # committed when it was restored
        self._absent: set[Partition] = set()  # owned, but the topic is gone

    def poll(self, messages_max: int, timeout_s: float, on_revoke: RevokeCallback = ignore_revoke) -> PollResult:
        """See `ports.Log`; never waits. A partition in both `revoked` and `assigned` was revoked first."""
        broker = self._broker
        if self not in broker.members:
            raise Fenced("this worker is no longer a member of the group", fix="start another")
        self._fail("poll_unavailable")
        assigned, revoked = broker.rebalance(self, on_revoke)
        assigned, revoked = self._present(assigned, revoked)
        for partition in revoked:
            self._position.pop(partition, None)
        changed = [each for each, position in self._position.items() if self._has_changed(each, position)]
        for partition in changed:
            del self._position[partition]
        ready = {each: max(0, broker.end(each) - position) for each, position in self._position.items()}
        return PollResult(self._read(broker.cut(messages_max, ready)), tuple(assigned), tuple(revoked), tuple(changed))

    def _present(self, assigned: list[Partition], revoked: list[Partition]) -> tuple[list[Partition], list[Partition]]:
        """As the worker is to hear it: partitions whose topic is gone are revoked, and assigned again when it is back."""
        revoked = [each for each in revoked if each not in self._absent]
        owned = self._broker.owned(self)
        absent = {each for each in owned if self._broker.identity[each].is_missing}
        assigned = [each for each in assigned if each not in absent]
        back = [each for each in owned if each in self._absent - absent and each not in assigned]
        gone = [each for each in owned if each in absent - self._absent and each in self._restored]
        for partition in (*revoked, *gone):
            self._restored.pop(partition, None)
        self._absent = absent
        return sorted((*assigned, *back)), sorted({*revoked, *gone})

    def _has_changed(self, partition: Partition, position: int) -> bool:
        """Whether the log no longer holds what is to be read next, or is another one, as far as the worker hears it."""
        broker, now, then = self._broker, self._broker.identity[partition], self._restored[partition]
        if now.log_id != then.log_id:
            return position > broker.end(partition) or not broker.happens("change_unheard")
        # Known messages are read again up to what was committed: no other ones may be taken for them.
        known_to = max(position, self._known_to[partition])
        if position < broker.first[partition] or now.diverges_at(known_to, then.epoch) is not None:
            return True
        if position >= known_to:
            then.epoch = now.epoch
        return False

    def reads_the_same(self, partition: Partition) -> bool:
        """Whether the partition's log is the one that was restored."""
        now, then = self._broker.identity[partition], self._restored.get(partition)
        return then is not None and then.log_id == now.log_id and not now.is_missing

    def epochs(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Those of what was read last."""
        return {partition: self._restored[partition].epoch for partition in partitions}

    def _read(self, cuts: list[tuple[Partition, int]]) -> Messages:
        partitions = tuple(sorted({partition for partition, _ in cuts}))
        stored: list[Stored] = []
        number: list[int] = []
        offset: list[int] = []
        for partition, count in cuts:
            start = self._position[partition]
            stored += self._broker.stored[partition][start : start + count]
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

    def commit(self, batch: CommitBatch) -> None:
        """See `ports.Log`. Transactional: refused as a whole if a partition of the batch was revoked, or not restored since it was
        assigned: a commit that was long in flight must not count for a partition that came back in the meantime."""
        self._broker.commit(self, batch)

    def restore(self, partitions: Sequence[Partition]) -> Mapping[Partition, PartitionPosition]:
        """See `ports.Log`."""
        for partition in partitions:
            self._position.pop(partition, None)
        self._fail("restore_unavailable")
        there = [each for each in partitions if not self._broker.identity[each].is_missing]
        for partition in there:
            now = self._broker.identity[partition]
            self._restored[partition] = Identity(now.log_id, self._broker.truth.epochs.get(partition, now.epoch))
            self._known_to[partition] = self._broker.known_to(partition)
        return {partition: self._broker.restore(self, partition) for partition in there}

    def state(self, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Mapping[bytes, bytes | None]]]:
        """See `ports.Log`."""
        return self._broker.pieces(partitions)

    def resume(self, offsets: Mapping[Partition, int]) -> None:
        """See `ports.Log`. A partition that was taken away unheard is read as well, until a poll says that it is lost."""
        self._fail("resume_unavailable")
        self._position.update(offsets)

    def _fail(self, fault: str) -> None:
        if self._broker.happens(fault):
            raise LogUnavailable("a fault: the log cannot be reached")

    def topics_missing(self) -> Sequence[str]:
        """See `ports.Log`; here each partition is a topic."""
        return [str(partition.number) for partition in self._absent]

    def lag(self) -> Mapping[Partition, int]:
        """See `ports.Log`."""
        return {partition: self._broker.end(partition) - position for partition, position in self._position.items()}

    def close(self) -> None:
        """See `ports.Log`."""
        self._position.clear()
        self._broker.remove(self)
