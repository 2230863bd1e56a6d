"""The seam between the service and the world: what a log must be able to do.

A log brings messages, and commits what was decided about them. `adapters` has two: Kafka and recordings; `tests.doubles` has one in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

from detector.codec.messages import Message, Messages
from detector.codec.readings import Decoded
from detector.core.alerts import Alert
from detector.core.batch_result import BatchResult
from detector.core.readings import Partition


@dataclass(frozen=True, slots=True)
class PollResult:
    """What one poll brought: messages in log order; and partitions assigned, revoked and changed, as data.

    assigned   given to this worker since the last poll: restore them; none of their messages come before that
    revoked    taken away since the last poll, or their topic is gone: forget their streams before judging these messages
    changed    the log no longer holds what was to be read next, or is another one by now: save and forget their streams, and restore
               them; none of their messages come before that
    is_joined  whether this worker is a member of its group; before that, to have no partitions means nothing
    """

    messages: Messages = Messages()
    assigned: tuple[Partition, ...] = ()
    revoked: tuple[Partition, ...] = ()
    changed: tuple[Partition, ...] = ()
    is_joined: bool = True


@dataclass(frozen=True, slots=True)
class CommitBatch:
    """What is committed together or not at all.

    alerts, dead_letters   messages, in the order in which they were decided
    state                  per partition: state rows by key (None: a tombstone), for that partition's state
    offsets                per partition: the offset of the next message to read
    """

    alerts: Sequence[Message] = ()
    dead_letters: Sequence[Message] = ()
    state: Mapping[Partition, Mapping[bytes, bytes | None]] = field(default_factory=dict)
    offsets: Mapping[Partition, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartitionPosition:
    """Where a partition stands; `Log.state` brings what is saved of it.

    offset        the group's committed offset, whether or not the log still holds it: the next one that is not yet judged;
                  where none is committed, the offset at which a new group begins
    is_committed  whether one is committed
    first, end    the log holds the offsets [first, end)
    is_own        whether this service committed the offset, as far as the log can tell; not so where a person set it
    log_id        another one once the log was made anew under the same name; empty where the log does not tell (KIP-516)
    diverges_at   from here on the log holds other messages than those that were read up to the committed offset, or none: it lost its
                  end; None: not so, as far as the log can tell (KIP-101)
    resets_to_end whether reading goes on at the end of the log, and not at its first message, if it no longer holds the offset
    """

    offset: int
    is_committed: bool = True
    first: int = 0
    end: int = 2**63 - 1
    is_own: bool = False
    log_id: str = ""
    diverges_at: int | None = None
    resets_to_end: bool = False


RevokeCallback: TypeAlias = Callable[[tuple[Partition, ...]], None]
"""Called inside `Log.poll` when partitions are about to be revoked while they still are this worker's: the last chance to commit
what belongs to them. It may call `commit`; it raises nothing but what must end the worker."""


def ignore_revoke(partitions: tuple[Partition, ...]) -> None:
    """A `RevokeCallback` that commits nothing."""


class Log(Protocol):
    """A log of readings that also takes what was decided about them.

    Used from one thread, but for `commit`: one call of it at a time may run on another thread, beside `poll`.
    """

    def poll(self, messages_max: int, timeout_s: float, on_revoke: RevokeCallback = ignore_revoke) -> PollResult:
        """Fetch at most `messages_max` messages, waiting at most `timeout_s` for the first.

        A partition that is taken away without warning (the session ended) is in `revoked` without `on_revoke` having been called.
        Neither way does a commit in flight outlast it: it ends, or is refused, before another worker can have the partition.

        raises LogUnavailable  back off and poll again
        raises Fenced          another worker owns these partitions; exit
        """

    def commit(self, batch: CommitBatch) -> None:
        """Commit alerts, dead letters, state and offsets together, or not at all.

        No transaction outlives this call. A log without transactions writes in the order alerts, dead letters, offsets,
        state (at least once): what was written twice is recognisable by its id, and state is never ahead of the offsets.

        raises LogUnavailable  nothing was committed; the same batch may be committed again
        raises CommitAborted   assume nothing, even after a timeout: discard state and restore;
                               the log alone knows what was committed
        raises Fenced          another worker owns these partitions; exit
        source: KIP-98 (transactions), KIP-447 (group metadata)
        """

    def restore(self, partitions: Sequence[Partition]) -> Mapping[Partition, PartitionPosition]:
        """Where `partitions` stand. Nothing more of them is polled until `resume`.

        Called at start-up, after a rebalance, after a failed commit and for a log that changed. Waits until no earlier commit is undecided.
        Partitions whose topic is gone are left out; a later poll says that they are lost.

        raises LogUnavailable  restore again
        """

    def state(self, partitions: Sequence[Partition]) -> Iterator[tuple[Partition, Mapping[bytes, bytes | None]]]:
        """The state of partitions that are restored: what was committed until then, in pieces of some megabytes.

        Pieces come as they were written. Of a key that comes again the later value counts; None takes it away. Earlier values may be
        left out.

        raises LogUnavailable  restore again, and take the state from its beginning
        """

    def resume(self, offsets: Mapping[Partition, int]) -> None:
        """Read on from these offsets: the next polls bring these partitions' messages from there.

        raises LogUnavailable  resume again
        """

    def lag(self) -> Mapping[Partition, int]:
        """Per assigned partition: messages between the read position and the end, as last heard. Never blocks."""

    def topics_missing(self) -> Sequence[str]:
        """Topics that cannot be judged now, or not whole, since they, or the topics of their state, are not there. Never blocks."""

    def close(self) -> None:
        """Leave the group and free what is held. What is to be kept was committed before. Idempotent."""


LATENCY = "latency"


class Observer(Protocol):
    """Sees what was committed: metrics, the verdict file of a replay, the senders to Alertmanager. Called on the worker's thread."""

    def observe(self, decoded: Decoded, result: BatchResult, seconds: Mapping[str, float]) -> None:
        """See what became of a batch; once per batch, after its commit.

        seconds   time spent per stage: poll, decode, detect, encode, commit; under LATENCY the time from the batch's fetch to its commit,
                  in which the stages of several batches overlap
        """

    def restored(self, alerts: Sequence[Alert]) -> None:
        """These alerts are open now, in all of this worker's partitions; after partitions came, or came back."""
        return  # many have no use for it

    def forget(self, partitions: Sequence[Partition]) -> None:
        """Another worker has these partitions, and what is open in them."""
        return  # many have no use for it


