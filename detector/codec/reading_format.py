"""What a message of readings looks like, what is read from it, and what becomes of what cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from detector.core.acceptance import Acceptance
from detector.core.readings import ReadingBatch

EventTimeUnit: TypeAlias = Literal["auto", "s", "ms", "us", "ns", "iso8601"]

# Every kind of reject there is: the `error` of `Reject`, and the exception class that a dead letter names.
ErrorName: TypeAlias = Literal[
    "NullValue",  # a tombstone: the message has no value
    "EmptyValue",  # a value of no bytes
    "TooLarge",  # more bytes than `message_bytes_max`, or a stream's name of more than STREAM_BYTES_MAX
    "NotUtf8",  # value or key is not UTF-8
    "MalformedJson",  # not JSON as RFC 8259 has it; NaN and Infinity are not
    "TooDeep",  # nested deeper than the interpreter's recursion limit
    "WrongType",  # a field holds another kind of value than expected
    "WrongLength",  # an array of channels has another length than the model has channels
    "OutOfRange",  # a number beyond float32, or an event time beyond its bounds
    "MissingStream",  # nothing names the stream
    "MissingEventTime",  # nothing says when it was measured
    "MissingChannel",  # a narrow reading that does not name its channel
    "NotFramed",  # no frame of Confluent's wire format, where one is expected (`codec.framed`)
    "UnknownSchema",  # the frame names a schema that the registry does not know
    "WrongSchema",  # it names a schema of another type: Avro where Protobuf is expected
    "BadSchema",  # it names a schema that cannot be used
    "MalformedRecord",  # what the frame holds is no record of its schema
]

STREAM_BYTES_MAX = 1_024  # a stream's name goes into every alert, header and state row, so it has a limit too


@dataclass(frozen=True, slots=True)
class ReadingFormat:
    """How readings are written. The fields mean what `config.Input` says.

    channels   dotted paths of the model's D channels, in the model's order; for narrow readings their names
    stream     dotted paths that name the stream, joined by '/'; empty: the message's key
    event_time dotted path; None: the log's own time

    A dotted path `a.b` finds the key `a.b` itself first, then `b` inside the object `a`. Null is the same as missing,
    a repeated key counts where it stands last, fields that are not named here are ignored.
    """

    channels: tuple[str, ...]
    stream: tuple[str, ...] = ()
    event_time: str | None = None
    event_time_unit: EventTimeUnit = "auto"
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
    error      the kind of error; codec's own are listed in `ErrorName`
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
    rejects   in log order; a message has at most one per kind of error
    ignored   narrow readings of channels that are not the model's: well formed, of no concern here
    acceptances   by hand, in log order: messages, but no readings
    """

    batch: ReadingBatch
    message: NDArray[np.int64]
    rejects: tuple[Reject, ...]
    ignored: int = 0
    acceptances: tuple[Acceptance, ...] = ()


class Unreadable(Exception):
    """Why something cannot be read; never leaves codec. `field` is set by whoever knows it."""

    def __init__(self, error: ErrorName, problem: str, field: str = "") -> None:
        super().__init__(problem)
        self.error: ErrorName = error
        self.problem = problem
        self.field = field

    @property
    def reason(self) -> str:
        return f"{self.field}: {self.problem}" if self.field else self.problem
