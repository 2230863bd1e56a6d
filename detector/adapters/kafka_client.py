"""What every Kafka client here has in common: properties, errors with a remedy, log lines, messages as columns."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, cast

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as KafkaMessage

from detector.adapters.kafka_tokens import with_tokens
from detector.codec.messages import Headers, Messages
from detector.config.secrets import redactor, secrets_in
from detector.core.readings import Partition
from detector.errors import ConfigError, DetectorError, Fenced, LogUnavailable

Say: TypeAlias = Callable[[str, str], None]
"""Takes the level (debug, info, warning, error) and one line; where librdkafka's own log lines go."""
Delivery: TypeAlias = Literal["exactly_once", "at_least_once"]
Client = TypeVar("Client")

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
CONSUMER_REQUIRED: Mapping[Delivery, Mapping[str, str]] = {
    "at_least_once": {
        "enable.auto.offset.store": "false",  # an offset is stored by commit(), after the alerts before it are written
        "enable.auto.commit": "true",  # stored offsets follow once per interval, at a rebalance and at the end
    },
    "exactly_once": {
        "enable.auto.offset.store": "false",
        "enable.auto.commit": "false",  # offsets are part of a transaction, and go no other way
        "isolation.level": "read_committed",  # also makes the look-up of committed offsets wait for undecided transactions (KIP-447)
    },
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

SAME_LINE_S = 30.0
LINES_REMEMBERED_MAX = 1_000
PROPERTY_FIX = "correct the property under `kafka:`"
UNREACHABLE_FIX = "check that the brokers run and that `kafka: bootstrap.servers` and `security.protocol` fit their listeners"

NAME_TAKEN = {
    KafkaError.FENCED_INSTANCE_ID: "another worker runs under the same group.instance.id",
    KafkaError.UNRELEASED_INSTANCE_ID: "another worker runs under the same group.instance.id",
}
FENCED = {
    **NAME_TAKEN,
    KafkaError._FENCED: "another worker runs under the same identity",
    KafkaError.PRODUCER_FENCED: "another worker writes under the same identity",
    KafkaError.INVALID_PRODUCER_EPOCH: "another worker writes under the same identity",
}
TOPIC_GONE = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_ID}
NAME_TAKEN_WORDS = ("fenced", "instance ID is still used")  # of a consumer's fatal error, which has no other code than that
NAME_FIX = "give each worker a `kafka: group.instance.id` of its own"
FOR_THE_PERSON = {
    KafkaError._AUTHENTICATION: "check `kafka: sasl.username`, `sasl.password` and `sasl.mechanism`",
    KafkaError.SASL_AUTHENTICATION_FAILED: "check `kafka: sasl.username`, `sasl.password` and `sasl.mechanism`",
    KafkaError.UNSUPPORTED_SASL_MECHANISM: "set `kafka: sasl.mechanism` to one that the brokers offer",
    KafkaError._SSL: "check `kafka: security.protocol`, `ssl.ca.location` and the other ssl properties",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "grant this user READ on the input topics and WRITE on alerts and dead letters",
    KafkaError.GROUP_AUTHORIZATION_FAILED: "grant this user READ on the consumer group that `group:` names",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "grant this user what the message names",
    KafkaError.UNKNOWN_TOPIC_OR_PART: "create the topic, or correct its name; `detector topics create` makes the output topics",
    KafkaError._UNKNOWN_TOPIC: "create the topic, or correct its name; `detector topics create` makes the output topics",
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED: "grant this user WRITE on the transactional ids that begin with the name in `group:`",
    KafkaError.TOPIC_EXCEPTION: "correct the topic's name: letters, digits, '.', '_' and '-'",
    KafkaError.MSG_SIZE_TOO_LARGE: "raise the topic's `max.message.bytes`",
    KafkaError.POLICY_VIOLATION: "ask who runs the brokers which policy this breaks",
    KafkaError._INVALID_ARG: PROPERTY_FIX,
}
# What a person does while the worker waits.
WHILE_IT_WAITS = {
    KafkaError._UNKNOWN_PARTITION: "the topic has fewer partitions than its input, or than it had: `detector topics create` gives a state topic "
    "as many as its input has, and the worker goes on by itself",
}
REFUSED = "SSL alert number"  # what a broker answers to a client's certificate, or for want of one; librdkafka takes it for an outage
# What librdkafka's text tells more precisely than its code: the first that occurs counts.
MORE_PRECISE = {
    "Unsupported SASL mechanism": "set `kafka: sasl.mechanism` to one that the brokers offer",
    "not valid in current SASL state": "this listener asks for no SASL: set `kafka: security.protocol` to what it speaks, or use another port",
    "OAUTHBEARER token": "check the properties `kafka: sasl.oauthbearer...`, that the token endpoint answers, and for https `https.ca.location`",
    "invalid_token": "see that the brokers trust the token's issuer, and that its audience, its scope (`kafka: sasl.oauthbearer.scope`) and the "
    "clocks are right; with AWS_MSK_IAM, that this port is the one for IAM",
    "Access denied": "with AWS_MSK_IAM, allow this identity `kafka-cluster:Connect` on the cluster; else check `kafka: sasl.username` and "
    "`sasl.password`",
    "certificate verify failed": "`kafka: ssl.ca.location` must hold the authority that signed the brokers' certificate, which must not have "
    "expired and must be made out to the host that `bootstrap.servers` and `advertised.listeners` name "
    "(`openssl s_client -connect HOST:PORT` shows it)",
    REFUSED: "the brokers ask for a certificate of a client that they know: set `kafka: ssl.certificate.location` and `ssl.key.location`",
    "ssl.key": "see that the file or text is a private key in PEM, and that `kafka: ssl.key.password` opens it",
    "location failed": "see that the file exists, may be read, and is PEM",
    "JAAS": "set `kafka: sasl.mechanism`, `sasl.username` and `sasl.password` instead; `sasl.mechanism: AWS_MSK_IAM` needs nothing beside it",
}


