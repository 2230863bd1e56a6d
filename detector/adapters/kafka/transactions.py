"""The producer behind an exactly-once commit: what was decided and how far was read, in one transaction.

    none --open--> waiting --init_transactions--> ready --begin--> open --commit_transaction--> ready
     ^                                                              |--abort_transaction------> ready
     '------------------ fatal, or nobody can say what became of it ----'

No transaction outlives `commit`. What a producer left open, this process's or its predecessor's of the same transactional id, is
ended by the next `init_transactions`: committed where the coordinator had already decided so, else aborted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from threading import Thread
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from detector.adapters.kafka.client import LogCallback, open_producer
from detector.adapters.kafka.errors import FENCED, NOT_A_MEMBER, REBALANCING, UNREACHABLE_FIX, is_fatal, kafka_error, to_detector_error
from detector.adapters.kafka.properties import transactional_properties
from detector.adapters.kafka.records import Record, Refusal, enqueue, shortened
from detector.errors import CommitAborted, ConfigError, DetectorError, Fenced, LogUnavailable

# A coordinator that has just started loads its log for about a second, and one that aborts what was left open asks for patience
# in half seconds. Longer waits belong to the worker's back-off, where it can be stopped.
INIT_S_MAX = 5.0
END_S_MAX = 10.0
OFFSETS_S_MAX = 3.0
REBALANCE_S_MAX = 5.0
PAUSE_S = 0.02
UNABLE = {KafkaError.UNSUPPORTED_VERSION, KafkaError._UNSUPPORTED_FEATURE, KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT}
UNABLE_FIX = "set `delivery: at_least_once`, or use brokers of Kafka 2.5 or newer"
CONSEQUENCES = {KafkaError._STATE, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}  # of another record's refusal


class ConsumedOffsets(NamedTuple):
    """Offsets, and the membership of the consumer that read up to them: both are part of a transaction (KIP-447).

    offsets         of the next messages to read
    group_metadata  the membership, as the consumer gives it; the coordinator refuses the offsets of a member that is none any more
    """

    offsets: Sequence[TopicPartition]
    group_metadata: object


class Transactions:
    """One transactional producer, opened when it is first needed and again when it broke.

    transactional_id  of this worker alone: opening a producer ends what another one under this id has open, and fences it

    Being fenced ends no worker. The coordinator does it to a transaction that took too long, and a successor to what a worker seems to
    have left open. Whether another worker has the name of this one is the group's to say (`static_membership`).

    raises ConfigError  properties that librdkafka does not know or that contradict the delivery guarantee
    """

    def __init__(
        self,
        properties: Mapping[str, str],
        transactional_id: str,
        on_error: Callable[[KafkaError], None],
        on_log: LogCallback,
    ) -> None:
        self.transactional_id = transactional_id
        self._on_log = on_log

        def heard(error: KafkaError) -> None:
            # These are raised by the call that meets them, which knows what they mean.
            if not is_fatal(error) and error.code() not in FENCED:
                on_error(error)

        self._open = partial(open_producer, transactional_properties(properties, transactional_id), heard, on_log)
        self._producer: Producer | None = self._open()
        self._is_ready = False

    @property
    def is_ready(self) -> bool:
        """Whether nothing of this id is undecided, as far as is known here."""
        return self._is_ready

    def serve(self) -> None:
        """Let log lines and errors that came meanwhile be heard. Never blocks."""
        if self._producer is not None:
            self._producer.poll(0)

    def close(self) -> None:
        """Free what is held. Idempotent."""
        self._producer, self._is_ready = None, False

    def ready(self) -> Producer:
        """A producer that can begin a transaction; nothing of this id is undecided then.

        raises LogUnavailable  the coordinator is not ready yet, or not reachable, or somebody else opened a producer of this id meanwhile
        raises ConfigError     these brokers cannot do transactions, or this user may not
        """
        if self._producer is None:
            self._producer = self._open()
        if not self._is_ready:
            try:
                self._producer.init_transactions(INIT_S_MAX)
            except KafkaException as exception:
                error = kafka_error(exception)
                if not error.retriable():
                    self.close()
                meaning = self._meaning(error, "starting transactions")
                if isinstance(meaning, CommitAborted):  # nothing has begun that could be: the next call opens a producer anew
                    meaning = LogUnavailable(str(meaning), fix=meaning.fix)
                raise meaning from None
            self._is_ready = True
        return self._producer

    def commit(self, records: Sequence[Record], consumed: Callable[[], ConsumedOffsets]) -> None:
        """One transaction with `records` and offsets, tried again where a rebalance or a dead letter's size stands in its way.

        consumed  called as late as can be, once per attempt; raises CommitAborted where the partitions are not this worker's any more

        raises LogUnavailable, CommitAborted  as `ports.Log.commit`
        raises ConfigError  the brokers refuse it: no permission, no such topic, an alert or a row of state too large
        """
        todo, apart = list(records), frozenset[int]()
        deadline = time.monotonic() + REBALANCE_S_MAX
        while True:
            try:
                refused = self._attempt(todo, apart, consumed)
            except KafkaException as exception:
                error = kafka_error(exception)
                if error.code() not in REBALANCING or time.monotonic() > deadline:
                    self.close()
                    raise self._meaning(error, "committing") from None
                time.sleep(PAUSE_S)  # the consumer's own thread learns of the new generation meanwhile
                continue
            if not refused:
                return
            todo, apart = self._fitting(todo, apart, refused)

    def _attempt(self, records: Sequence[Record], apart: frozenset[int], consumed: Callable[[], ConsumedOffsets]) -> list[Refusal]:
        """One transaction. Those of its records that were refused: then it was aborted, as with any exception."""
        producer = self.ready()
        refused: list[Refusal] = []
        producer.begin_transaction()
        try:
            for number, record in enumerate(records):
                if number in apart:
                    flush(producer)
                enqueue(producer, record, refused)
                if number in apart:
                    flush(producer)
            # Bounded by delivery.timeout.ms. Before the offsets: librdkafka 2.16 never returns from sending them if a message
            # fails meanwhile.
            flush(producer)
            if not refused:
                offsets, group_metadata = consumed()
                if offsets:
                    _send_offsets(producer, offsets, group_metadata)
        except BaseException:
            self._abort(producer)
            raise
        if refused:
            self._abort(producer)
            # After a refusal librdkafka 2.16 goes on with sequence numbers that the brokers do not expect; a new producer begins anew.
            self.close()
            return [each for each in refused if each.error.code() not in CONSEQUENCES] or refused
        self._end(producer)
        return []

    def _end(self, producer: Producer) -> None:
        """Make it true. From the first call of commit_transaction on, only its success says what became of it."""
        deadline = time.monotonic() + END_S_MAX
        while True:
            try:
                producer.commit_transaction(max(0.1, deadline - time.monotonic()))
                return
            except KafkaException as exception:
                error = kafka_error(exception)
                if error.retriable() and time.monotonic() < deadline:
                    time.sleep(PAUSE_S)
                    continue
                self.close()  # the next one's init_transactions settles it
                meaning = self._meaning(error, "committing")
                raise CommitAborted(f"nobody knows yet whether a commit happened: {error.str()}", fix=meaning.fix) from None

    def _abort(self, producer: Producer) -> None:
        """Undo it. If that fails it is undone all the same: nobody has asked the coordinator to commit, and nobody will."""
        try:
            producer.abort_transaction(END_S_MAX)
        except KafkaException:
            self.close()

    def _fitting(self, records: list[Record], apart: frozenset[int], refused: Sequence[Refusal]) -> tuple[list[Record], frozenset[int]]:
        """`records` to be tried again after some were refused, and those of them that must travel alone.

        Refused for its size, a record may only have shared a batch with others. If it was alone, all dead letters of its size and
        above are shortened.

        raises DetectorError  trying again would be of no use
        """
        refusal = next((each for each in refused if not each.is_too_large), refused[0])
        numbers = {number for number, record in enumerate(records) if any(record is each.record for each in refused)}
        if refusal.is_too_large and not numbers <= apart:
            return records, apart | numbers
        if refusal.is_too_large and refusal.record.is_dead_letter:
            limit = min(each.record.size_bytes for each in refused)
            return [shortened(each, self._on_log) if each.is_dead_letter and each.size_bytes >= limit else each for each in records], apart
        what = f"writing {len(refused)} of {len(records)} messages, the first to {refusal.record.topic}"
        if refusal.is_too_large:
            fix = f"raise `max.message.bytes` of the topic {refusal.record.topic} above {refusal.record.size_bytes}, and `kafka: message.max.bytes`"
            raise ConfigError(f"{what}: {refusal.error.str()}", fix=fix)
        raise self._meaning(refusal.error, what)

    def _meaning(self, error: KafkaError, what: str) -> DetectorError:
        """The error of ours for one that is no success."""
        message = f"{what}: {error.str()}"
        if error.code() in UNABLE:
            return ConfigError(f"these brokers cannot do transactions: {message}", fix=UNABLE_FIX)
        if error.code() == KafkaError.INVALID_TRANSACTION_TIMEOUT:
            fix = "set `kafka: transaction.timeout.ms` to at most the brokers' `transaction.max.timeout.ms`"
            return ConfigError(message, fix=fix)
        if error.code() in NOT_A_MEMBER:
            return CommitAborted(f"this worker's session has ended: {error.str()}")
        meaning = to_detector_error(error, what, is_running=True)
        if isinstance(meaning, Fenced):
            return CommitAborted(f"this worker's transaction was ended by others: {error.str()}")
        if is_fatal(error) and isinstance(meaning, LogUnavailable):
            return CommitAborted(message)
        return meaning


def _send_offsets(producer: Producer, offsets: Sequence[TopicPartition], group_metadata: object) -> None:
    """Make offsets part of the transaction.

    librdkafka's time limit does not hold while the group's coordinator refuses us or is away (its issue 5456): the call may never
    return. It is then left to its thread, and its producer to be fenced by the next one.

    raises LogUnavailable  it did not return
    """
    sent: Future[None] = Future()

    def send() -> None:
        try:
            producer.send_offsets_to_transaction(list(offsets), group_metadata, OFFSETS_S_MAX)
        except KafkaException as exception:
            sent.set_exception(exception)
        else:
            sent.set_result(None)

    Thread(target=send, name="offsets", daemon=True).start()
    try:
        sent.result(OFFSETS_S_MAX + 1.0)
    except TimeoutError:
        raise LogUnavailable("the group's coordinator did not take the offsets", fix=UNREACHABLE_FIX) from None


def flush(producer: Producer) -> None:
    """`producer.flush()`. confluent_kafka raises a fatal error out of it, and lets delivery callbacks run while it is raised."""
    try:
        producer.flush()
    except SystemError as confused:
        if isinstance(confused.__cause__, KafkaException):
            raise confused.__cause__ from None
        raise
