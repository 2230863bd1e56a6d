"""Which partitions a worker is to have: those that the group assigned to it and whose topics are there, as its polls report them one by one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from detector.adapters.kafka.client import LogCallback
from detector.adapters.kafka.topic_watch import NotReady, PendingTopics, TopicInfo, TopicWatch
from detector.core.readings import Partition

WATCH_INTERVAL_S = 2.0


class Assignment:
    """Keeps what the group assigned apart from what was reported to the worker.

    reported   partitions that the worker knows of
    stopped    those that librdkafka reads only once they are assigned again
    has_grown  whether a topic has come back, or has partitions that it had not: unless it is asked, librdkafka hears of that in five minutes
    recreated  topics that were made anew since the consumer joined: none of their partitions is reported before another consumer reads
    missing    topics that cannot be judged, or not whole: the partitions that cannot are not reported
    """

    def __init__(self, watch: TopicWatch, on_log: LogCallback) -> None:
        self._watch, self._on_log = watch, on_log
        self._pending: PendingTopics | None = None
        self._due_s = 0.0
        self._assigned: set[Partition] = set()
        self._checked: set[Partition] = set()  # of these, those whose topics were looked at since
        self._revoked: set[Partition] = set()  # of `reported`, taken away since
        self._changed: set[Partition] = set()
        self._ids: dict[str, str] = {}  # of the topics, as the present consumer knows them
        self._partitions: dict[str, int] = {}  # of each input topic, when last seen
        self.reported: set[Partition] = set()
        self.stopped: set[Partition] = set()
        self.missing: dict[str, NotReady] = {}
        self.recreated: set[str] = set()
        self.has_grown = False

    # -- what the group decides -------------------------------------------------------------------------------------------

    def assign(self, partitions: Iterable[Partition]) -> None:
        """The group assigned these."""
        partitions = set(partitions)
        self._assigned |= partitions
        self._checked -= partitions

    def revoke(self, partitions: Iterable[Partition]) -> None:
        """The group took these away."""
        partitions = set(partitions)
        self._revoked |= partitions & self.reported
        for mine in (self._assigned, self._changed, self.stopped):
            mine -= partitions

    @property
    def assigned(self) -> set[Partition]:
        """What the group has assigned and not taken away."""
        return set(self._assigned)

    # -- what becomes of topics -------------------------------------------------------------------------------------------

    def check_topics(self) -> None:
        """See which topics are there, and whether they are still the same: every two seconds, and at once when partitions were assigned.

        Waits for the brokers' answer only where partitions were assigned; else a later call has it.

        raises LogUnavailable  the brokers cannot be asked, or do not answer
        raises ConfigError     this user may not see a topic
        """
        is_urgent = not self._is_checked
        if self._pending is None and (is_urgent or time.monotonic() >= self._due_s):
            self._pending = self._watch.request()
        if self._pending is None or not (is_urgent or self._pending.is_done):
            return
        pending, self._pending = self._pending, None
        self._due_s = time.monotonic() + WATCH_INTERVAL_S
        found, self._checked = pending.result(), self.assigned
        self.update(self._watch.topics, found)

    def check_soon(self) -> None:
        """Something is known to be wrong: the next call checks the topics."""
        self._due_s = 0.0

    @property
    def _is_checked(self) -> bool:
        return self._checked >= self._assigned

    def update(self, topics: Iterable[str], found: Mapping[str, TopicInfo]) -> None:
        """What the brokers tell of input topics and their state topics."""
        for topic in topics:
            self.has_grown |= found[topic].partitions > self._partitions.get(topic, found[topic].partitions)
            self._partitions[topic] = found[topic].partitions
            before, now = self.missing.pop(topic, None), self._watch.not_ready(topic, found)
            if now is not None:
                self.missing[topic] = now
                if now != before:
                    what = f"its partitions from {now.first} on are not" if now.first else "nothing of it is"
                    self._on_log("warning", f"{now.why}: {what} judged until that is mended; {now.fix}")
            elif before is not None:
                self._on_log("info", f"input topic {topic} can be judged")
            if found[topic].partitions and self._ids.setdefault(topic, found[topic].id) != found[topic].id:
                self.recreated.add(topic)
            self.stopped |= {each for each in self._assigned if each.topic == topic and not self.can_be_judged(each)}

    def can_be_judged(self, partition: Partition) -> bool:
        """Whether the partition's topics are there and the same, as far as is known."""
        not_ready = self.missing.get(partition.topic)
        return partition.topic not in self.recreated and (not_ready is None or partition.number < not_ready.first)

    def rejoined(self) -> None:
        """Another consumer reads from now on: it knows topics as they are."""
        self._ids.clear()
        self.recreated.clear()

    def log_changed(self, partition: Partition, *, is_stopped: bool = True) -> None:
        """A partition's log is not what the worker is reading; is_stopped: librdkafka reads on only once it is assigned again."""
        self._changed.add(partition)
        if is_stopped:
            self.stopped.add(partition)

    def restored(self, partition: Partition) -> None:
        """The worker knows the log as it is."""
        self._changed.discard(partition)

    # -- what is reported to the worker -----------------------------------------------------------------------------------

    def take_changed(self) -> set[Partition]:
        """Partitions whose log changed; reported once."""
        changed, self._changed = self._changed & self.reported, set()
        return changed

    def take_moves(self) -> tuple[set[Partition], set[Partition]]:
        """Partitions that were assigned and revoked since; reported once. An assigned one waits until its topic is known to be there."""
        present = {each for each in self._assigned if self.can_be_judged(each)}
        revoked = self._revoked | (self.reported - present)
        assigned = present - (self.reported - revoked) if self._is_checked else set[Partition]()
        self.reported = (self.reported - revoked) | assigned
        self._revoked = set()
        return assigned, revoked
