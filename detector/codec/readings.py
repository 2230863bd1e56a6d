"""JSON messages -> readings as columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detector.codec.messages import Messages
from detector.core.readings import ReadingBatch, StreamNames


@dataclass(frozen=True, slots=True)
class ReadingFormat:
    """How readings are written. The fields mean what `config.Input` says.

    channels   dotted paths of the model's D channels, in the model's order
    stream     dotted paths that name the stream, joined by '/'; empty: the message's key
    event_time dotted path; None: the log's own time
    """

    channels: tuple[str, ...]
    stream: tuple[str, ...] = ()
    event_time: str | None = None
    event_time_unit: Literal["auto", "s", "ms", "us", "ns", "iso8601"] = "auto"
    future_max_us: int = 86_400_000_000
    past_max_us: int = 3_650 * 86_400_000_000
    values: str | None = None
    items: str | None = None
    narrow_channel: str | None = None
    narrow_value: str | None = None
    message_bytes_max: int = 1_048_576


@dataclass(frozen=True, slots=True)
class Reject:
    """A reading that cannot be read, or several of one message.

    position   of the message in `Messages`
    error      name of the kind of error, such as MalformedJson, WrongType, OutOfRange, MissingStream
    reason     one sentence that names the field
    readings   how many readings of the message are lost with it (1 where the whole message cannot be read)
    """

    position: int
    error: str
    reason: str
    readings: int = 1


@dataclass(frozen=True, slots=True)
class Decoded:
    """Readings in log order, and what could not be read.

    message   i8[N] position of each reading's message in `Messages`
    """

    batch: ReadingBatch
    message: NDArray[np.int64]
    rejects: tuple[Reject, ...]


class JsonReadings:
    """Decodes JSON messages, a whole batch at once."""

    def __init__(self, format: ReadingFormat, names: StreamNames) -> None:
        raise NotImplementedError

    def decode(self, messages: Messages) -> Decoded:
        raise NotImplementedError
