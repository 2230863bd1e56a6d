"""What one undisturbed run tells, and what of it was lost, repeated or changed on its way to the topics."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias, cast

import numpy as np
from confluent_kafka import Message as KafkaMessage

from detector.adapters.kafka.client import to_messages
from detector.cli import wiring
from detector.codec.alerts import AlertEncoder
from detector.codec.dead_letters import REASON, dead_letters
from detector.codec.messages import Headers, Message
from detector.codec.readings import JsonReadings
from detector.config import Config
from detector.core.detector import Detector
from detector.core.model import Model
from detector.core.readings import Disposition, Partition
from detector.service.batch_statistics import rejects_over_stream_limit
from tests.chaos.source import PARTITIONS, TOPIC
from tests.core.builders import records_of

NOTHING: Mapping[int, range] = MappingProxyType({})
Written: TypeAlias = tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]
"""A message as it can be compared: key, value, headers."""
Naming: TypeAlias = Callable[[Written], tuple[str, int]]
"""What a message is called, once in a run, and the number of the input's partition that it follows from.

raises KeyError, ValueError, TypeError  it is not such a message
"""


class Undisturbed:
    """Judges what lies on the input topic as the service's worker does, with nothing in between."""

    def __init__(self, model: Model, config: Config) -> None:
        self.detector = Detector(model, wiring.settings(config))
        self.ends = [0] * PARTITIONS
        self.history: dict[tuple[int, bytes], list[tuple[int, int]]] = {}
        """Per partition and stream: offset and event time of each reading that became part of its state."""
        self._decoder = JsonReadings(wiring.reading_format(config.input, model.channels), self.detector.names)
        self._encoder = AlertEncoder(model.name, model.fingerprint, f"/detector/{config.group}")

    def judge(self, batch: list[KafkaMessage], passed: Mapping[int, range] = NOTHING) -> tuple[list[Message], list[Message]]:
        """Alerts and dead letters, in the order of the log of each partition.

        passed  per number of the partition offsets of messages that nobody could have judged
        """
        for message in batch:
            partition = message.partition() or 0
            assert message.offset() == self.ends[partition], "the input has holes"
            self.ends[partition] += 1
        batch = [message for message in batch if message.offset() not in passed.get(message.partition() or 0, ())]
        messages = to_messages(batch, (TOPIC,), with_log_time=True)
        decoded = self._decoder.decode(messages)
        names = [self.detector.names.name(stream) for stream in decoded.batch.stream_id.tolist()]
        result = self.detector.detect(decoded.batch)
        for at in np.flatnonzero(np.isin(result.disposition, (Disposition.SCORED, Disposition.WARMUP))).tolist():
            number = messages.partitions[decoded.batch.partition[at]].number
            event = int(decoded.batch.offset[at]), int(decoded.batch.event_time_us[at])
            self.history.setdefault((number, names[at].encode()), []).append(event)
        rejects = sorted((*decoded.rejects, *rejects_over_stream_limit(decoded, result)), key=lambda reject: reject.position)
        return [self._encoder.message(alert) for alert in result.alerts], dead_letters(messages, rejects)

    def begin_anew(self, offsets: Mapping[int, int]) -> None:
        """These partitions, by number, go on at these offsets, and nothing is remembered of them."""
        self.detector.forget([Partition(TOPIC, number) for number in offsets])
        for number, offset in offsets.items():
            self.ends[number] = offset
        self.history = {place: events for place, events in self.history.items() if place[0] not in offsets}

    def records(self) -> dict[tuple[int, bytes], bytes]:
        """The record of every stream, bit for bit, by partition and stream."""
        return {(partition.number, stream.encode()): record for (partition, stream), record in records_of(self.detector).items()}


