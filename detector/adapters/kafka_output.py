"""The producer behind `KafkaLog.commit`: writes what was decided and waits until the brokers have it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Message as KafkaMessage

from detector.adapters.kafka_client import Say, is_fatal, kafka_error, open_producer, producer_properties, remedy
from detector.codec.dead_letters import OMITTED, reason_only
from detector.codec.messages import Message
from detector.errors import LogUnavailable

Failure: TypeAlias = tuple[str, Message, KafkaError]


class KafkaOutput:
    """Alerts and dead letters, by an idempotent producer with acks=all."""

    def __init__(
        self, alerts_topic: str, dead_letters_topic: str, properties: Mapping[str, str], on_error: Callable[[KafkaError], None], say: Say
    ) -> None:
        self._alerts_topic = alerts_topic
        self._dead_letters_topic = dead_letters_topic
        self._say = say
        self._open = partial(open_producer, producer_properties(properties), on_error, say)
        self._producer = self._open()

    def serve(self) -> None:
        """Let log lines and errors that came meanwhile be heard. Never blocks."""
        self._producer.poll(0)

    def write(self, alerts: Sequence[Message], dead_letters: Sequence[Message]) -> None:
        """Write and wait until all is acknowledged; `delivery.timeout.ms` bounds the wait.

        A dead letter that the brokers find too large is written with its reason only, which says where the original is: one huge
        message must not stop the worker.

        raises LogUnavailable  the brokers did not take all; some may be written
        raises ConfigError     the brokers refuse it: no permission, no such topic, an alert too large
        """
        messages = [(self._alerts_topic, message) for message in alerts] + [(self._dead_letters_topic, message) for message in dead_letters]
        if not messages:
            return
        failed = [refused for failure in self._send(messages) for refused in self._send_alone(failure)]
        if not failed:
            return
        topic, _, error = failed[0]
        what = f"writing {len(failed)} of {len(messages)} messages, the first to {topic}"
        if is_fatal(error):  # this producer will never write again; another may
            self._producer = self._open()
            raise LogUnavailable(f"{what}: {error.str()}", fix="nothing: another producer takes over")
        raise remedy(error, what)

    def _send_alone(self, failure: Failure) -> list[Failure]:
        """Try what was too large again: alone (it may only have shared a batch with others); a dead letter then with its reason only."""
        topic, message, error = failure
        if error.code() != KafkaError.MSG_SIZE_TOO_LARGE:
            return [failure]
        failed = self._send([(topic, message)])
        if failed and topic == self._dead_letters_topic and failed[0][2].code() == KafkaError.MSG_SIZE_TOO_LARGE:
            short = reason_only(message)
            left_out = (dict(short.headers)[OMITTED] or b"").decode()
            self._say("warning", f"a dead letter is too large for {topic}: written without {left_out}")
            failed = self._send([(topic, short)])
        return failed

    def _send(self, messages: Sequence[tuple[str, Message]]) -> list[Failure]:
        """Write all, wait for all; those that failed."""
        failed: list[Failure] = []

        def delivered(topic: str, message: Message, error: KafkaError | None, _: KafkaMessage) -> None:
            if error is not None:
                failed.append((topic, message, error))

        for topic, message in messages:
            on_delivery = partial(delivered, topic, message)
            while True:
                try:
                    self._producer.produce(topic, message.value, message.key, headers=list(message.headers), on_delivery=on_delivery)
                    break
                except BufferError:  # librdkafka's queue is full: let some be delivered, or time out
                    self._producer.poll(0.1)
                except KafkaException as exception:
                    failed.append((topic, message, kafka_error(exception)))
                    break
        self._producer.flush()
        return failed
