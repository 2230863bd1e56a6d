"""What Kafka 4.3.0 forgets, written in its place: the ends of transactions that were decided when a node that is alone went away.

A node that comes back leads its partitions as before, is registered anew, and for a moment leads none. A transaction coordinator that
is about to write the markers of a decided transaction then takes the partitions for deleted, and the transaction for complete. Its
messages and offsets stay undecided for ever: committed, as the coordinator itself says, and hidden from whoever reads what is
committed. Where there are other nodes, one of them leads meanwhile, and nothing is forgotten.

Nothing is decided here: the coordinator's log says what was decided, and its server log for which partitions it was not written.
"""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.chaos.witness import QUICK, Trouble, ends

FORGOTTEN = re.compile(rb"leader endpoint for partitions \w+\(([^)]*)\) while trying to send transaction markers for (\S+),")
LOG_TOPIC = "__transaction_state"
WRITE_TXN_MARKERS, VERSION = 27, 1
PREPARED_COMMIT, COMPLETE_COMMIT = 2, 4
WRITTEN = {0, KafkaError.TRANSACTION_COORDINATOR_FENCED}  # now, or by the coordinator itself, which was loaded once more meanwhile
WRITE_S_MAX = 10.0
SETTLE_S = 1.5


class Place(NamedTuple):
    """A partition of any topic."""

    topic: str
    number: int


class Decided(NamedTuple):
    """How a transaction ended, as the coordinator's log has it."""

    producer_id: int
    producer_epoch: int
    is_commit: bool
    coordinator_epoch: int


def write_forgotten(servers: str, server_log: bytes) -> int:
    """Write all markers that this part of a server's log says were not written, and that are still missing; how many.

    raises Trouble  the broker does not take them
    """
    forgotten = [
        (Place(topic, int(number)), transactional_id.decode())
        for places, transactional_id in FORGOTTEN.findall(server_log)
        for topic, _, number in (place.rpartition("-") for place in places.decode().split(", "))
    ]
    if not forgotten:
        return 0
    undecided = _undecided(servers, {place for place, _ in forgotten})
    decided = _decided(servers) if undecided else {}
    missing = [(place, decided[transactional_id]) for place, transactional_id in forgotten if place in undecided]
    for place, how in missing:
        _write(servers, how, *place)
    return len(missing)


def _undecided(servers: str, places: set[Place]) -> set[Place]:
    """Those of `places` that hold messages of which it is not decided whether they count.

    Loaded a second time, the coordinator often writes its markers after all; so these are asked for a while.
    """
    begun = time.monotonic()
    while True:
        admin = AdminClient({"bootstrap.servers": servers, **QUICK})  # a new one believes in no former leaders
        try:
            stable, end = ends(admin, places, IsolationLevel.READ_COMMITTED), ends(admin, places, IsolationLevel.READ_UNCOMMITTED)
        except KafkaException as exception:  # leaders are not settled yet
            if time.monotonic() - begun > WRITE_S_MAX:
                raise Trouble(f"the broker does not tell what is decided: {exception}") from None
            time.sleep(0.1)
            continue
        places = {place for place in places if stable[place] < end[place]}
        if not places or time.monotonic() - begun > SETTLE_S:
            return places
        time.sleep(0.1)


def _decided(servers: str) -> Mapping[str, Decided]:
    """The last word on every transactional id: TransactionLogKey and TransactionLogValue of Apache Kafka."""
    reads = {"group.id": "markers", "enable.partition.eof": "true", "enable.auto.commit": "false"}
    consumer = Consumer({"bootstrap.servers": servers, **reads, **QUICK})
    partitions = consumer.list_topics(LOG_TOPIC, timeout=WRITE_S_MAX).topics[LOG_TOPIC].partitions
    consumer.assign([TopicPartition(LOG_TOPIC, number, OFFSET_BEGINNING) for number in partitions])
    found: dict[str, Decided] = {}
    unread, deadline = set(partitions), time.monotonic() + WRITE_S_MAX
    while unread:
        if time.monotonic() > deadline:
            raise Trouble(f"{LOG_TOPIC} cannot be read")
        message = consumer.poll(0.1)
        if message is None:
            continue
        if (error := message.error()) is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                unread.discard(message.partition() or 0)
            continue
        key, value = message.key(), message.value()
        if isinstance(key, bytes) and value is not None:
            producer_id, producer_epoch, _, status = struct.unpack_from(">qhib", value, 2)
            is_commit = status in (PREPARED_COMMIT, COMPLETE_COMMIT)
            found[key[4:].decode()] = Decided(producer_id, producer_epoch, is_commit, message.leader_epoch() or 0)
    consumer.close()
    return found


def _write(servers: str, decided: Decided, topic: str, number: int) -> None:
    """One WriteTxnMarkers request, as the coordinator sends it to the leader of a partition."""
    body = b"".join(
        (
            struct.pack(">hhih", WRITE_TXN_MARKERS, VERSION, 1, -1) + b"\0",  # no client id, no tags
            b"\2" + struct.pack(">qh?", decided.producer_id, decided.producer_epoch, decided.is_commit),
            b"\2" + bytes([len(topic) + 1]) + topic.encode() + b"\2" + struct.pack(">i", number) + b"\0",
            struct.pack(">i", decided.coordinator_epoch) + b"\0\0",
        )
    )
    host, port = servers.split(":")
    deadline = time.monotonic() + WRITE_S_MAX
    while True:
        with socket.create_connection((host, int(port)), WRITE_S_MAX) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            (code,) = struct.unpack(">h", _answer(connection)[-6:-4])  # the rest is empty tags, four times
        if code in WRITTEN:
            return
        if time.monotonic() > deadline:
            raise Trouble(f"the broker does not take a marker for {topic}-{number}: error {code}")
        time.sleep(0.05)


def _answer(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as stream:
        (size,) = struct.unpack(">i", stream.read(4))
        return stream.read(size)
