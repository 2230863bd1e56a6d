"""What a log in memory holds, what can go wrong with it, and what is committed whatever goes wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from detector.codec.messages import Headers, Message
from detector.core.readings import Partition
from detector.ports import CommitBatch


@dataclass(frozen=True, slots=True)
class Faults:
    """How often things go wrong: probabilities, 0..1, per call.

    seed                   the same seed, the same faults
    cut_poll               a poll brings a random part of what it could, of partitions in random order; state comes in random pieces, of
                           which only a random beginning is compacted
    poll_unavailable       a poll raises LogUnavailable
    restore_unavailable    a restore raises LogUnavailable; so does the state amid its pieces
    resume_unavailable     a resume raises LogUnavailable
    commit_unavailable     a commit raises LogUnavailable; nothing is committed
    commit_aborted         a commit raises CommitAborted; nothing is committed
    commit_unacknowledged  a commit raises CommitAborted; all of it is committed
    commit_outlives        a session that ends, ends with a commit in flight that can still succeed, until another restores
    expiry_unheard         a poll does not yet tell a worker that its session ended: it reads on
    change_unheard         a poll does not yet tell a worker that a partition's log was made anew: it reads on where it was
    rebalance              before a poll the partitions are dealt anew, at random
    torn_commit            half of a commit is committed: what no log may do, for tests of tests
    torn_half              which half. "state": its state alone, and CommitAborted is raised, as by a crash between two
                           transactions; "rest": all but its state, as if it were the whole
    """

    seed: int = 0
    cut_poll: float = 0.0
    poll_unavailable: float = 0.0
    restore_unavailable: float = 0.0
    resume_unavailable: float = 0.0
    commit_unavailable: float = 0.0
    commit_aborted: float = 0.0
    commit_unacknowledged: float = 0.0
    commit_outlives: float = 0.0
    expiry_unheard: float = 0.0
    change_unheard: float = 0.0
    rebalance: float = 0.0
    torn_commit: float = 0.0
    torn_half: Literal["state", "rest"] = "state"


NO_FAULTS = Faults()


@dataclass(frozen=True, slots=True)
class Stored:
    """A message in a partition; its offset is its place."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    log_time_us: int


@dataclass(slots=True)
class Identity:
    """What tells one log of a partition from another.

    log_id      another one once the log was made anew
    epoch       of who writes now: another one once the log has lost its end
    cuts        per epoch that began so, where the log ended then
    is_missing  there is no such log now
    """

    log_id: str = "log 1"
    epoch: int = 0
    cuts: dict[int, int] = field(default_factory=dict)
    is_missing: bool = False

    def made_anew(self) -> Identity:
        return Identity(f"log {int(self.log_id.split()[1]) + 1}")

    def cut(self, end: int) -> None:
        self.epoch += 1
        self.cuts[self.epoch] = end

    def diverges_at(self, offset: int, epoch: int) -> int | None:
        """Where the log differs from what was read of it up to `offset` when `epoch` was the last; None: nowhere."""
        return min((end for begun, end in self.cuts.items() if begun > epoch and end < offset), default=None)


@dataclass(slots=True)
class Truth:
    """What is committed, and so what every reader sees: all of a commit or nothing of it.

    state     per partition, what counts by key
    written   per partition, all that was ever written as state, in order
    epochs    per partition that of the log when the offset was committed
    history   per partition all offsets that were ever committed of its present log, in order
    """

    alerts: list[Message] = field(default_factory=list)
    dead_letters: list[Message] = field(default_factory=list)
    state: dict[Partition, dict[bytes, bytes]] = field(default_factory=dict)
    written: dict[Partition, list[tuple[bytes, bytes | None]]] = field(default_factory=dict)
    offsets: dict[Partition, int] = field(default_factory=dict)
    epochs: dict[Partition, int] = field(default_factory=dict)
    history: dict[Partition, list[int]] = field(default_factory=dict)

    def add(self, batch: CommitBatch) -> None:
        self.alerts += batch.alerts
        self.dead_letters += batch.dead_letters
        for partition, rows in batch.state.items():
            self.written.setdefault(partition, []).extend(rows.items())
            saved = self.state.setdefault(partition, {})
            for key, row in rows.items():
                if row is None:
                    saved.pop(key, None)
                else:
                    saved[key] = row
        self.offsets.update(batch.offsets)
        for partition, offset in batch.offsets.items():
            self.history.setdefault(partition, []).append(offset)


def last_of(written: Sequence[tuple[bytes, bytes | None]]) -> dict[bytes, bytes | None]:
    """What compaction leaves: the last value of each key, where it was written."""
    last: dict[bytes, bytes | None] = {}
    for key, value in written:
        last.pop(key, None)
        last[key] = value
    return last
