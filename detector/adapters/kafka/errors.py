"""librdkafka's errors, as ours: each names its remedy and says what a person does."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

from detector.errors import ConfigError, DetectorError, Fenced, LogUnavailable

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
REBALANCING = {KafkaError.ILLEGAL_GENERATION, KafkaError.STALE_MEMBER_EPOCH, KafkaError.REBALANCE_IN_PROGRESS}
NOT_A_MEMBER = {KafkaError.UNKNOWN_MEMBER_ID, KafkaError.FENCED_MEMBER_EPOCH}
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
RETRY_AFTER_START = {*TOPIC_GONE, KafkaError._AUTHENTICATION, KafkaError._SSL}
"""A topic that is missing and credentials that are refused are for a person to mend at the start. Later they were right before: whoever changed
something may change it back."""
NOT_FOR_READERS = KafkaError.GROUP_AUTHORIZATION_FAILED
"""librdkafka looks for the coordinator of a reader's group although none is joined. A user who may read the topic may be refused that."""
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


def fix_for(error: KafkaError) -> str:
    """What a person does about an error."""
    precise = (fix for text, fix in MORE_PRECISE.items() if text in error.str())
    return next(precise, {**FOR_THE_PERSON, **WHILE_IT_WAITS}.get(error.code(), UNREACHABLE_FIX))


def to_detector_error(error: KafkaError, what: str, *, is_running: bool = False) -> DetectorError:
    """An error of librdkafka's as one of ours, which is named by its remedy.

    what        what was being done, as the beginning of a sentence: "reading plant.readings"
    is_running  the service has been at work: what needed a person at the start is an outage now (RETRY_AFTER_START)
    """
    message = f"{what}: {error.str()}"
    if is_running and error.code() in RETRY_AFTER_START:
        return LogUnavailable(message, fix=fix_for(error))
    if error.code() == KafkaError._FATAL:  # librdkafka puts the true cause into the text only
        if is_name_taken(error):
            return Fenced(message, fix=NAME_FIX)
        return ConfigError(message, fix="correct what the brokers object to and start again: this client cannot go on")
    if error.code() in FENCED:
        return Fenced(f"{message} ({FENCED[error.code()]})", fix=NAME_FIX)
    if error.code() in FOR_THE_PERSON:
        return ConfigError(message, fix=fix_for(error))
    return LogUnavailable(message, fix=fix_for(error))


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
