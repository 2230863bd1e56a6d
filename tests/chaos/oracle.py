"""What one undisturbed run tells, and what of it was lost, repeated or changed on its way to the topics."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from detector.cli import wiring
from detector.codec.alerts import AlertEncoder
from detector.codec.dead_letters import REASON, dead_letters
from detector.codec.messages import Headers, Message, Messages
from detector.codec.readings import JsonReadings
from detector.config import Config
from detector.core.detect import Detector
from detector.core.model import Model
from detector.core.readings import Partition
from detector.service.account import refused
from tests.chaos.source import PARTITIONS, TOPIC, Sent

Written: TypeAlias = tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]
"""A message as it can be compared: key, value, headers."""
Naming: TypeAlias = Callable[[Written], tuple[str, int]]
"""What a message is called, once in a run, and the number of the input's partition that it follows from.

raises KeyError, ValueError, TypeError  it is not such a message
"""


class Undisturbed:
    """Judges the messages as the service's worker does, with nothing in between; offsets follow from the order."""

    def __init__(self, model: Model, config: Config) -> None:
        self.detector = Detector(model, wiring.settings(config))
        self.ends = [0] * PARTITIONS
        self._decoder = JsonReadings(wiring.reading_format(config.input, model.channels), self.detector.names)
        self._encoder = AlertEncoder(model.name, model.fingerprint, f"/detector/{config.group}")
        self._partitions = tuple(Partition(TOPIC, number) for number in range(PARTITIONS))

    def judge(self, sent: Sequence[Sent]) -> tuple[list[Message], list[Message]]:
        """Alerts and dead letters, in the order of the log of each partition."""
        messages = self._messages(sent)
        decoded = self._decoder.decode(messages)
        verdicts = self.detector.detect(decoded.batch)
        rejects = sorted((*decoded.rejects, *refused(decoded, verdicts)), key=lambda reject: reject.position)
        return [self._encoder.message(alert) for alert in verdicts.alerts], dead_letters(messages, rejects)

    def _messages(self, sent: Sequence[Sent]) -> Messages:
        offset = np.empty(len(sent), np.int64)
        for at, message in enumerate(sent):
            offset[at] = self.ends[message.partition]
            self.ends[message.partition] += 1

        def headers(position: int) -> Headers:
            return sent[position].headers

        return Messages(
            [message.key for message in sent],
            [message.value for message in sent],
            np.array([message.partition for message in sent], np.int32),
            offset,
            np.array([message.time_ms * 1000 for message in sent], np.int64),
            self._partitions,
            headers,
        )


@dataclass(slots=True)
class Difference:
    """What the comparison found, in messages; `examples` names the first of them."""

    lost: int = 0
    repeated: int = 0
    differing: int = 0
    examples: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.repeated or self.differing)

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
        self._expected: dict[str, tuple[int, Written]] = {}
        self._missing: dict[str, None] = {}
        self._found: set[str] = set()
        self._last: dict[tuple[int, int], int] = {}

    @property
    def is_complete(self) -> bool:
        """Whether all that is expected was found."""
        return not self._missing

    def expect(self, messages: Sequence[Message]) -> None:
        """These must come, in this order as far as they follow from one partition."""
        for message in messages:
            written = as_written(message.key, message.value, message.headers)
            name, _ = self._name_of(written)
            assert name not in self._expected, f"the oracle tells {name} twice"
            self._expected[name] = len(self._expected), written
            self._missing[name] = None

    def find(self, written: Written, output: int, into: Difference) -> None:
        """A message that lies on partition `output` of the topic."""
        try:
            name, source = self._name_of(written)
        except (KeyError, ValueError, TypeError):
            name, source = f"unreadable {written!r:.200}", -1
        if name in self._found:
            into.repeated += 1
            into.say(f"{self._what} repeated: {name}")
            return
        self._found.add(name)
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
    at = max(0, len(os.path.commonprefix((one, other))) - 40)
    return f"expected ...{one[at : at + 120]}..., found ...{other[at : at + 120]}..."


def _text(written: Written, header: str) -> str:
    return (dict(written[2])[header] or b"").decode()