def quiet(level: str, line: str) -> None:
    """A `Say` that drops everything."""


def fix_for(error: KafkaError) -> str:
    """What a person does about an error."""
    precise = (fix for text, fix in MORE_PRECISE.items() if text in error.str())
    return next(precise, {**FOR_THE_PERSON, **WHILE_IT_WAITS}.get(error.code(), UNREACHABLE_FIX))


def remedy(error: KafkaError, what: str) -> DetectorError:
    """The error of ours that names the remedy for one of librdkafka's.

    what   what was being done, as the beginning of a sentence: "reading plant.readings"
    """
    message = f"{what}: {error.str()}"
    if error.code() == KafkaError._FATAL:  # librdkafka puts the true cause into the text only
        if is_name_taken(error):
            return Fenced(message, fix=NAME_FIX)
        return ConfigError(message, fix="correct what the brokers object to and start again: this client cannot go on")
    if error.code() in FENCED:
        return Fenced(f"{message} ({FENCED[error.code()]})", fix=NAME_FIX)
    if error.code() in FOR_THE_PERSON:
        return ConfigError(message, fix=fix_for(error))
    return LogUnavailable(message, fix=fix_for(error))


def remedy_while_running(error: KafkaError, what: str) -> DetectorError:
    """As `remedy`; but a topic that was there at the start and is gone is an outage: it ends when somebody makes the topic again."""
    meaning = remedy(error, what)
    return LogUnavailable(str(meaning), fix=meaning.fix) if error.code() in TOPIC_GONE else meaning


def is_fatal(error: KafkaError) -> bool:
    """Whether the client that met this error is of no use any more."""
    return error.fatal() or error.code() == KafkaError._FATAL


def is_name_taken(error: KafkaError) -> bool:
    """Whether the brokers have this consumer's `group.instance.id` under another member id: another worker's, or its own of before."""
    return error.code() in NAME_TAKEN or (error.code() == KafkaError._FATAL and any(word in error.str() for word in NAME_TAKEN_WORDS))


def kafka_error(exception: KafkaException) -> KafkaError:
    """The error inside an exception of confluent_kafka's."""
    error = exception.args[0]
    return error if isinstance(error, KafkaError) else KafkaError(KafkaError._FAIL, str(error))


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


