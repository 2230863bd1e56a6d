"""Who committed last: every offset that is committed exactly once carries the transactional id of the worker that committed it.

Who takes over a partition ends the transactions of the worker whose id it carries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from confluent_kafka import KafkaException, TopicPartition

from detector.adapters.kafka.client import LogCallback, open_consumer, open_producer
from detector.adapters.kafka.errors import kafka_error, to_detector_error
from detector.adapters.kafka.properties import reader_properties, transactional_properties
from detector.adapters.kafka.transactions import INIT_S_MAX
from detector.core.readings import Partition
from detector.errors import DetectorError

ASK_S_MAX = 5.0
RELEASED = "released"
"""What the committed offset carries of a partition that its worker released in order. One that carries nothing was set by other tools."""


class CommitOwner(NamedTuple):
    """Who committed the offset of a partition.

    name  the worker's transactional id
    """

    offset: int
    name: str


def end_open_transactions(
    properties: Mapping[str, str],
    group: str,
    partitions: Sequence[Partition],
    own_id: str,
    known: Mapping[Partition, CommitOwner],
    on_log: LogCallback,
) -> dict[Partition, CommitOwner]:
    """End the transactions of workers whose ids these partitions carry: they did not release them in order.

    A worker that died inside a transaction would otherwise hold up whoever reads the alerts, and its successor's restore, until the
    coordinator ends it: `transaction.timeout.ms` and up to 10 s more. Only one that never committed before it died is not known
    here. What cannot be done is logged and left to the coordinator.

    Ending the transaction of a worker that lives after all makes it restore its other partitions; these are not its own any more, so
    it would be refused. Two that took each other's partitions must not go on like that: what is `known` was ended before, and is not ended again.

    returns  what was found now
    """
    try:
        owners = _owners(properties, group, partitions, on_log)
        for transactional_id in sorted({each.name for partition, each in owners.items() if known.get(partition) != each} - {own_id}):
            on_log("info", f"ending what {transactional_id} may have left open")
            end_transaction(properties, transactional_id, on_log)
    except KafkaException as exception:
        on_log("warning", f"whether a dead worker left a transaction open is not known: {kafka_error(exception).str()}")
    except DetectorError as error:
        on_log("warning", f"waiting until the brokers end a dead worker's transaction: {error}")
    else:
        return owners
    return {}


def end_transaction(properties: Mapping[str, str], transactional_id: str, on_log: LogCallback) -> None:
    """End what a worker that is no more has left open, so that nobody has to wait until the coordinator does.

    raises LogUnavailable  the coordinator did not answer in time
    raises ConfigError     this user may not write under that id
    """
    producer = open_producer(transactional_properties(properties, transactional_id), lambda error: None, on_log)
    try:
        producer.init_transactions(INIT_S_MAX)
    except KafkaException as exception:
        raise to_detector_error(kafka_error(exception), f"ending the transaction of {transactional_id}") from None


def _owners(
    properties: Mapping[str, str], group: str, partitions: Sequence[Partition], on_log: LogCallback
) -> dict[Partition, CommitOwner]:
    """The owners of those of `partitions` that carry one.

    As last decided: a reader of committed offsets would wait for just the transactions that are to be ended. Asked by a consumer of its
    own: requests of librdkafka's admin client to a coordinator abort the process if the connection breaks (its pull request 5397).
    """
    asker = open_consumer(
        {**reader_properties(properties), "group.id": group, "isolation.level": "read_uncommitted"}, lambda error: None, on_log
    )
    try:
        asked = [TopicPartition(each.topic, each.number) for each in partitions]
        found = asker.committed(asked, timeout=ASK_S_MAX)
    finally:
        asker.close()
    names = [(each, each.metadata or "") for each in found]
    return {Partition(each.topic, each.partition): CommitOwner(each.offset, name) for each, name in names if name.startswith(f"{group}.")}
