"""What the brokers tell of themselves."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined] # its documented place

from detector.adapters.kafka.client import LogCallback, discard, open_client, open_producer
from detector.adapters.kafka.errors import FOR_THE_PERSON, REFUSED, TOPIC_GONE, UNREACHABLE_FIX, fix_for, kafka_error, to_detector_error
from detector.adapters.kafka.properties import COMMON_DEFAULTS, producer_properties
from detector.errors import ConfigError, LogUnavailable

ASK_S_MIN, ASK_S_MAX = 0.25, 1.0  # a refusal is heard only between two questions
HANG_UP = "Disconnected"
HANG_UP_S_MAX = 3.0  # a broker that stops drops connections, too, but refuses the next
MOCK_CLUSTER = "mockCluster"  # how the id of librdkafka's mock broker begins
HANG_UP_FIX = "see that `kafka: security.protocol` is what this port's listener speaks: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
MAY_NOT_SEE = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}


@dataclass(frozen=True, slots=True)
class Cluster:
    """The brokers as a whole.

    id          the cluster's, empty where it has none
    partitions  per topic that this user may see, how many it has
    """

    id: str
    partitions: Mapping[str, int]

    @property
    def is_mock(self) -> bool:
        """Whether this is librdkafka's mock broker, which answers few questions."""
        return is_mock(self.id)


def is_mock(cluster_id: str | None) -> bool:
    """Whether a cluster of this id is librdkafka's mock broker."""
    return (cluster_id or "").startswith(MOCK_CLUSTER)


def servers_of(properties: Mapping[str, str]) -> str:
    """Where the brokers are, for a message."""
    return properties.get("bootstrap.servers") or properties.get("metadata.broker.list") or "the brokers"


def open_admin(properties: Mapping[str, str], on_log: LogCallback) -> AdminClient:
    """A client that makes, changes and describes topics.

    raises ConfigError, LogUnavailable  as `open_client`
    """
    return open_client(AdminClient, {**COMMON_DEFAULTS, **properties}, {}, lambda error: None, on_log)


def ask_cluster(properties: Mapping[str, str], timeout_s: float, on_log: LogCallback) -> Cluster:
    """Ask until a broker answers.

    raises LogUnavailable  none did within `timeout_s`; or, within 3 s, all that was heard is that connections are dropped
    raises ConfigError     credentials refused; properties that librdkafka does not know
    """
    heard: list[KafkaError] = []
    broken: list[str] = []  # librdkafka tells of some connections in its log only

    def listen(level: str, line: str) -> None:
        if line.startswith("FAIL "):
            broken.append(line.rpartition("]: ")[2])
            level = "debug"  # one message is enough: the error that is raised
        on_log(level, line)

    client = open_producer(producer_properties(properties), heard.append, listen)
    servers = servers_of(properties)
    begin, ask_s = time.monotonic(), ASK_S_MIN
    while True:
        try:
            found = client.list_topics(timeout=max(0.1, min(ask_s, begin + timeout_s - time.monotonic())))
        except KafkaException as exception:
            client.poll(0)  # brings what went wrong on the connections into `heard` and `broken`
            for error in heard:
                if error.code() in FOR_THE_PERSON or REFUSED in error.str():
                    raise ConfigError(f"connecting to {servers}: {error.str()}", fix=fix_for(error)) from None
            causes = [*broken, *(error.str() for error in heard if error.code() != KafkaError._ALL_BROKERS_DOWN)]
            waited_s = time.monotonic() - begin
            if waited_s >= HANG_UP_S_MAX and causes and all(HANG_UP in cause for cause in causes):
                raise LogUnavailable(f"{servers} takes connections and drops them: {causes[-1]}", fix=HANG_UP_FIX) from None
            if waited_s >= timeout_s:
                last = causes[-1] if causes else kafka_error(exception).str()
                message = f"no Kafka broker answered at {servers} within {timeout_s:g} s: {last}"
                raise LogUnavailable(message, fix=UNREACHABLE_FIX) from None
            ask_s = min(2 * ask_s, ASK_S_MAX)
            time.sleep(0.05)
        else:
            there = {name: len(topic.partitions) for name, topic in found.topics.items() if topic.error is None}
            return Cluster(found.cluster_id or "", there)


def described_topics(
    properties: Mapping[str, str], topics: Sequence[str], timeout_s: float, on_log: LogCallback
) -> dict[str, dict[str, str]]:
    """All settings of some topics; none of a topic of which the brokers do not tell, or not this user.

    raises LogUnavailable, ConfigError  the brokers do not answer, or refuse
    """
    if not topics:
        return {}
    found: dict[str, dict[str, str]] = {}
    admin = open_admin(properties, on_log)  # has to outlive the answers
    resources = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
    for resource, future in admin.describe_configs(resources, request_timeout=timeout_s).items():
        try:
            found[resource.name] = {name: str(entry.value) for name, entry in future.result().items()}
        except KafkaException as exception:
            error = kafka_error(exception)
            if error.code() not in MAY_NOT_SEE | TOPIC_GONE:
                raise to_detector_error(error, f"looking at the configuration of {resource.name}") from None
            found[resource.name] = {}
    return found


def settings_of(
    properties: Mapping[str, str], topics: Sequence[str], setting: str, timeout_s: float, on_log: LogCallback
) -> tuple[dict[str, str], list[str]]:
    """One setting of some topics.

    returns  its value per topic, and the topics of which the brokers do not tell, or not this user

    raises LogUnavailable, ConfigError  as `described_topics`
    """
    told = described_topics(properties, topics, timeout_s, on_log)
    found = {name: settings[setting] for name, settings in told.items() if setting in settings}
    return found, [name for name in told if name not in found]


def timestamp_types(
    properties: Mapping[str, str], topics: Sequence[str], timeout_s: float = 10.0, on_log: LogCallback = discard
) -> dict[str, str]:
    """Per topic what Kafka's own time of its messages is: `CreateTime`, its producer's, or `LogAppendTime`, its broker's.

    Without topics whose settings this user may not see; librdkafka's mock broker tells none.

    raises LogUnavailable, ConfigError  as `settings_of`
    """
    if ask_cluster(properties, timeout_s, on_log).is_mock:
        return {}
    return settings_of(properties, topics, "message.timestamp.type", timeout_s, on_log)[0]