@dataclass(slots=True)
class AlertmanagerStats:
    """What was sent to one Alertmanager. Written by its sender; telemetry reads single fields from its own thread.

    url       of the Alertmanager
    sent      alerts that it accepted, each time counted
    failures  requests that it did not accept, or that did not reach it
    dropped   alerts that it will not be sent: it rejected them, or there were too many
    queued    alerts that are to be sent: open ones again and again, and closed ones once
    """

    url: str
    sent: int = 0
    failures: int = 0
    dropped: int = 0
    queued: int = 0


MISSED = ("retention", "auto_offset_reset")
"""Why messages are missed: gone from the log before they were judged, or before the state took them in; still in the log then, but passed over
because the configuration says `auto.offset.reset: latest`."""
LOG_CHANGES = RECREATED, TRUNCATED = ("recreated", "truncated")
"""Why a partition begins anew: its topic was deleted and made again; its log lost its end."""


class WorkerState(StrEnum):
    """Where the worker is in its life; `service.lifecycle` draws the legal transitions."""

    STARTING = "starting"
    RESTORING = "restoring"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    DRAINING = "draining"
    STOPPED = "stopped"


@dataclass(slots=True)
class WorkerStats:
    """Figures of the worker. Written by the worker alone; telemetry reads single fields from its own thread.

    state               where the worker is in its life
    alive_until_s       on the clock of time.monotonic(): if the worker is well it has moved again by then
    messages, readings  polled, in all
    unaccounted         readings polled that got no disposition, or a dead one; anything but 0 is a bug
    dead_letters        written, by the name of the error
    alerts_opened       in all
    late, duplicates    readings that were ignored for their event time, in all
    empty               readings without a value of any channel, in all
    channels_present    share of the last readings that have a value, per channel; () before there are a thousand
    commits             commits that succeeded
    commits_aborted     commits after which everything was discarded and restored
    log_unavailable     calls that the log, or the schema registry, could not answer
    backoff_s           length of the pause in progress; 0 while there is none
    partitions          assigned
    lag                 per partition, messages behind the end
    streams             in memory
    alerts_open         alerts open now
    messages_replayed   read again after a start or a rebalance, to bring the state up to date; no alert comes of them
    messages_missed     never judged, or not remembered, by reason (MISSED)
    log_changes         partitions that began anew, by reason (LOG_CHANGES)
    topics_missing      input topics that cannot be judged now, or not whole
    rows_unsaved        rows of state that changed since they were saved
    unsaved_s           age of the oldest such change
    rows_saved          in all
    state_bytes         written for them, in all
    restored_s          how long the latest restore took, from the assignment of partitions until they were live again
    """

    state: WorkerState = WorkerState.STARTING
    alive_until_s: float = 0.0
    messages: int = 0
    readings: int = 0
    unaccounted: int = 0
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    alerts_opened: int = 0
    late: int = 0
    duplicates: int = 0
    empty: int = 0
    channels_present: tuple[float, ...] = ()
    commits: int = 0
    commits_aborted: int = 0
    log_unavailable: int = 0
    backoff_s: float = 0.0
    partitions: int = 0
    lag: Mapping[Partition, int] = field(default_factory=dict)
    streams: int = 0
    alerts_open: int = 0
    messages_replayed: int = 0
    messages_missed: Mapping[str, int] = field(default_factory=dict)
    log_changes: Mapping[str, int] = field(default_factory=dict)
    topics_missing: tuple[str, ...] = ()
    rows_unsaved: int = 0
    unsaved_s: float = 0.0
    rows_saved: int = 0
    state_bytes: int = 0
    restored_s: float = 0.0
