"""Topics as we want them, and what is taken instead where brokers refuse one: managed services bound some and know others not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from confluent_kafka import KafkaError

from detector.errors import ConfigError

DAY_MS = 86_400_000
LARGE_BYTES = "10485760"  # as much as our producers send in one message (`properties.PRODUCER_DEFAULTS`)

# A restore reads the whole topic: what counts is how much lies there beside the last row of each stream. Measured, 250,000 rows of 1 kB
# written for 25,000 streams in 100 s: 30,000 were left to read with these settings, all with the brokers' defaults.
STATE_SETTINGS = {
    "cleanup.policy": "compact",  # as Kafka Streams sets its changelogs; `compact,delete` would forget streams that are quiet for long
    "retention.ms": "-1",
    # The segment that is being written is never compacted; the brokers' default is 1 GiB.
    "segment.bytes": str(16 * 2**20),
    # The rest is compacted when so much of it may be outdated. At 0.3 every row written makes the cleaner copy 2.3 others; at the
    # brokers' 0.5 it is one, and a restore reads up to twice the rows there are.
    "min.cleanable.dirty.ratio": "0.3",
    # A tombstone must outlast any restore that began before it was written; those take seconds, not the brokers' default of a day.
    "delete.retention.ms": str(DAY_MS // 24),
    "max.message.bytes": LARGE_BYTES,  # rows of large models, with many channels
}


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
            {"cleanup.policy": "delete", "retention.ms": str(14 * DAY_MS), "max.message.bytes": LARGE_BYTES},
        ),
    )


def state_topic(name: str, partitions: int) -> Topic:
    """The topic of an input topic's state: row by row, in the partition that has its input's number."""
    return Topic(name, partitions, STATE_SETTINGS)


@dataclass(frozen=True, slots=True)
class Concession:
    """A setting that we can do without.

    setting   under Kafka's name
    bound     the value to ask for before the setting is left to the brokers: what services that bound it take; empty if there is none
    cost      what it means to have less than was wanted
    """

    setting: str
    bound: str
    cost: str


# What costs least comes first. Not among them is cleanup.policy: where it cannot be had, state would be lost or alerts kept for ever.
# sources: Confluent Cloud's and MSK Serverless' references of topic settings, and what users of the former quote of its refusals
# (segment.bytes: 52428800 at least; max.message.bytes: 8388608 at most, in both)
CONCESSIONS = (
    Concession("min.cleanable.dirty.ratio", "", "the topic is compacted later, and a restore may read up to twice the rows that there are"),
    Concession("segment.bytes", str(50 * 2**20), "the segment being written is not compacted, and a restore reads it as it is"),
    Concession(
        "delete.retention.ms", "", "the tombstones of evicted streams stay for as long as the brokers choose, and a restore reads them"
    ),
    Concession(
        "max.message.bytes", str(8 * 2**20), "a larger dead letter is written without the message, a larger row of state cannot be saved"
    ),
    Concession("retention.ms", "", "messages are kept as long as the brokers choose, those of a compacted topic while they are the last"),
)
REPLICATION = 3
"""Copies that are asked for where brokers insist on a number: as many as managed services keep."""
REFUSALS = {KafkaError.POLICY_VIOLATION, KafkaError.INVALID_CONFIG}


def instead_of(topic: Topic, refusal: KafkaError) -> Topic:
    """The topic to ask for after brokers have refused `topic`.

    The settings that the brokers name are given up; if they name none, the one that costs least.

    raises ConfigError  nothing is left to give up, or the refusal is about something else
    """
    code, words = refusal.code(), refusal.str()
    if topic.replication == -1 and (code == KafkaError.INVALID_REPLICATION_FACTOR or (code in REFUSALS and "replication" in words.lower())):
        return replace(topic, replication=REPLICATION)
    left = [each for each in CONCESSIONS if each.setting in topic.settings] if code in REFUSALS else []
    given_up = [each for each in left if each.setting in words] or left[:1]
    if not given_up:
        settings = ", ".join(f"{name} {value}" for name, value in topic.settings.items())
        fix = f"ask who runs the brokers which policy this breaks; their tools may create it too: {topic.partitions} partitions, {settings}"
        if topic.settings.get("cleanup.policy") == "compact":
            fix += "; or set `delivery: at_least_once` and `state: flush_interval_s: 0`, which need no state topic"
        raise ConfigError(f"the brokers refuse to create topic {topic.name}: {words}", fix=fix if code in REFUSALS else "")
    less = dict(topic.settings)
    for each in given_up:
        if each.bound and less[each.setting] != each.bound:
            less[each.setting] = each.bound
        else:
            del less[each.setting]
    return replace(topic, settings=less)


def costs(wanted: Topic, made: Topic) -> list[str]:
    """What was given up of `wanted`, and what that means, one sentence each."""
    sentences = [f"{made.replication} copies, since the brokers refuse to choose"] if made.replication != wanted.replication else []
    for each in CONCESSIONS:
        want, got = wanted.settings.get(each.setting), made.settings.get(each.setting)
        if want != got:
            sentences.append(f"{each.setting} is {got or 'left to the brokers'}, {want} was wanted: {each.cost}")
    return sentences
