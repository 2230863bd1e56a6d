"""The seam between the service and the world: what a log must be able to do.

A log brings messages, and makes what was decided about them true. `adapters` has three: Kafka, memory, recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeAlias

from detector.codec.messages import Message, Messages
from detector.codec.readings import Decoded
from detector.core.alerting import Alert
from detector.core.readings import Partition
from detector.core.verdicts import Verdicts


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one poll brought: messages in log order; and partitions gained, lost and changed, as data.

    gained     assigned since the last poll: restore them; none of their messages come before that
    lost       taken away since the last poll, or their topic is gone: forget their streams before judging these messages
    changed    the log no longer holds what was to be read next, or is another one by now: save and forget their streams, and restore
               them; none of their messages come before that
    is_joined  whether this worker is a member of its group; before that, to have no partitions means nothing
    """

    messages: Messages = Messages()
    gained: tuple[Partition, ...] = ()
    lost: tuple[Partition, ...] = ()
    changed: tuple[Partition, ...] = ()
    is_joined: bool = True


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one batch decided; it becomes true together or not at all.

    alerts, dead_letters   messages, in the order in which they were decided
    state                  per partition: state rows by key (None: a tombstone), for that partition's state
    offsets                per partition: the offset of the next message to read
    """

    alerts: Sequence[Message] = ()
    dead_letters: Sequence[Message] = ()
    state: Mapping[Partition, Mapping[bytes, bytes | None]] = field(default_factory=dict)
    offsets: Mapping[Partition, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Restored:
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


Release: TypeAlias = Callable[[tuple[Partition, ...]], None]
"""Called inside `Log.poll` when partitions are about to be given up while they still are this worker's: the last chance to commit
what belongs to them. It may call `commit`; it raises nothing but what must end the worker."""


def keep_nothing(partitions: tuple[Partition, ...]) -> None:
    """A `Release` that lets go at once."""


class Log(Protocol):
    """A log of readings that also takes what was decided about them.

    Used from one thread, but for `commit`: one call of it at a time may run on another thread, beside `poll`.
    """

    def poll(self, messages_max: int, timeout_s: float, release: Release = keep_nothing) -> Fetched:
        """Fetch at most `messages_max` messages, waiting at most `timeout_s` for the first.

        A partition that is taken away without warning (the session ended) is in `lost` without `release` having been called.
        Neither way does a commit that is on its way outlast it: it ends, or is refused, before another worker can have the partition.

        raises LogUnavailable  back off and poll again
        raises Fenced          another worker owns these partitions; exit
        """

    def commit(self, outcome: Outcome) -> None:
        """Make alerts, dead letters, state and offsets true together, or not at all.

        No transaction outlives this call. A log without transactions writes in the order alerts, dead letters, offsets,
        state (at least once): what was written twice is recognisable by its id, and state is never ahead of the offsets.

        raises LogUnavailable  nothing became true; the same outcome may be committed again
        raises CommitAborted   assume nothing, even after a timeout: discard state and restore;
                               the log alone knows what became true
        raises Fenced          another worker owns these partitions; exit
        source: KIP-98 (transactions), KIP-447 (group metadata)
        """

    def restore(self, partitions: Sequence[Partition]) -> Mapping[Partition, Restored]:
        """Where `partitions` stand. Nothing more of them is polled until `resume`.

        The one door for start-up, rebalance, a failed commit and a log that changed. Waits until no earlier commit is undecided.
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
    """Someone who looks on: metrics, the verdict file of a replay, those who tell Alertmanager. Called on the worker's thread, of what
    has become true only."""

    def observe(self, decoded: Decoded, verdicts: Verdicts, seconds: Mapping[str, float]) -> None:
        """See what became of a batch; once per batch, after its commit.

        seconds   time spent per stage: poll, decode, detect, encode, commit; under LATENCY the time from the batch's fetch to its commit,
                  in which the stages of several batches overlap
        """

    def restored(self, alerts: Sequence[Alert]) -> None:
        """These alerts are open now, in all of this worker's partitions; after partitions came, or came back."""
        return  # many have no use for it

    def forget(self, partitions: Sequence[Partition]) -> None:
        """What is open in these partitions is another worker's to tell."""
        return  # many have no use for it


@dataclass(slots=True)
class Onward:
    """How telling one Alertmanager goes. Written by whoever tells it; telemetry reads single fields from its own thread.

    url       of the Alertmanager
    sent      alerts that it took, each time counted
    failures  requests that it did not take, or that did not reach it
    dropped   alerts that it will not hear of: it refused them, or there were too many
    held      alerts that it is to know of: open ones, and closed ones that it has not heard of yet
    """

    url: str
    sent: int = 0
    failures: int = 0
    dropped: int = 0
    held: int = 0


MISSED = ("retention", "auto_offset_reset")
"""Why messages are missed: gone from the log before they were judged, or before a memory had them; still in the log then, but passed over
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
class Vitals:
    """How the worker is. Written by the worker alone; telemetry reads single fields from its own thread.

    state               where the worker is in its life
    alive_until_s       on the clock of time.monotonic(): if the worker is well it has moved again by then
    messages, readings  polled, in all
    unaccounted         readings polled that got no disposition, or a dead one; anything but 0 is a bug
    dead_letters        written, by the name of the error
    alerts_opened       in all
    late, duplicates    readings that were ignored for their event time, in all
    commits             batches that became true
    commits_aborted     commits after which everything was discarded and restored
    log_unavailable     calls that the log, or the schema registry, could not answer
    backoff_s           length of the pause in progress; 0 while there is none
    partitions          assigned
    lag                 per partition, messages behind the end
    streams             memories kept
    alerts_open         alerts open now
    messages_replayed   read again after a start or a rebalance, to bring memories up to date; nothing is told of them
    messages_missed     never judged, or not remembered, by reason (MISSED)
    log_changes         partitions that began anew, by reason (LOG_CHANGES)
    topics_missing      input topics that cannot be judged now, or not whole
    rows_unsaved        memories that changed since they were saved
    unsaved_s           age of the oldest such change
    rows_saved          in all
    state_bytes         written for them, in all
    restored_s          how long the latest restore took, from gaining partitions until they were live again
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
