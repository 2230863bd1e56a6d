"""Topics: checked before a start, created by `detector topics create`; the service itself creates none."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from types import MappingProxyType
from typing import Literal, TypeAlias

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.cimpl import NewPartitions, NewTopic

from detector.adapters.kafka.admin import ask_cluster, open_admin, servers_of, settings_of
from detector.adapters.kafka.client import LogCallback, discard
from detector.adapters.kafka.errors import kafka_error, to_detector_error
from detector.adapters.kafka.permissions import missing_permissions
from detector.adapters.kafka.topic_settings import Topic, costs, instead_of, output_topics, state_topic
from detector.errors import ConfigError, LogUnavailable

__all__ = ["Topic", "check_topics", "create_topics", "output_topics", "state_topic"]

NOTHING: Mapping[str, str] = MappingProxyType({})
CREATE = "`detector topics create` makes what is written: output and state topics"


def check_topics(
    properties: Mapping[str, str],
    reads: Sequence[str],
    writes: Sequence[str],
    *,
    state: Mapping[str, str] = NOTHING,
    exactly_once: bool = False,
    missing: Literal["wait", "fail"] = "fail",
    timeout_s: float = 10.0,
    on_log: LogCallback = discard,
) -> dict[str, int]:
    """See that the brokers answer and that every topic is there as it should be; the number of partitions of each.

    state         per input topic its state topic: must be compacted and have as many partitions
    missing       wait: an input topic that is missing is logged and waited for, with 0 partitions, if another one is there
    exactly_once  the brokers must be able to do transactions; librdkafka's mock broker answers as if it were, and is refused

    raises LogUnavailable  no broker answered within `timeout_s`
    raises ConfigError     credentials refused, the mock broker, or topics missing, wrong or not permitted: all of them, with the commands
                           that mend it
    """
    cluster = ask_cluster(properties, timeout_s, on_log)
    if cluster.is_mock and (exactly_once or state):
        raise ConfigError(
            "this is librdkafka's mock broker: it has no transactions and compacts nothing",
            fix="set `delivery: at_least_once` and `state: flush_interval_s: 0`",
        )
    found, inputs = cluster.partitions, reads
    there = [topic for topic in reads if topic in found]
    if missing == "wait" and there:
        for topic in sorted({*reads} - {*there}):
            on_log("warning", f"input topic {topic} does not exist: it is waited for; create it, or remove it from `input.topics`")
        reads, state = there, {source: topic for source, topic in state.items() if source in found}
    wrong = _missing(properties, found, {"input": reads, "output": writes, "state": list(state.values())})
    wrong += _differing(found, state)
    wrong += _not_compacted(properties, [topic for topic in state.values() if topic in found], timeout_s, on_log)
    if not cluster.is_mock:  # which does not answer to the question
        readable, writable = ([topic for topic in (*topics, *state.values()) if topic in found] for topics in (reads, writes))
        wrong += missing_permissions(properties, readable, writable, timeout_s, on_log)
    if wrong:
        raise ConfigError("; ".join(problem for problem, _ in wrong), fix="; ".join(dict.fromkeys(fix for _, fix in wrong)))
    return {topic: found.get(topic, 0) for topic in (*inputs, *writes, *state.values())}


Finding: TypeAlias = tuple[str, str]
"""A problem, and what a person does about it."""


def _missing(properties: Mapping[str, str], found: Mapping[str, int], roles: Mapping[str, Sequence[str]]) -> list[Finding]:
    missing = {role: [topic for topic in topics if topic not in found] for role, topics in roles.items()}
    parts = [f"{role} {_listed(topics)}" for role, topics in missing.items() if topics]
    if not parts:
        return []
    fixes = []
    if missing["input"]:
        fixes.append("correct `input.topics`, create the input topic (its partitions are yours to choose), or grant this user READ on it")
    if missing["output"] or missing["state"]:
        fixes.append(CREATE)
    return [(f"missing on {servers_of(properties)}, or not visible to this user: {' and '.join(parts)}", "; ".join(fixes))]


def _differing(found: Mapping[str, int], state: Mapping[str, str]) -> list[Finding]:
    """State topics that have not as many partitions as their inputs."""
    findings = []
    for source, topic in state.items():
        if source in found and topic in found and found[source] != found[topic]:
            problem = f"state topic {topic} has {found[topic]} partitions, its input {source} has {found[source]}"
            fewer = found[topic] < found[source]
            fix = "`detector topics create` adds partitions" if fewer else f"delete {topic} and create it again: streams start cold"
            findings.append((problem, fix))
    return findings


def _not_compacted(properties: Mapping[str, str], topics: Sequence[str], timeout_s: float, on_log: LogCallback) -> list[Finding]:
    """State topics that would not keep the last row of every stream, as far as this user may see that."""
    found, unseen = settings_of(properties, topics, "cleanup.policy", timeout_s, on_log)
    alter = f"kafka-configs.sh --bootstrap-server {servers_of(properties)} --alter"
    findings = [
        (
            f"state topic {topic} has cleanup.policy {policy}, not compact: state would be lost",
            f"`{alter} --topic {topic} --add-config cleanup.policy=compact`",
        )
        for topic, policy in found.items()
        if policy != "compact"
    ]
    if unseen:
        what = f"whether {_listed(unseen)} {'is' if len(unseen) == 1 else 'are'} compacted is not known"
        on_log("warning", f"{what}: the brokers do not tell, or this user may not describe configurations (DESCRIBE_CONFIGS)")
    return findings


def _listed(topics: Sequence[str]) -> str:
    return ("topic " if len(topics) == 1 else "topics ") + ", ".join(topics)


def create_topics(
    properties: Mapping[str, str],
    topics: Sequence[Topic],
    *,
    state: Mapping[str, str] = NOTHING,
    timeout_s: float = 30.0,
    on_log: LogCallback = discard,
) -> dict[str, str]:
    """Create topics; those that exist are left as they are, but that a state topic gets as many partitions as its input.

    Brokers may refuse settings: then less is asked for (`topic_settings.CONCESSIONS`).

    state   per input topic, its state topic; the input is there already, or among `topics`

    Returns, when the brokers show all of them, in words what became of each: created, is there already, partitions added. Behind
    `created` stands what was given up, and what that costs.

    raises ConfigError     an input is missing; or the brokers refuse: no permission, bad name, more copies than brokers
    raises LogUnavailable  no broker answered within `timeout_s`
    """
    there = ask_cluster(properties, min(timeout_s, 10.0), on_log).partitions
    sizes = {**{topic.name: topic.partitions for topic in topics}, **there}
    if missing := [source for source in state if source not in sizes]:
        raise ConfigError(
            f"a state topic has as many partitions as its input; missing on {servers_of(properties)}: input {_listed(missing)}",
            fix="create the input topic first (its partitions are yours to choose), or give --with-input",
        )
    wanted = [*topics, *(state_topic(name, sizes[source]) for source, name in state.items())]
    new = [topic for topic in wanted if topic.name not in there]
    short = [topic for topic in wanted if topic.name in state.values() and there.get(topic.name, topic.partitions) < topic.partitions]
    became = dict.fromkeys((topic.name for topic in wanted), "is there already")
    if new or short:
        became.update(_make(properties, new, short, timeout_s, on_log))
        _wait_until_shown(properties, (*new, *short), timeout_s, on_log)
    return became


def _make(
    properties: Mapping[str, str], new: Sequence[Topic], short: Sequence[Topic], timeout_s: float, on_log: LogCallback
) -> dict[str, str]:
    """Create the new topics and lengthen those that are short of partitions; what became of them."""
    admin = open_admin(properties, on_log)
    limits = {"operation_timeout": timeout_s, "request_timeout": timeout_s}
    became: dict[str, str] = {}
    wanted, asked = {topic.name: topic for topic in new}, list(new)
    while asked:
        plans = [NewTopic(each.name, each.partitions, each.replication, config=dict(each.settings)) for each in asked]
        answers, again = admin.create_topics(plans, **limits), []
        for topic in asked:
            if (refusal := _refusal(answers[topic.name], topic.name)) is None:
                became[topic.name] = "; ".join(["created", *costs(wanted[topic.name], topic)])
            elif refusal.code() != KafkaError.TOPIC_ALREADY_EXISTS:
                again.append(instead_of(topic, refusal))
        asked = again
    added = admin.create_partitions([NewPartitions(topic.name, topic.partitions) for topic in short], **limits) if short else {}
    for name, answer in added.items():
        if (refusal := _refusal(answer, name)) is not None:
            raise ConfigError(f"the brokers refuse to add partitions to topic {name}: {refusal.str()}")
        became[name] = "partitions added"
    return became


def _refusal(answer: Future[None], name: str) -> KafkaError | None:
    """Why the brokers refuse to create or to change a topic; None if they did it.

    raises LogUnavailable  they could not be asked
    """
    try:
        answer.result()
    except KafkaException as exception:
        error = kafka_error(exception)
        if error.retriable() or error.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT):
            raise to_detector_error(error, f"creating topic {name}") from None
        return error
    return None


def _wait_until_shown(properties: Mapping[str, str], topics: Sequence[Topic], timeout_s: float, on_log: LogCallback) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        shown = ask_cluster(properties, timeout_s, on_log).partitions
        late = [topic.name for topic in topics if shown.get(topic.name, 0) < topic.partitions]
        if not late:
            return
        if time.monotonic() >= deadline:
            raise LogUnavailable(f"the brokers do not show {', '.join(late)} {timeout_s:g} s after creating them", fix="try again")
        time.sleep(0.1)
