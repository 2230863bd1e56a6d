"""Asks the brokers whether topics are still those that were read: there, with the same id, with a state topic that has a partition for each.

librdkafka does not tell. A consumer reads on at its old offset in a topic that was deleted and made anew under the same name, and hears
nothing at all of one that is gone (2.16, Kafka 4.3). So the brokers are asked for the topics' ids (KIP-516).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import TopicDescription  # type: ignore[attr-defined] # its documented place

from detector.adapters.kafka.admin import is_mock, open_admin
from detector.adapters.kafka.client import LogCallback
from detector.adapters.kafka.errors import TOPIC_GONE, kafka_error, to_detector_error
from detector.errors import LogUnavailable

ANSWER_S_MAX = 5.0
WITHOUT_IDS = "AAAAAAAAAAAAAAAAAAAAAA"  # a Uuid of zeros: brokers before Kafka 2.8
CANNOT_TELL = {KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE, KafkaError._TIMED_OUT}


@dataclass(frozen=True, slots=True)
class TopicInfo:
    """What the brokers tell of a topic.

    id          another one once the topic was made anew; empty where the brokers do not tell
    partitions  how many; 0: there is no such topic
    """

    id: str
    partitions: int


GONE = TopicInfo("", 0)
NOT_DESCRIBED = TopicInfo("", 2**31 - 1)
"""What is taken for granted where the brokers do not describe topics: low watermark, end and leader epochs have to do."""


class PendingTopics:
    """Topics that the brokers were asked for.

    futures  per topic its description; None where the brokers describe none
    """

    def __init__(self, futures: Mapping[str, Future[TopicDescription] | None]) -> None:
        self._futures = futures

    @property
    def is_done(self) -> bool:
        """Whether `result` would not wait."""
        return all(future is None or future.done() for future in self._futures.values())

    def result(self) -> dict[str, TopicInfo]:
        """What the brokers tell of each topic that was asked for. Waits until they have answered.

        raises LogUnavailable  they do not answer
        raises ConfigError     this user may not see a topic
        """
        deadline = time.monotonic() + ANSWER_S_MAX + 1.0
        return {topic: _info(topic, future, max(0.0, deadline - time.monotonic())) for topic, future in self._futures.items()}


class NotReady(NamedTuple):
    """Partitions of an input topic that cannot be judged now.

    first     their lowest number; 0: none of the topic can
    why, fix  what is wrong, and what a person does about it
    """

    first: int
    why: str
    fix: str


class TopicWatch:
    """Asks for input topics and the state topics that belong to them.

    topics        input topics
    state_topics  per input topic its state topic; without one no state is kept
    """

    def __init__(self, properties: Mapping[str, str], topics: Sequence[str], state_topics: Mapping[str, str], on_log: LogCallback) -> None:
        self.topics = tuple(topics)
        self._state_topics = dict(state_topics)
        self._admin = open_admin(properties, on_log)
        self._on_log = on_log
        self._can_describe: bool | None = None  # not known yet

    def request(self, topics: Sequence[str] | None = None) -> PendingTopics:
        """Ask for these input topics (all of them) and their state topics, without waiting for the answer.

        raises LogUnavailable, ConfigError  at the first call: the brokers cannot be asked
        """
        topics = self.topics if topics is None else topics
        if not topics:
            return PendingTopics({})
        states = [self._state_topics[topic] for topic in topics if topic in self._state_topics]
        if self._can_describe is None:
            self._can_describe = self._try_to_describe()
        if not self._can_describe:
            return PendingTopics(dict.fromkeys([*topics, *states]))
        return PendingTopics(self._admin.describe_topics(TopicCollection([*topics, *states]), request_timeout=ANSWER_S_MAX))

    def _try_to_describe(self) -> bool:
        """Whether the brokers describe topics: librdkafka's mock does not, nor does a cluster that names no controller."""
        try:
            cluster = self._admin.list_topics(self.topics[0], timeout=ANSWER_S_MAX)
        except KafkaException as exception:
            raise to_detector_error(kafka_error(exception), "asking for topics") from None
        if is_mock(cluster.cluster_id):
            return False
        asked = self._admin.describe_topics(TopicCollection([self.topics[0]]), request_timeout=ANSWER_S_MAX)
        try:
            asked[self.topics[0]].result(ANSWER_S_MAX + 1.0)
        except KafkaException as exception:
            if kafka_error(exception).code() in CANNOT_TELL:
                self._on_log("warning", "these brokers do not tell the ids of topics: one that is made anew may be taken for the old one")
                return False
        return True

    def not_ready(self, topic: str, found: Mapping[str, TopicInfo]) -> NotReady | None:
        """What of this input topic cannot be judged now; None: all of it can."""
        if not found[topic].partitions:
            return NotReady(0, f"input topic {topic} does not exist", "create it again, or remove it from `input.topics`")
        state = self._state_topics.get(topic)
        if state is None or found[state].partitions >= found[topic].partitions:
            return None
        if not found[state].partitions:
            return NotReady(0, f"input topic {topic} has no state topic {state}", "`detector topics create` makes it")
        problem = f"state topic {state} has {found[state].partitions} partitions, its input {topic} has {found[topic].partitions}"
        return NotReady(found[state].partitions, problem, "`detector topics create` adds partitions")


def _info(topic: str, future: Future[TopicDescription] | None, timeout_s: float) -> TopicInfo:
    if future is None:
        return NOT_DESCRIBED
    try:
        described = future.result(timeout_s)
    except TimeoutError:
        raise LogUnavailable(f"the brokers do not tell whether topic {topic} is still the same", fix="check the brokers") from None
    except KafkaException as exception:
        error = kafka_error(exception)
        if error.code() in TOPIC_GONE:
            return GONE
        raise to_detector_error(error, f"looking at topic {topic}") from None
    topic_id = str(described.topic_id)
    return TopicInfo("" if topic_id == WITHOUT_IDS else topic_id, len(described.partitions))
