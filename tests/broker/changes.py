"""What happens to topics while they are read: retention passes a reader, topics are deleted and made anew."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient

from detector.adapters.kafka.topics import Topic, create_topics
from tests.broker.members import tries

ANSWER_S_MAX = 5.0


def _admin(servers: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": servers, "log_level": "0"})


def topic_id(servers: str, topic: str) -> str:
    """A topic's id; another one of the same name has another."""
    admin = _admin(servers)
    return str(admin.describe_topics(TopicCollection([topic]), request_timeout=ANSWER_S_MAX)[topic].result().topic_id)


def retain_from(servers: str, offsets: Mapping[tuple[str, int], int]) -> None:
    """Drop what lies before these offsets of partitions, as retention does."""
    asked = [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]
    admin = _admin(servers)
    for future in admin.delete_records(asked).values():
        future.result()


def delete_topics(servers: str, *topics: str) -> None:
    """Delete topics, and wait until nobody is shown them any more."""
    admin = _admin(servers)
    for future in admin.delete_topics(list(topics)).values():
        future.result()
    for _ in tries(20):
        try:
            if not {*topics} & {*admin.list_topics(timeout=ANSWER_S_MAX).topics}:
                break
        except KafkaException:  # the brokers are busy
            continue


def make_anew(servers: str, *topics: Topic) -> None:
    """Delete topics and make them again."""
    delete_topics(servers, *(topic.name for topic in topics))
    create_topics({"bootstrap.servers": servers}, topics)
