"""librdkafka's properties: our defaults, the user's over them, and what delivery depends on."""

from __future__ import annotations

from collections.abc import Mapping

from detector.errors import ConfigError

COMMON_DEFAULTS = {
    "client.id": "detector",
    "reconnect.backoff.max.ms": "1000",  # a broker that is back is noticed within a second
    "metadata.max.age.ms": "3000",  # so is one that leads again: librdkafka clings to a coordinator that is gone (its issue 5511)
}
# Fetching pauses when 100,000 messages are queued; librdkafka's pause of a second would starve us: 0.2 instead of 1.4 M messages/s.
PREFETCH = {"fetch.queue.backoff.ms": "20"}
CONSUMER_DEFAULTS = {
    **PREFETCH,
    "auto.offset.reset": "earliest",  # a new group judges what the topic still holds: nothing is lost, and streams settle sooner
    "auto.commit.interval.ms": "1000",  # how far the group's offsets may trail behind what commit() made true
}
ASSIGNOR = {"partition.assignment.strategy": "cooperative-sticky"}
# A killed worker that has no group.instance.id keeps its partitions until its session ends, and their streams are blind that long:
# 6 s where the clients' default is 45 s. Pauses of a healthy worker are far shorter; librdkafka's own thread sends the heartbeats.
SESSION_TIMEOUT_MS = 6_000
HEARTBEATS_PER_SESSION = 3
PRODUCER_DEFAULTS = {
    "partitioner": "murmur2_random",  # the same partition for the same key as Java's clients choose
    "message.max.bytes": "10485760",  # a dead letter is larger than the message that it keeps; the broker has the last word
    # A new producer takes a topic that is gone for one that comes soon, by default for 30 s: its messages would only time out, which
    # does not say why.
    "topic.metadata.propagation.max.ms": "5000",
}
PRODUCER_REQUIRED = {"enable.idempotence": "true"}  # acks=all, and retries write nothing twice
# An open transaction of a worker that died hides what comes after it from read_committed readers until the broker ends it. A commit
# takes milliseconds; 10 s leave room for brokers that restart.
TRANSACTION_TIMEOUT_MS = "10000"
COORDINATOR_RETRY_MS = "5"  # the next commit finds the coordinator still writing the last: 100 ms is the default, 3 ms are enough
DELIVERY_TIMEOUT_MS = "10000"  # far below max.poll.interval.ms: a commit that waits must not cost the worker its partitions


def with_required(properties: Mapping[str, str], required: Mapping[str, str]) -> dict[str, str]:
    """`properties` and `required` together.

    raises ConfigError  where they contradict each other
    """
    for name, value in required.items():
        if properties.get(name, value).lower() != value:
            raise ConfigError(
                f"kafka: {name} cannot be {properties[name]!r}: delivery depends on {value!r}", fix=f"remove {name} from `kafka:`"
            )
    return {**properties, **required}


def consumer_properties(properties: Mapping[str, str], group: str, required: Mapping[str, str]) -> dict[str, str]:
    """What a member of a group is started with: our defaults, the user's properties over them, and what must be so.

    required  what the way of delivery depends on (`delivery.Delivery.consumer_required`)

    raises ConfigError  where the user's contradict what is required
    """
    if properties.get("group.id", group) != group:
        raise ConfigError(f"kafka: group.id {properties['group.id']!r} is not the configured group", fix="set `group:` instead")
    ours = {**COMMON_DEFAULTS, **CONSUMER_DEFAULTS, **properties, "group.id": group}
    if properties.get("group.protocol") == "consumer":  # KIP-848: the brokers assign, and set the times of a session
        return with_required(ours, required)
    session = ours.setdefault("session.timeout.ms", str(SESSION_TIMEOUT_MS))
    if session.isdigit():  # else librdkafka has something to say about it
        ours.setdefault("heartbeat.interval.ms", str(max(1, int(session) // HEARTBEATS_PER_SESSION)))
    return with_required(ours, {**required, **ASSIGNOR})


def producer_properties(properties: Mapping[str, str]) -> dict[str, str]:
    """What a producer is started with: our defaults, the user's properties over them, and what must be so."""
    ours = {**COMMON_DEFAULTS, **PRODUCER_DEFAULTS, **properties}
    if "message.timeout.ms" not in ours:  # librdkafka knows it by two names
        ours.setdefault("delivery.timeout.ms", DELIVERY_TIMEOUT_MS)
    return with_required(ours, PRODUCER_REQUIRED)


def transactional_properties(properties: Mapping[str, str], transactional_id: str) -> dict[str, str]:
    """What the producer of a worker's transactions is started with.

    raises ConfigError  where `properties` name a transactional id of their own
    """
    if "transactional.id" in properties:
        raise ConfigError("kafka: transactional.id is made from the group's and the worker's name", fix="remove it from `kafka:`")
    timeout = properties.get("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)
    # librdkafka insists that no message takes longer than its transaction.
    ours = {"transaction.timeout.ms": timeout, "retry.backoff.ms": COORDINATOR_RETRY_MS}
    if "message.timeout.ms" not in properties:
        ours["delivery.timeout.ms"] = timeout
    return {**producer_properties({**ours, **properties}), "transactional.id": transactional_id}


def reader_properties(properties: Mapping[str, str]) -> dict[str, str]:
    """What a consumer is started with that reads to an end, joins no group and commits nothing."""
    ours = {
        **COMMON_DEFAULTS,
        **PREFETCH,
        **properties,
        "group.id": "detector-reader",  # librdkafka wants a group's name even where none is joined
        "enable.auto.commit": "false",
        "enable.partition.eof": "true",
    }
    ours.pop("group.instance.id", None)
    return ours
