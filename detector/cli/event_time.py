"""Describes where event time comes from: for `detector check`, and for the start of the service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detector.config import Config

ARRIVAL = "event time is when the brokers took a reading, not when it was measured"
MEANS = "gaps and delays of the network look like the sensor's own; readings of one millisecond are told apart by their offsets"
FIX = "name the field that holds the sensor's time: input.event_time.field"
LOG_APPEND_TIME = "LogAppendTime"


def types(config: Config) -> dict[str, str]:
    """Per input topic its `message.timestamp.type`, as far as this user may see it; nothing where readings bring their own time.

    raises LogUnavailable, ConfigError  the brokers do not answer, or refuse
    """
    from detector.adapters.kafka.admin import timestamp_types
    from detector.cli import logs

    if config.input.event_time.field is not None:
        return {}
    return timestamp_types(config.kafka_properties(), config.input.topics, on_log=logs.log_client_line)


def described(config: Config, types: Mapping[str, str] | None = None) -> str:
    """Where event time comes from, and what becomes of ties. types: as `types` tells; None: the brokers were not asked."""
    event_time = config.input.event_time
    if event_time.field is not None:
        source = f"field {event_time.field}, {event_time.unit}"
    else:
        topics = config.input.topics if types is not None else ()
        kinds = {topic: (types or {}).get(topic, "a type that this user may not see (DESCRIBE_CONFIGS)") for topic in topics}
        source = ", ".join(("Kafka's own", *(f"{topic} has {kind}" for topic, kind in kinds.items())))
    became = "judged in the order of offsets" if event_time.keeps_ties else "ignored as duplicates"
    return f"{source}; readings of one stream and one time are {became}"


def by_brokers(types: Mapping[str, str]) -> str:
    """The topics whose messages bear the time at which a broker took them; empty if there are none."""
    named = [topic for topic, kind in types.items() if kind == LOG_APPEND_TIME]
    return f"message.timestamp.type of {', '.join(named)} is {LOG_APPEND_TIME}" if named else ""
