"""What topics are set to, as far as this user may see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import ConfigResource  # type: ignore[attr-defined] # its documented place

from detector.adapters.kafka_admin import ask_cluster, open_admin
from detector.adapters.kafka_client import Say, kafka_error, quiet, remedy

MAY_NOT_SEE = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED}


def settings_of(
    properties: Mapping[str, str], topics: Sequence[str], setting: str, timeout_s: float, say: Say
) -> tuple[dict[str, str], list[str]]:
    """One setting of some topics.

    returns  its value per topic, and the topics whose settings this user may not see

    raises LogUnavailable, ConfigError  the brokers do not answer, or refuse
    """
    if not topics:
        return {}, []
    found, unseen = {}, []
    admin = open_admin(properties, say)  # has to outlive the answers
    resources = [ConfigResource(ConfigResource.Type.TOPIC, topic) for topic in topics]
    for resource, future in admin.describe_configs(resources, request_timeout=timeout_s).items():
        try:
            found[resource.name] = str(future.result()[setting].value)
        except KafkaException as exception:
            error = kafka_error(exception)
            if error.code() not in MAY_NOT_SEE:
                raise remedy(error, f"looking at the configuration of {resource.name}") from None
            unseen.append(resource.name)
    return found, unseen


def timestamp_types(properties: Mapping[str, str], topics: Sequence[str], timeout_s: float = 10.0, say: Say = quiet) -> dict[str, str]:
    """Per topic what Kafka's own time of its messages is: `CreateTime`, its producer's, or `LogAppendTime`, its broker's.

    Not told of topics whose settings this user may not see, nor by librdkafka's mock broker.

    raises LogUnavailable, ConfigError  as `settings_of`
    """
    if ask_cluster(properties, timeout_s, say).is_mock:
        return {}
    return settings_of(properties, topics, "message.timestamp.type", timeout_s, say)[0]
