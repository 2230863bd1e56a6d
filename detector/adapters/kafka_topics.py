"""Topics: checked before a start, created by `detector topics create`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from detector.adapters.kafka_client import (
    COMMON_DEFAULTS,
    FOR_THE_PERSON,
    UNREACHABLE_FIX,
    LogLines,
    Say,
    kafka_error,
    open_producer,
    producer_properties,
    quiet,
    remedy,
)
from detector.errors import ConfigError, LogUnavailable

DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic to be created.

    partitions   1 or more
    settings     the topic's own configuration, under Kafka's names
    replication  copies; -1 leaves it to the brokers' default
    """

    name: str
    partitions: int
    settings: Mapping[str, str] = field(default_factory=dict)
    replication: int = -1


def output_topics(alerts: str, dead_letters: str, partitions: int = 4) -> tuple[Topic, ...]:
    """The topics that the service writes.

    Alerts are few and worth keeping: 90 days. Dead letters are to be looked at soon: 14 days; they may be larger than the
    messages they keep.
    """
    return (
        Topic(alerts, partitions, {"cleanup.policy": "delete", "retention.ms": str(90 * DAY_MS)}),
        Topic(
            dead_letters,
            partitions,
            {"cleanup.policy": "delete", "retention.ms": str(14 * DAY_MS), "max.message.bytes": "10485760"},
        ),
    )


def check_topics(
    properties: Mapping[str, str], reads: Sequence[str], writes: Sequence[str], *, timeout_s: float = 10.0, say: Say = quiet
) -> dict[str, int]:
    """See that the brokers answer and that every topic is there; the number of partitions of each.

    raises LogUnavailable  no broker answered within `timeout_s`
    raises ConfigError     credentials refused, or topics missing: all that are missing, with the command that creates them
    """
    found = _partitions(properties, timeout_s, say)
    missing_reads = [topic for topic in reads if topic not in found]
    missing_writes = [topic for topic in writes if topic not in found]
    if missing_reads or missing_writes:
        parts = []
        if missing_reads:
            parts.append(f"input {_listed(missing_reads)}")
        if missing_writes:
            parts.append(f"output {_listed(missing_writes)}")
        fixes = []
        if missing_reads:
            fixes.append("correct `input.topics`, or create the input topic (its partitions are yours to choose)")
        if missing_writes:
            fixes.append("`detector topics create` makes the output topics")
        raise ConfigError(
            f"missing on {properties.get('bootstrap.servers', 'the brokers')}, or not visible to this user: {' and '.join(parts)}",
            fix="; ".join(fixes),
        )
    return {topic: found[topic] for topic in (*reads, *writes)}


def _listed(topics: Sequence[str]) -> str:
    return ("topic " if len(topics) == 1 else "topics ") + ", ".join(topics)


def _partitions(properties: Mapping[str, str], timeout_s: float, say: Say) -> dict[str, int]:
    """Partitions per topic that the brokers tell of."""
    heard: list[KafkaError] = []
    client = open_producer(producer_properties(properties), heard.append, say)
    servers = properties.get("bootstrap.servers", "the brokers")
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            metadata = client.list_topics(timeout=max(0.1, min(1.0, deadline - time.monotonic())))
            return {name: len(topic.partitions) for name, topic in metadata.topics.items() if topic.error is None}
        except KafkaException as exception:
            client.poll(0)  # brings what went wrong on the connections into `heard`
            for error in heard:
                if error.code() in FOR_THE_PERSON:
                    raise remedy(error, f"connecting to {servers}") from None
            if time.monotonic() >= deadline:
                causes = [error.str() for error in heard if error.code() != KafkaError._ALL_BROKERS_DOWN]
                last = causes[-1] if causes else kafka_error(exception).str()
                message = f"no Kafka broker answered at {servers} within {timeout_s:g} s: {last}"
                raise LogUnavailable(message, fix=UNREACHABLE_FIX) from None
            time.sleep(0.05)


def create_topics(properties: Mapping[str, str], topics: Sequence[Topic], *, timeout_s: float = 30.0, say: Say = quiet) -> dict[str, bool]:
    """Create topics; per topic: True if it is new, False if it was there already (and is left as it was).

    Returns when the brokers show all of them.

    raises ConfigError     the brokers refuse: no permission, bad name, more copies than brokers
    raises LogUnavailable  no broker answered within `timeout_s`
    """
    there = _partitions(properties, min(timeout_s, 10.0), say)
    wanted = [topic for topic in topics if topic.name not in there]
    created = {topic.name: False for topic in topics}
    if not wanted:
        return created
    admin = AdminClient({**COMMON_DEFAULTS, **properties}, logger=LogLines(say, properties))
    plans = [
        NewTopic(topic.name, num_partitions=topic.partitions, replication_factor=topic.replication, config=dict(topic.settings))
        for topic in wanted
    ]
    for name, future in admin.create_topics(plans, operation_timeout=timeout_s, request_timeout=timeout_s).items():
        try:
            future.result()
            created[name] = True
        except KafkaException as exception:
            error = kafka_error(exception)
            if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                continue
            if error.retriable() or error.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT):
                raise remedy(error, f"creating topic {name}") from None
            raise ConfigError(f"the brokers refuse to create topic {name}: {error.str()}") from None
    _wait_until_shown(properties, [topic.name for topic in wanted], timeout_s, say)
    return created


def _wait_until_shown(properties: Mapping[str, str], names: Sequence[str], timeout_s: float, say: Say) -> None:
    deadline = time.monotonic() + timeout_s
    while not set(names) <= _partitions(properties, timeout_s, say).keys():
        if time.monotonic() >= deadline:
            raise LogUnavailable(f"the brokers do not show {', '.join(names)} {timeout_s:g} s after creating them", fix="try again")
        time.sleep(0.1)
