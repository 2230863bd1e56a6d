"""Which partitions a worker is to have: those that the group gave it and whose topics are there, as its polls tell it one by one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from detector.adapters.kafka.client import LogCallback
from detector.adapters.kafka.topic_watch import Question, TopicView, TopicWatch, Unready, is_answered
from detector.core.readings import Partition

WATCH_INTERVAL_S = 2.0


class Presence:
    """Keeps the group's word apart from what the worker was told.

    told       partitions that the worker knows of
    stopped    those that librdkafka reads only once they are assigned again
    has_grown  whether a topic has come back, or has partitions that it had not: unless it is asked, librdkafka hears of that in five minutes
    anew       topics that were made anew since the consumer came: none of their partitions is told before another consumer reads
    missing    topics that cannot be judged, or not whole: the partitions that cannot are not told
    """

    def __init__(self, watch: TopicWatch, on_log: LogCallback) -> None:
        self._watch, self._on_log = watch, on_log
        self._question: Question | None = None
        self._due_s = 0.0
        self._assigned: set[Partition] = set()
        self._seen: set[Partition] = set()  # of these, those whose topics were looked at since
        self._lost: set[Partition] = set()  # of `told`, taken away since
        self._changed: set[Partition] = set()
        self._ids: dict[str, str] = {}  # of the topics, as the present consumer knows them
        self.told: set[Partition] = set()
        self.stopped: set[Partition] = set()
        self.missing: dict[str, Unready] = {}
        self.anew: set[str] = set()
        self.has_grown = False
        self._partitions: dict[str, int] = {}  # of each input topic, when last seen

    # -- the group's word -------------------------------------------------------------------------------------------------

    def assign(self, partitions: Iterable[Partition]) -> None:
        """The group gave these."""
        partitions = set(partitions)
        self._assigned |= partitions
        self._seen -= partitions

    def take_away(self, partitions: Iterable[Partition]) -> None:
        """The group took these."""
        partitions = set(partitions)
        self._lost |= partitions & self.told
        for mine in (self._assigned, self._changed, self.stopped):
            mine -= partitions

    @property
    def assigned(self) -> set[Partition]:
        """What the group has given and not taken."""
        return set(self._assigned)

    # -- what becomes of topics -------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Once in a while, and when partitions came: see which topics are there, and whether they are still the same.

        raises LogUnavailable  partitions came, and the brokers do not answer
        """
        is_urgent = not self._is_seen
        if self._question is None and (is_urgent or time.monotonic() >= self._due_s):
            self._question = self._watch.ask()
        if self._question is None or not (is_urgent or is_answered(self._question)):
            return
        question, self._question = self._question, None
        self._due_s = time.monotonic() + WATCH_INTERVAL_S
        shown, self._seen = self._watch.answer(question), self.assigned
        self.note(self._watch.topics, shown)

    def hurry(self) -> None:
        """Something is known to be wrong: look again at once."""
        self._due_s = 0.0

    @property
    def _is_seen(self) -> bool:
        return self._seen >= self._assigned

    def note(self, topics: Iterable[str], shown: Mapping[str, TopicView]) -> None:
        """What the brokers show of input topics and their state topics."""
        for topic in topics:
            self.has_grown |= shown[topic].partitions > self._partitions.get(topic, shown[topic].partitions)
            self._partitions[topic] = shown[topic].partitions
            before, now = self.missing.pop(topic, None), self._watch.unready(topic, shown)
            if now is not None:
                self.missing[topic] = now
                if now != before:
                    what = f"its partitions from {now.first} on are not" if now.first else "nothing of it is"
                    self._on_log("warning", f"{now.why}: {what} judged until that is mended; {now.fix}")
            elif before is not None:
                self._on_log("info", f"input topic {topic} can be judged")
            if shown[topic].partitions and self._ids.setdefault(topic, shown[topic].id) != shown[topic].id:
                self.anew.add(topic)
            self.stopped |= {each for each in self._assigned if each.topic == topic and not self.is_present(each)}

    def is_present(self, partition: Partition) -> bool:
        """Whether the partition can be judged, as far as was seen."""
        unready = self.missing.get(partition.topic)
        return partition.topic not in self.anew and (unready is None or partition.number < unready.first)

    def join_again(self) -> None:
        """Another consumer reads from now on: it knows topics as they are."""
        self._ids.clear()
        self.anew.clear()

    def change(self, partition: Partition, *, is_stopped: bool = True) -> None:
        """A partition's log is not what the worker is reading; is_stopped: librdkafka reads on only once it is assigned again."""
        self._changed.add(partition)
        if is_stopped:
            self.stopped.add(partition)

    def restored(self, partition: Partition) -> None:
        """The worker knows the log as it is."""
        self._changed.discard(partition)

    # -- what the worker is told ------------------------------------------------------------------------------------------

    def changed(self) -> set[Partition]:
        """What the worker is to restore; told once."""
        changed, self._changed = self._changed & self.told, set()
        return changed

    def tell(self) -> tuple[set[Partition], set[Partition]]:
        """What the worker gained and lost since. What just came waits until it is known that its topic is there."""
        present = {each for each in self._assigned if self.is_present(each)}
        revoked = self._lost | (self.told - present)
        assigned = present - (self.told - revoked) if self._is_seen else set[Partition]()
        self.told = (self.told - revoked) | assigned
        self._lost = set()
        return assigned, revoked
