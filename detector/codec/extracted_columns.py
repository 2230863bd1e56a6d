"""Rows of a field extractor -> columns of readings, for messages that hold one reading each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from detector.codec.event_time import earliest_latest_us, event_times_us, number_of
from detector.codec.field_extractor import FieldExtractor, Leaf
from detector.codec.json_values import BARE
from detector.codec.messages import Messages
from detector.codec.reading_columns import Columns
from detector.codec.reading_format import STREAM_BYTES_MAX, ReadingFormat
from detector.codec.slow_path import NAN

NAME = Leaf(str | int | None, None)
TIME = Leaf(int | float | str | None, None)
NUMBER = float | bool | None

BARE_TEXTS = frozenset(BARE.values())

Texts: TypeAlias = list[tuple[int, int, str]]
"""Row, channel and text, where text that is no number stands for one."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What became of rows.

    columns    readings
    left       bool[N] rows that are left to the slow path
    ignored    number of rows of channels that the model does not have
    texts      how often each text of a channel was taken as missing
    with_text  number of rows that have text where a number may stand
    """

    columns: Columns
    left: NDArray[np.bool_]
    ignored: int
    texts: Counter[tuple[int, str]]
    with_text: int


def leaves_of(format: ReadingFormat, *, has_texts: bool) -> dict[str, Leaf] | None:
    """What is to be extracted; None if rows cannot hold it: two fields at one path, or several readings in a message.

    has_texts   whether text may stand for a number
    """
    if format.records_path is not None:
        return None
    number: Any = NUMBER | str if has_texts else NUMBER
    fields = [(path, NAME) for path in dict.fromkeys(format.stream)]
    if format.event_time is not None:
        fields.append((format.event_time, TIME))
    if format.channel_path is not None:
        fields += [(format.channel_path, NAME), (format.value_path or "value", Leaf(number, NAN))]
    elif format.array_path is not None:
        channels = len(format.channels)
        fields.append((format.array_path, Leaf(tuple[(number,) * channels], (NAN,) * channels)))  # type: ignore[misc]  # D is known here only
    else:
        fields += [(path, Leaf(number, NAN)) for path in format.channels]
    leaves = dict(fields)
    return leaves if len(leaves) == len(fields) else None


def number_paths(format: ReadingFormat) -> tuple[str, ...]:
    """Dotted paths of numbers, or of the array of numbers."""
    if format.channel_path is not None:
        return (format.value_path or "value",)
    return format.channels if format.array_path is None else (format.array_path,)


def is_sound(texts: Sequence[bytes | None], bytes_max: int) -> NDArray[np.bool_]:
    """bool[M] whether each is there, not empty, not too long, and UTF-8. Nearly always all are: then one check of all together is enough."""
    try:
        together = b"\n".join(texts)  # type: ignore[arg-type]  # join checks; a newline is no part of any longer character
        if all(texts) and max(map(len, texts), default=0) <= bytes_max and (together.isascii() or together.decode("utf-8")):  # type: ignore[arg-type]
            return np.ones(len(texts), np.bool_)
    except (TypeError, UnicodeDecodeError):
        pass
    return np.array([_is_sound(text, bytes_max) for text in texts], np.bool_)


class RowReader:
    """Reads the columns of `format` from rows."""

    def __init__(self, format: ReadingFormat) -> None:
        self._format = format
        self._channel = {name: number for number, name in enumerate(format.channels)}
        self._number_paths = number_paths(format)
        self._names = (*format.stream, *([] if format.channel_path is None else [format.channel_path]))

    def read(
        self,
        messages: Messages,
        message: NDArray[np.int64],
        rows: list[Any],
        extractor: FieldExtractor,
        *,
        has_texts: bool,
        is_quoted: bool,
    ) -> Extracted:
        """What becomes of `rows`, whose positions in `messages` are `message`.

        has_texts   whether the extractor lets text stand for a number
        is_quoted   whether a bare NaN stands in quotes (`json_values.bare_as_text`)
        """
        stream, ok = self._streams(messages, message, rows, extractor)
        log_time_us = messages.log_time_us[message]
        if self._format.event_time is None:
            time_us = log_time_us
            ok &= time_us >= 0
        else:
            time_us = event_times_us(extractor.column(rows, self._format.event_time), self._format.event_time_unit)
            earliest, latest = earliest_latest_us(log_time_us, self._format)
            ok &= (time_us >= earliest) & (time_us <= latest)
        channel, known, ignored = self._channels(rows, extractor)
        if is_quoted:
            for path in self._names:  # a bare NaN may stand there as text, which is no name
                is_name = np.fromiter((name not in BARE_TEXTS for name in extractor.column(rows, path)), np.bool_, len(rows))
                ok &= is_name
                ignored &= is_name
        numbers, texts, with_text = self._numbers(rows, extractor, channel, has_texts=has_texts)
        value = self._values(numbers, channel)
        ok &= known & ~np.isinf(value).any(axis=1) & ~ignored
        for outer, path in extractor.guards:
            both = zip(extractor.column(rows, outer), extractor.column(rows, path), strict=True)
            ok &= np.fromiter((_is_guarded(each, below) for each, below in both), np.bool_, len(rows))
        columns = Columns(message, np.zeros(len(rows), np.int32), stream, time_us, value, channel)
        counted = Counter((place, text) for row, place, text in texts if ok[row])
        return Extracted(columns if ok.all() else columns.kept(ok), ~(ok | ignored), int(np.count_nonzero(ignored)), counted, with_text)

    def _streams(
        self, messages: Messages, message: NDArray[np.int64], rows: list[Any], extractor: FieldExtractor
    ) -> tuple[list[bytes], NDArray[np.bool_]]:
        """The name of each row's stream, and whether it is one."""
        if not self._format.stream:
            keys = messages.key if len(rows) == len(messages) else [messages.key[place] for place in message.tolist()]
            sound = is_sound(keys, STREAM_BYTES_MAX)
            return keys, sound  # type: ignore[return-value]  # a key of None is not sound
        sound = np.ones(len(rows), np.bool_)
        parts = []
        for path in self._format.stream:
            names = [name if type(name) is str else "" if name is None else str(name) for name in extractor.column(rows, path)]
            if not all(names):
                sound &= np.fromiter(map(bool, names), np.bool_, len(names))
            parts.append(names)
        stream = [name.encode("utf-8") for name in (parts[0] if len(parts) == 1 else map("/".join, zip(*parts, strict=True)))]
        return stream, sound & is_sound(stream, STREAM_BYTES_MAX)

    def _channels(self, rows: list[Any], extractor: FieldExtractor) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.bool_]]:
        """In long format: the channel of each row, whether it names one, whether the model has no such channel. Otherwise -1, true, false."""
        channel = np.full(len(rows), -1, np.int32)
        if self._format.channel_path is None:
            return channel, np.ones(len(rows), np.bool_), np.zeros(len(rows), np.bool_)
        names = extractor.column(rows, self._format.channel_path)
        channel[:] = [self._channel.get(str(name), -1) for name in names]
        named = np.fromiter((name is not None for name in names), np.bool_, len(names))
        return channel, named, named & (channel < 0)

    def _numbers(
        self, rows: list[Any], extractor: FieldExtractor, channel: NDArray[np.int32], *, has_texts: bool
    ) -> tuple[Iterable[list[Any]], Texts, int]:
        """A column of numbers per path, or one of tuples of numbers; the texts that are no numbers; how many rows have text."""
        if not has_texts:  # one column at a time: what is read again soon is still in the processor's caches
            return (extractor.column(rows, path) for path in self._number_paths), [], 0
        columns = [extractor.column(rows, path) for path in self._number_paths]
        is_array = self._format.array_path is not None and self._format.channel_path is None
        if is_array:
            columns = [list(column) for column in zip(*columns[0], strict=True)]
        texts: Texts = []
        with_text: set[int] = set()
        for place, column in enumerate(columns):
            if str in set(map(type, column)):
                for row, entry in enumerate(column):
                    if type(entry) is str:
                        with_text.add(row)
                        number = _number(entry)
                        column[row] = NAN if number is None else number
                        if number is None:
                            texts.append((row, int(channel[row]) if self._format.channel_path is not None else place, entry))
        return [list(zip(*columns, strict=True))] if is_array else columns, texts, len(with_text)

    def _values(self, numbers: Iterable[list[Any]], channel: NDArray[np.int32]) -> NDArray[np.float32]:
        """f4[N, D]; infinite where a number is beyond float32."""
        value = np.full((len(channel), len(self._format.channels)), np.nan, np.float32)
        with np.errstate(over="ignore"):
            if self._format.channel_path is not None:
                value[np.arange(len(channel)), channel] = np.array(next(iter(numbers)), np.float64)
            elif self._format.array_path is not None:
                value[:] = np.array(next(iter(numbers)), np.float64).reshape(value.shape)
            else:
                for place, column in enumerate(numbers):
                    value[:, place] = np.array(column, np.float64)
        return value


def _is_guarded(outer: Any, below: Any) -> bool:
    """Whether a value cannot have been on the way to the other one, or does not matter there. Missing is None or NaN."""
    return outer is None or outer is NAN or (isinstance(outer, int | float) and below is not None and below is not NAN)


def _number(text: str) -> float | None:
    number = number_of(text)
    try:
        return None if number is None else float(number)
    except OverflowError:
        return float("inf")


def _is_sound(text: bytes | None, bytes_max: int) -> bool:
    if not text or len(text) > bytes_max:
        return False
    try:
        return text.isascii() or bool(text.decode("utf-8"))
    except UnicodeDecodeError:
        return False
