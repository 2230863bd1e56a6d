"""What this user may do, asked before the first reading: a right to write alerts would otherwise be missed at the first alert."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaException, TopicCollection

from detector.adapters.kafka.admin import open_admin, servers_of
from detector.adapters.kafka.client import LogCallback
from detector.adapters.kafka.errors import kafka_error, to_detector_error


def missing_permissions(
    properties: Mapping[str, str], reads: Sequence[str], writes: Sequence[str], timeout_s: float, on_log: LogCallback
) -> list[tuple[str, str]]:
    """What is not allowed, and how to allow it: per operation one pair, naming all its topics.

    reads, writes  topics that exist and that this user sees

    raises LogUnavailable  the brokers did not answer within `timeout_s`
    source: KIP-430 (the brokers tell a user's own rights)
    """
    topics = list(dict.fromkeys((*reads, *writes)))
    if not topics:
        return []
    admin = open_admin(properties, on_log)  # has to outlive the answers
    asked = admin.describe_topics(TopicCollection(topics), include_authorized_operations=True, request_timeout=timeout_s)
    allowed: dict[str, set[str]] = {}
    for topic, answer in asked.items():
        try:
            operations = answer.result().authorized_operations
        except KafkaException as exception:
            raise to_detector_error(kafka_error(exception), f"asking what is allowed on topic {topic}") from None
        if operations is not None:  # brokers older than 2.3 do not tell
            allowed[topic] = {operation.name for operation in operations}
    user = properties.get("sasl.username", "NAME")
    findings = []
    for operation, wanted in (("READ", reads), ("WRITE", writes)):
        denied = [topic for topic in wanted if topic in allowed and operation not in allowed[topic]]
        if denied:
            grant = f"kafka-acls.sh --bootstrap-server {servers_of(properties)} --add --allow-principal User:{user} --operation {operation}"
            options = " ".join(f"--topic {topic}" for topic in denied)
            findings.append((f"this user may not {operation} {', '.join(denied)}", f"`{grant} {options}`"))
    return findings