@dataclass(slots=True)
class Difference:
    """What the comparison found, in messages; `examples` names the first of them.

    silent   neither judged nor dead-lettered nor counted as missed, as the workers count
    """

    lost: int = 0
    repeated: int = 0
    differing: int = 0
    silent: int = 0
    examples: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.repeated or self.differing or self.silent)

    def say(self, example: str) -> None:
        if len(self.examples) < 12:
            self.examples.append(example)


class Ledger:
    """Every message that must be on a topic, and every one that was found there.

    Compared are key, value and headers, byte for byte, and the order: messages that follow from one partition of the input and lie
    in one partition of the output must lie there as the undisturbed run wrote them.

    what   alert or dead letter
    """

    def __init__(self, what: str, name_of: Naming) -> None:
        self._what = what
        self._name_of = name_of
        self._ranks = itertools.count()
        self._expected: dict[str, tuple[int, Written]] = {}
        self._missing: dict[str, None] = {}
        self._found: dict[str, int] = {}  # and the number of the input's partition
        self._last: dict[tuple[int, int], int] = {}

    def expect(self, messages: Sequence[Message]) -> None:
        """These must come, in this order as far as they follow from one partition."""
        for message in messages:
            written = as_written(message.key, message.value, message.headers)
            name, _ = self._name_of(written)
            assert name not in self._expected, f"the oracle tells {name} twice"
            self._expected[name] = next(self._ranks), written
            self._missing[name] = None

    def find(self, message: KafkaMessage, into: Difference) -> None:
        """A message that lies on the topic."""
        headers = cast(Headers, message.headers() or ())  # a list of pairs; the stubs allow for what producers take, too
        written, output = as_written(message.key(), message.value(), headers), message.partition() or 0
        try:
            name, source = self._name_of(written)
        except (KeyError, ValueError, TypeError):
            name, source = f"unreadable {written!r:.200}", -1
        if name in self._found:
            into.repeated += 1
            into.say(f"{self._what} repeated: {name}")
            return
        self._found[name] = source
        self._missing.pop(name, None)
        rank, expected = self._expected.get(name, (-1, None))
        if written != expected:
            into.differing += 1
            into.say(f"{self._what} differing: {name}: {_difference(expected, written)}")
        elif rank < self._last.get((source, output), -1):
            into.differing += 1
            into.say(f"{self._what} out of order: {name}")
        else:
            self._last[source, output] = rank

    @property
    def is_complete(self) -> bool:
        """Whether all that must come was found."""
        return not self._missing

    def begin_anew(self, partitions: Container[int]) -> None:
        """What follows from these partitions of the input may be called like what was settled: their offsets begin again."""
        for name in [name for name, source in self._found.items() if source in partitions]:
            del self._found[name]
            self._expected.pop(name, None)

    def settle(self, into: Difference) -> None:
        """What is missing now will not come any more."""
        into.lost += len(self._missing)
        for name in self._missing:
            into.say(f"{self._what} lost: {name}")
        self._missing.clear()


def as_written(key: bytes | None, value: bytes | None, headers: Headers) -> Written:
    """A message as it can be compared."""
    return key, value, tuple(headers)


def alert_name(written: Written) -> tuple[str, int]:
    """The event's id, and the partition of the input that the alert names."""
    return _text(written, "ce_id"), json.loads(written[1] or b"")["input"]["partition"]


def dead_letter_name(written: Written) -> tuple[str, int]:
    """Partition and offset of the message that could not be read."""
    partition, offset = _text(written, REASON[1]), _text(written, REASON[2])
    return f"{partition}/{offset}", int(partition)


def _difference(expected: Written | None, found: Written) -> str:
    """The first part that differs, from shortly before it on."""
    if expected is None:
        return f"not expected: {found!r:.200}"
    one, other = repr(expected), repr(found)
    at = max(0, next((k for k, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0) - 40)
    return f"expected ...{one[at : at + 120]}..., found ...{other[at : at + 120]}..."


def _text(written: Written, header: str) -> str:
    return (dict(written[2])[header] or b"").decode()