def consumer_properties(properties: Mapping[str, str], group: str, delivery: Delivery) -> dict[str, str]:
    """What a member of a group is started with: our defaults, the user's properties over them, and what must be so."""
    if properties.get("group.id", group) != group:
        raise ConfigError(f"kafka: group.id {properties['group.id']!r} is not the configured group", fix="set `group:` instead")
    ours = {**COMMON_DEFAULTS, **CONSUMER_DEFAULTS, **properties, "group.id": group}
    if properties.get("group.protocol") == "consumer":  # KIP-848: the brokers assign, and set the times of a session
        return with_required(ours, CONSUMER_REQUIRED[delivery])
    session = ours.setdefault("session.timeout.ms", str(SESSION_TIMEOUT_MS))
    if session.isdigit():  # else librdkafka has something to say about it
        ours.setdefault("heartbeat.interval.ms", str(max(1, int(session) // HEARTBEATS_PER_SESSION)))
    return with_required(ours, {**CONSUMER_REQUIRED[delivery], **ASSIGNOR})


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
    # No message may be on its way for longer than its transaction: librdkafka insists.
    ours = {"transaction.timeout.ms": timeout, "retry.backoff.ms": COORDINATOR_RETRY_MS}
    if "message.timeout.ms" not in properties:
        ours["delivery.timeout.ms"] = timeout
    return {**producer_properties({**ours, **properties}), "transactional.id": transactional_id}


NO_CONCERN_OF_READERS = KafkaError.GROUP_AUTHORIZATION_FAILED
"""librdkafka looks for the coordinator of a reader's group although none is joined. A user who may read the topic may be refused that."""


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


class LogLines:
    """librdkafka's log lines, handed to a `Say`, without what must stay secret. Has the one method of `logging.Logger` needed.

    The same line comes at most once per 30 s: librdkafka tries a broker that is away 20 times a second, and says so each time.
    """

    def __init__(self, say: Say, properties: Mapping[str, str]) -> None:
        self._say = say
        self._said: dict[str, float] = {}
        self._hide = redactor(secrets_in(properties))

    def log(self, level: int, pattern: str, *values: Any) -> None:
        line = pattern % values if values else pattern
        if "will be ignored by this" in line:
            return  # the user's properties serve consumer and producer alike: half of them are always "ignored"
        gist, now = line.partition(" (after ")[0], time.monotonic()
        if now - self._said.get(gist, -math.inf) < SAME_LINE_S:
            return
        if len(self._said) >= LINES_REMEMBERED_MAX:
            self._said.clear()
        self._said[gist] = now
        # What librdkafka calls an error is a broken connection, which it mends by itself; true errors are raised.
        self._say("warning" if level >= 30 else "info" if level >= 20 else "debug", self._hide(line))


def open_consumer(properties: Mapping[str, str], on_error: Callable[[KafkaError], None], say: Say) -> Consumer:
    """A consumer.

    raises ConfigError  where librdkafka does not know a property or its value
    """
    return open_client(Consumer, properties, {}, on_error, say)


def open_producer(properties: Mapping[str, str], on_error: Callable[[KafkaError], None], say: Say) -> Producer:
    """A producer that reports only the messages it could not deliver.

    raises ConfigError  where librdkafka does not know a property or its value
    """
    return open_client(Producer, properties, {"delivery.report.only.error": True}, on_error, say)


def open_client(
    make: Callable[..., Client], properties: Mapping[str, str], further: Mapping[str, Any], on_error: Callable[[KafkaError], None], say: Say
) -> Client:
    """A client whose errors and log lines tell no secret.

    raises ConfigError     what librdkafka or confluent_kafka make of a property
    raises LogUnavailable  there are no credentials now to sign a token with (`kafka_tokens`)
    """
    hide = redactor(secrets_in(properties))

    def discreet(error: KafkaError) -> KafkaError:
        return KafkaError(error.code(), hide(error.str()), error.fatal(), error.retriable(), error.txn_requires_abort())

    taken = with_tokens(properties, say)
    try:
        return make({**taken, **further, "error_cb": lambda error: on_error(discreet(error))}, logger=LogLines(say, properties))
    except KafkaException as exception:
        raise remedy(discreet(kafka_error(exception)), "kafka") from None
    except Exception as exception:  # noqa: BLE001 - some properties confluent_kafka takes itself, and raises what it likes
        raise ConfigError(f"kafka: {hide(' '.join(str(exception).split()))}", fix=PROPERTY_FIX) from None


def named(partitions: Sequence[TopicPartition]) -> list[Partition]:
    """Our names for librdkafka's partitions."""
    return [Partition(each.topic, each.partition) for each in partitions]


def offsets_of(partitions: Sequence[TopicPartition]) -> dict[Partition, int]:
    """Their offsets, by our names.

    raises KafkaException  if one of them carries an error
    """
    for each in partitions:
        if each.error is not None:
            raise KafkaException(each.error)
    return {Partition(each.topic, each.partition): each.offset for each in partitions}


def to_messages(batch: list[KafkaMessage], topics: Sequence[str], *, with_log_time: bool) -> Messages:
    """What librdkafka brought, without errors among it, as columns.

    topics          the topics that may occur
    with_log_time   also read each message's time, milliseconds in Kafka; costs 0.1 us per message
    """
    count = len(batch)
    number = np.fromiter(map(KafkaMessage.partition, batch), np.int64, count)
    width = int(number.max(initial=0)) + 1
    if len(topics) > 1:
        index: dict[str | None, int] = {topic: position for position, topic in enumerate(topics)}
        number += width * np.fromiter(map(index.__getitem__, map(KafkaMessage.topic, batch)), np.int64, count)
    present = np.flatnonzero(np.bincount(number))
    column = np.zeros(width * len(topics), np.int32)
    column[present] = np.arange(len(present), dtype=np.int32)
    log_time_us = np.full(count, -1, np.int64)
    if with_log_time:
        log_time_ms = np.fromiter((time_ms for _, time_ms in map(KafkaMessage.timestamp, batch)), np.int64, count)
        np.multiply(log_time_ms, 1000, out=log_time_us, where=log_time_ms >= 0)

    def headers(position: int) -> Headers:
        return cast(Headers, batch[position].headers() or ())  # a list of pairs; the stubs allow for what producers take, too

    return Messages(
        key=list(map(KafkaMessage.key, batch)),
        value=list(map(KafkaMessage.value, batch)),
        partition=column[number],
        offset=np.fromiter(map(KafkaMessage.offset, batch), np.int64, count),
        log_time_us=log_time_us,
        partitions=tuple(Partition(topics[code // width], code % width) for code in present.tolist()),
        headers=headers,
    )
