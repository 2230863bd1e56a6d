"""What the brokers tell of themselves."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from detector.adapters.kafka_client import (
    COMMON_DEFAULTS,
    FOR_THE_PERSON,
    UNREACHABLE_FIX,
    LogLines,
    Say,
    kafka_error,
    open_producer,
    producer_properties,
    remedy,
)
from detector.errors import LogUnavailable


@dataclass(frozen=True, slots=True)
class Cluster:
    """The brokers as a whole.

    id          the cluster's, empty where it has none
    partitions  per topic that this user may see, how many it has
    """

    id: str
    partitions: Mapping[str, int]


def servers_of(properties: Mapping[str, str]) -> str:
    """Where the brokers are, for a message."""
    return properties.get("bootstrap.servers") or properties.get("metadata.broker.list") or "the brokers"


def open_admin(properties: Mapping[str, str], say: Say) -> AdminClient:
    """A client that makes, changes and describes topics."""
    return AdminClient({**COMMON_DEFAULTS, **properties}, logger=LogLines(say, properties))


def ask_cluster(properties: Mapping[str, str], timeout_s: float, say: Say) -> Cluster:
    """Ask until a broker answers.

    raises LogUnavailable  none did within `timeout_s`
    raises ConfigError     credentials refused; properties that librdkafka does not know
    """
    heard: list[KafkaError] = []
    client = open_producer(producer_properties(properties), heard.append, say)
    servers = servers_of(properties)
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            found = client.list_topics(timeout=max(0.1, min(1.0, deadline - time.monotonic())))
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
        else:
            there = {name: len(topic.partitions) for name, topic in found.topics.items() if topic.error is None}
            return Cluster(found.cluster_id or "", there)
