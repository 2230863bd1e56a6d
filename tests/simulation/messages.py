"""Logs as messages, in each of the shapes that readings come in, some of them bad."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detector.codec.baseline_resets import baseline_reset
from detector.codec.messages import Headers
from detector.codec.readings import ReadingFormat
from tests.core.builders import Log
from tests.core.plant import narrow

CHANNELS = ("channel0", "channel1")
FORMATS = {
    "whole": ReadingFormat(CHANNELS, event_time="t"),
    "gateway": ReadingFormat(CHANNELS, stream=("s",), event_time="t", records_path="."),
    "narrow": ReadingFormat(CHANNELS, event_time="t", channel_path="c", value_path="v"),
}
SHAPES = tuple(FORMATS)
BAD = (None, b"", b"no json", b'{"t": "yesterday"}', b'[{"t": 1}, 7]', b'{"t": 1790000000000000, "channel0": ["warm"]}', b"\xff")


@dataclass(frozen=True)
class Sent:
    """A message to be appended to a partition."""

    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


def written(log: Log, shape: str, rng: random.Random) -> list[Sent]:
    """A log as messages; before one in fifty a bad one is put in, before another a person accepts what a stream does."""
    sent: list[Sent] = []
    for message in WRITERS[shape](log):
        if rng.random() < 0.02:
            sent.append(Sent(message.partition, b"p0/s1", rng.choice(BAD), [("from", b"gateway 7")]))
        if rng.random() < 0.02:
            accepted = baseline_reset(rng.choice(log.stream))
            sent.append(Sent(message.partition, accepted.key, accepted.value, accepted.headers))
        sent.append(message)
    return sent


def _whole(log: Log) -> Iterator[Sent]:
    for at, stream in enumerate(log.stream):
        values = dict(zip(CHANNELS, log.value[at].tolist(), strict=True))
        yield Sent(int(log.partition[at]), stream.encode(), json_of({"t": int(log.event_time_us[at]), **values}))


def _narrow(log: Log) -> Iterator[Sent]:
    log = narrow(log)
    assert log.channel is not None
    for at, stream in enumerate(log.stream):
        channel = int(log.channel[at])
        value = {"t": int(log.event_time_us[at]), "c": CHANNELS[channel], "v": float(log.value[at, channel])}
        yield Sent(int(log.partition[at]), stream.encode(), json_of(value))


def _gateway(log: Log) -> Iterator[Sent]:
    """Readings of one offset are one message."""
    items: list[bytes] = []
    for at, stream in enumerate(log.stream):
        values = dict(zip(CHANNELS, log.value[at].tolist(), strict=True))
        items.append(json_of({"s": stream, "t": int(log.event_time_us[at]), **values}))
        if at + 1 == len(log) or log.item[at + 1] == 0:
            yield Sent(int(log.partition[at]), None, b"[" + b",".join(items) + b"]")
            items = []


WRITERS = {"whole": _whole, "gateway": _gateway, "narrow": _narrow}


def json_of(numbers: Mapping[str, Any]) -> bytes:
    """A JSON object without what is NaN."""
    return json.dumps({name: entry for name, entry in numbers.items() if not (isinstance(entry, float) and np.isnan(entry))}).encode()
