"""The fast path of decoding: a whole batch into structs, and from those into columns.

It learns how the messages of the topic spell dotted paths, and whether text stands where numbers may stand, from a few of the messages that it
would leave to the slow path. What it has learnt changes how fast messages are read, never what is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.codec.extracted_columns import RowReader, is_sound, leaves_of, number_paths
from detector.codec.field_extractor import FieldExtractor, OverlappingPaths
from detector.codec.json_values import Route, bare_as_text, has_bare, object_of
from detector.codec.messages import Messages
from detector.codec.reading_columns import Columns
from detector.codec.reading_format import ReadingFormat, Unreadable
from detector.codec.slow_path import SlowPathReader
from detector.codec.spelling import likely_route, nested_route, spelling_of

EXTRACTORS_MAX = 4
BUILT_MAX = 64  # in the life of a decoder: each is a new class
LESSON_AFTER = 8  # messages that no extractor reads; doubled by each lesson that teaches nothing
LESSON_AFTER_MAX = 65_536
LESSONS_PER_BATCH_MAX = 4
SAMPLES = 4
REFUSED_COST = 10  # about what a message costs that an extractor refuses, in messages that it reads


@dataclass(slots=True)
class FastRead:
    """What the fast path made of a batch.

    columns     readings, one part per extractor
    left        positions of the messages that are left to the slow path, in no order
    ignored     number of long-format values of channels that the model does not have
    texts       how often each text of a channel was taken as missing
    is_quoted   whether, in messages that are still to be read, bare NaN were put in quotes
    """

    columns: list[Columns] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    ignored: int = 0
    texts: Counter[tuple[int, str]] = field(default_factory=Counter)
    is_quoted: bool = False


@dataclass(slots=True)
class Known:
    """An extractor, what it reads, and how useful it was in the latest batch."""

    extractor: FieldExtractor
    routes: tuple[Route, ...]
    has_texts: bool
    use: int = 0


class FastPath:
    """Reads messages of one format.

    raises OverlappingPaths  the format is not covered: an array of readings in a message, or two fields at one path
    """

    def __init__(self, format: ReadingFormat) -> None:
        plain, lenient = leaves_of(format, has_texts=False), leaves_of(format, has_texts=True)
        if plain is None or lenient is None:
            raise OverlappingPaths
        self._leaves = {False: plain, True: lenient}
        self._bytes_max = format.message_bytes_max
        self._numbers = frozenset(number_paths(format))
        self._rows = RowReader(format)
        self._slow_path = SlowPathReader(format)
        self._routes: dict[str, Route] = {}
        self._known: list[Known] = []
        self._build_left = BUILT_MAX
        self._unread, self._lesson_after = 0, 1

    def read(self, messages: Messages) -> FastRead:
        """The readings of `messages`, but for those that are left to the slow path."""
        read = FastRead()
        message = np.arange(len(messages), dtype=np.int64)
        values = messages.value
        sound = is_sound(values, self._bytes_max)
        if not sound.all():
            read.left += message[~sound].tolist()
            message, values = message[sound], list(compress(values, sound))
        for known in self._known:
            known.use = 0
        for known in self._known:
            if values:
                message, values = self._extract(known, messages, message, values, read)
        if any(map(has_bare, values)):  # type: ignore[arg-type]  # what is None is not sound
            read.is_quoted = True
            values = [bare_as_text(value) if value and has_bare(value) else value for value in values]
            for known in self._known:
                if known.has_texts:
                    message, values = self._extract(known, messages, message, values, read)
        if values:
            message = self._learn(messages, message, values, read)
        read.left += message.tolist()
        if len(self._known) > 1:
            self._known.sort(key=lambda known: (known.use, not known.has_texts), reverse=True)
        return read

    def _extract(
        self, known: Known, messages: Messages, message: NDArray[np.int64], values: Sequence[bytes | None], read: FastRead
    ) -> tuple[NDArray[np.int64], Sequence[bytes | None]]:
        """Read with one extractor; what it refuses is returned."""
        rows, refused = _decoded(known.extractor, values)
        if refused:
            taken = np.delete(message, refused)
            message, values = message[refused], [values[place] for place in refused]
        else:
            taken, message, values = message, message[:0], ()
        if rows:
            found = self._rows.read(messages, taken, rows, known.extractor, has_texts=known.has_texts, is_quoted=read.is_quoted)
            read.columns.append(found.columns)
            read.ignored += found.ignored
            read.texts += found.texts
            if found.left.any():
                read.left += taken[found.left].tolist()
            known.use += found.with_text * REFUSED_COST if known.has_texts else len(rows)
        return message, values

    def _learn(self, messages: Messages, message: NDArray[np.int64], values: Sequence[bytes | None], read: FastRead) -> NDArray[np.int64]:
        """Build extractors for what no extractor reads, if that is much, and read with them; what is still left is returned."""
        self._unread += len(values)
        for _ in range(LESSONS_PER_BATCH_MAX):
            if self._unread < self._lesson_after or not self._build_left or not len(values):
                break
            known = self._lesson(messages, message, values)
            self._unread = 0
            if known is None:
                self._lesson_after = min(max(self._lesson_after, LESSON_AFTER) * 2, LESSON_AFTER_MAX)
                break
            self._lesson_after = LESSON_AFTER
            self._known = [*self._known[: EXTRACTORS_MAX - 1], known]
            message, values = self._extract(known, messages, message, values, read)
            self._unread = len(values)
        return message

    def _lesson(self, messages: Messages, message: NDArray[np.int64], values: Sequence[bytes | None]) -> Known | None:
        """An extractor that is not known yet, for one of a few of the messages; None if they need none."""
        for place in range(0, len(values), max(1, len(values) // SAMPLES)):
            at = int(message[place])
            one = self._slow_path.read(values[place], messages.key[at], int(messages.log_time_us[at]))
            if one.readings or one.ignored:
                known = self._built(values[place] or b"")
                if known is not None:
                    return known
        return None if self._known else self._built(b"{}")

    def _built(self, value: bytes) -> Known | None:
        """An extractor for messages such as `value`; None if it is known, or if paths overlap."""
        try:
            spelling = spelling_of(object_of(value, "value"), self._leaves[False], self._numbers)
        except Unreadable:
            return None
        self._routes |= spelling.routes
        routes = {path: self._route(path, spelling.routes) for path in self._leaves[False]}
        key = (tuple(routes.values()), spelling.has_texts)
        if any((known.routes, known.has_texts) == key for known in self._known):
            return None
        self._build_left -= 1
        try:
            return Known(FieldExtractor(self._leaves[spelling.has_texts], routes), *key)
        except OverlappingPaths:
            return None

    def _route(self, path: str, shown: Mapping[str, Route]) -> Route:
        """The route to `path` in a message that shows the routes `shown`."""
        return shown.get(path) or likely_route(path, shown) or self._routes.get(path) or nested_route(path)


def _decoded(extractor: FieldExtractor, values: Sequence[bytes | None]) -> tuple[list[Any], list[int]]:
    """The rows of the messages that decode, and the positions of the others."""
    rows: list[Any] = []
    refused: list[int] = []
    decoded = extractor.rows(values)  # type: ignore[arg-type]  # what is None is not sound
    while True:
        try:
            rows.extend(
                decoded
            )  # keeps the rows before an exception; the next round goes on behind it, so that only that message is refused
            return rows, refused
        except (msgspec.MsgspecError, RecursionError, ValueError):
            refused.append(len(rows) + len(refused))
