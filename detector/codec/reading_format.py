"""How readings are written in messages, and the result of decoding them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from detector.core.baseline_reset import BaselineReset
from detector.core.readings import ReadingBatch

EventTimeUnit: TypeAlias = Literal["auto", "s", "ms", "us", "ns", "iso8601"]

# Every kind of reject: the `error` of `Reject`, and the exception class that a dead letter names.
ErrorName: TypeAlias = Literal[
    "NullValue",  # a tombstone: the message has no value
    "EmptyValue",  # a value of no bytes
    "TooLarge",  # more bytes than `message_bytes_max`, or a stream's name of more than STREAM_BYTES_MAX
    "NotUtf8",  # value or key is not UTF-8
    "MalformedJson",  # not JSON as RFC 8259 has it; but NaN, Infinity and -Infinity are read as null
    "TooDeep",  # nested deeper than the interpreter's recursion limit
    "WrongType",  # a field holds another kind of value than expected
    "WrongLength",  # an array of channels has another length than the model has channels
    "OutOfRange",  # a number beyond float32, or an event time beyond its bounds
    "MissingStream",  # nothing names the stream
    "MissingEventTime",  # it has no event time
    "MissingChannel",  # a long-format message that does not name its channel
    "NotFramed",  # without the frame of Confluent's wire format, where one is expected (`codec.confluent_wire_format`)
    "UnknownSchema",  # the frame names a schema that the registry does not know
    "WrongSchema",  # it names a schema of another type: Avro where Protobuf is expected
    "BadSchema",  # it names a schema that cannot be used
    "MalformedRecord",  # the bytes behind the frame are no record of the schema
]

TEXTS_MAX, TEXT_CHARACTERS_MAX = 20, 40  # of `Decoded.texts`
OTHER_TEXTS = "..."  # stands there for all further texts of a channel
STREAM_BYTES_MAX = 1_024  # a stream's name goes into every alert, header and state row, so it has a limit too


@dataclass(frozen=True, slots=True)
class ReadingFormat:
    """How readings are written; `config.Input` describes the same fields for the user.

    channels       dotted paths of the model's D channels, in the model's order; in long format their names
    stream         dotted paths that name the stream, joined by '/'; empty: the message's key
    event_time     dotted path; None: the log's own time
    array_path     dotted path of an array with the values of all channels; None: each channel has a path
    earliest_us, latest_us   bounds of event time where the log does not know its own: 1973 to 2286
    future_us_max, past_us_max   bounds around the log's own time
    records_path   dotted path of an array of readings, '.' the message itself; None: a message is one reading
    channel_path, value_path   long format: dotted paths of the channel's name and of its value; None: not in long format
    missing_values   numbers that stand for a missing value
    joins          whether a message may have some of the channels, and others of the same stream and time the rest
    is_senml       whether messages are SenML (RFC 8428), which says by itself where all that stands (`codec.senml`)

    A dotted path `a.b` finds the key `a.b` itself first, then `b` inside the object `a`, or inside the object that a text `a` holds as JSON.
    Null is the same as missing, a repeated key counts where it stands last, fields that are not named here are ignored.
    true is 1, false is 0, text that is a JSON number is that number, and any other text is a missing value of that channel (`Decoded.texts`).
    """

    channels: tuple[str, ...]
    stream: tuple[str, ...] = ()
    event_time: str | None = None
    event_time_unit: EventTimeUnit = "auto"
    future_us_max: int = 86_400_000_000
    past_us_max: int = 3_650 * 86_400_000_000
    earliest_us: int = 10**14
    latest_us: int = 10**16 - 1
    array_path: str | None = None
    records_path: str | None = None
    channel_path: str | None = None
    value_path: str | None = None
    missing_values: tuple[float, ...] = ()
    joins: bool = False
    is_senml: bool = False
    message_bytes_max: int = 1_048_576


@dataclass(frozen=True, slots=True)
class Reject:
    """One or several readings of a message that cannot be read.

    position   of the message in `Messages`
    error      the kind of error; the decoder's are listed in `ErrorName`
    reason     one sentence that names the field
    readings   number of readings of the message that are lost (1 if the whole message cannot be read)
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
    ignored   number of long-format values of channels that the model does not have
    baseline_resets   in log order; their messages are no readings
    texts     by number of the channel and text: how often that text, which is no number or one of `missing_values`, was taken as missing. The most frequent TEXTS_MAX,
              each cut to TEXT_CHARACTERS_MAX; all others of a channel are counted as OTHER_TEXTS
    """

    batch: ReadingBatch
    message: NDArray[np.int64]
    rejects: tuple[Reject, ...]
    ignored: int = 0
    baseline_resets: tuple[BaselineReset, ...] = ()
    texts: Mapping[tuple[int, str], int] = field(default_factory=dict)


def few_texts(texts: Counter[tuple[int, str]]) -> Mapping[tuple[int, str], int]:
    """The most frequent texts, and per channel how many others there were, as `Decoded.texts` has them; in whatever order they came."""
    cut: Counter[tuple[int, str]] = Counter()
    for (channel, text), count in texts.items():
        cut[(channel, text[:TEXT_CHARACTERS_MAX])] += count
    ranked = sorted(((each, count) for each, count in cut.items() if count), key=lambda each: (-each[1], each[0]))
    few = Counter(dict(ranked[:TEXTS_MAX]))
    for (channel, _), count in ranked[TEXTS_MAX:]:
        few[(channel, OTHER_TEXTS)] += count
    return dict(few)


def with_rejects(decoded: Decoded, kept: NDArray[np.int64], rejects: Sequence[Reject]) -> Decoded:
    """What was decoded of some messages of a batch, as of the whole batch, whose others are rejected.

    kept     i8[K] positions of the messages that were decoded
    rejects  of the others
    """
    moved = [replace(reject, position=int(kept[reject.position])) for reject in decoded.rejects]
    together = sorted([*rejects, *moved], key=lambda reject: reject.position)
    return replace(decoded, message=kept[decoded.message], rejects=tuple(together))


class Unreadable(Exception):
    """Why something cannot be read; never leaves codec. field: dotted path of the field, set by the caller that knows it."""

    def __init__(self, error: ErrorName, problem: str, field: str = "") -> None:
        super().__init__(problem)
        self.error: ErrorName = error
        self.problem = problem
        self.field = field

    @property
    def reason(self) -> str:
        return f"{self.field}: {self.problem}" if self.field else self.problem
