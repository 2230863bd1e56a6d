"""What of one partition's memory is not saved yet, and what the next slice of its rolling snapshot holds.

Each batch that changes saved rows opens a chapter: the offset and the time before it, and the rows it was the first to change. A row
stays in its chapter, however often it changes again, until it is saved; chapters are saved in order. So the first chapter says from
where a restart must judge again, and the rows that changed longest ago are saved first.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detector.codec.snapshots import MARKER, Marker, RowCodec, encode_marker, key_of
from detector.core.detect import Detector
from detector.core.event_time import NEVER, Time
from detector.core.verdicts import Forgotten


@dataclass(slots=True)
class Chapter:
    """What one batch was the first to change since it was saved.

    offset, time   input offset and the partition's time before the batch
    since_s        when it was judged, on the worker's clock
    rows           i8[R] of the arena; they count while `StreamStates.changed_in` names this chapter
    forgotten      streams that were in this chapter when their rows were freed
    """

    offset: int
    time: Time
    since_s: float
    rows: NDArray[np.int64]
    forgotten: list[bytes] = field(default_factory=list)


class Ledger:
    """One partition's books.

    next_offset   of the message that comes next
    live_from     messages before this offset are only judged to bring the memory up to date: they were told of before
    unsaved       rows, freed rows and tombstones that are to be written
    missed        messages that were missed when the partition came back, by reason, until a commit has made that true
    log_change    likewise, what had become of its log
    """

    def __init__(
        self, slot: int, era: bytes, fingerprint: str, log_id: str, next_offset: int, live_from: int, numbers: Iterator[int]
    ) -> None:
        self.slot = slot
        self.next_offset = next_offset
        self.live_from = live_from
        self.unsaved = 0
        self.tombstones: deque[tuple[int, bytes]] = deque()  # keys to delete once the marker has passed the offset
        self.layout_is_saved = False
        self.missed: Counter[str] = Counter()
        self.log_change = ""
        self._era = era
        self._fingerprint = fingerprint
        self._log_id = log_id
        self._numbers = numbers  # of chapters; shared by all ledgers, since a row may move from one partition to another
        self._chapters: dict[int, Chapter] = {}
        self.marked: tuple[int, float] | None = None  # offset of the marker written last, and when

    @property
    def is_live(self) -> bool:
        """Whether what comes next is news."""
        return self.next_offset >= self.live_from

    @property
    def unsaved_since_s(self) -> float | None:
        """When the oldest change that is not saved was made; None: all is saved."""
        return next(iter(self._chapters.values())).since_s if self._chapters else None

    @property
    def has_news(self) -> bool:
        """Whether something was missed, or the log had changed, that no commit has made true yet."""
        return bool(self.log_change) or self.missed.total() > 0

    def bury(self, names: Sequence[bytes], offset: int) -> None:
        """Streams whose saved rows are to be deleted once nothing before `offset` will be judged again."""
        self.tombstones.extend((offset, name) for name in names)
        self.unsaved += len(names)

    def note(self, detector: Detector, fresh: NDArray[np.int64], forgotten: Sequence[Forgotten], before: Time, now_s: float) -> None:
        """Write down what the batch that began at `next_offset` changed in this partition.

        fresh    i8[R] rows of this partition that it was the first to change since they were saved
        before   the partition's time before the batch
        """
        homeless = [each for each in forgotten if each.changed_in not in self._chapters]
        if len(fresh) or homeless:
            number = next(self._numbers)
            detector.states.changed_in[fresh] = number
            self._chapters[number] = Chapter(self.next_offset, before, now_s, fresh, [each.name for each in homeless])
        for each in forgotten:
            if each.changed_in in self._chapters:
                self._chapters[each.changed_in].forgotten.append(each.name)
        self.unsaved += len(fresh) + len(forgotten)

    def save(self, detector: Detector, codec: RowCodec, rows_max: int) -> dict[bytes, bytes | None]:
        """At most about `rows_max` rows as they are now, those that changed longest ago first; before them the layout, if it is not there yet."""
        states = detector.states
        saved: dict[bytes, bytes | None] = (
            {} if self.layout_is_saved else {codec.layout_key: codec.layout}
        )  # before the rows: who reads can
        self.layout_is_saved = True
        rows: list[NDArray[np.int64]] = []
        room = rows_max
        while self._chapters and room > 0:
            number, chapter = next(iter(self._chapters.items()))
            part, chapter.rows = chapter.rows[:room], chapter.rows[room:]
            self.unsaved -= len(part)
            room -= len(part)
            rows.append(part[states.changed_in[part] == number])
            while chapter.forgotten and room > 0:
                rows.append(self._let_go(detector, codec, chapter.forgotten.pop(), saved))
                room -= 1
            if not len(chapter.rows) and not chapter.forgotten:
                del self._chapters[number]
        chosen = np.concatenate([np.empty(0, np.int64), *rows])
        states.changed_in[chosen] = 0
        names = [key_of(states.stream(row).encode()) for row in chosen.tolist()]
        saved.update(zip(names, codec.encode(states, chosen, self._era, self.next_offset), strict=True))
        self._delete(detector, room, saved)
        return saved

    def _let_go(self, detector: Detector, codec: RowCodec, name: bytes, saved: dict[bytes, bytes | None]) -> NDArray[np.int64]:
        """Write down that a stream is gone, or its row, if it has come back meanwhile."""
        self.unsaved -= 1
        row = detector.states.row(self.slot, name)
        if row is not None:
            return np.array([row], np.int64)
        saved[key_of(name)] = codec.empty(self._era, self.next_offset)
        self.bury([name], self.next_offset)
        return np.empty(0, np.int64)

    def _delete(self, detector: Detector, room: int, saved: dict[bytes, bytes | None]) -> None:
        """Delete the rows of streams that are gone for good; a stream that came back is left alone."""
        states, offset = detector.states, self.marker(detector).offset
        while self.tombstones and self.tombstones[0][0] <= offset and room > 0:
            _, name = self.tombstones.popleft()
            self.unsaved -= 1
            room -= 1
            row = states.row(self.slot, name)
            if row is not None and states["event_time_us"][row] == NEVER and states["part_time_us"][row] == NEVER:
                states.forget(np.array([row], np.int64))  # loaded only to say that it was gone, and not heard of since
                row = None
            if row is None:
                saved[key_of(name)] = None

    def marker(self, detector: Detector) -> Marker:
        """What is true if all chapters that are left are not saved."""
        first = next(iter(self._chapters.values()), None)
        offset, time = (self.next_offset, detector.clocks[self.slot]) if first is None else (first.offset, first.time)
        return Marker(self._era, self._fingerprint, offset, time, self.next_offset, self._log_id)

    def is_marker_old(self, detector: Detector) -> bool:
        """Whether the marker written last is not what is true now."""
        return self.marked is None or self.marked[0] != self.marker(detector).offset

    def owes_marker(self, detector: Detector, now_s: float, interval_s: float) -> bool:
        """Whether it is time for a new marker, though no row is due: messages may change nothing for long, and what was missed is to be counted."""
        return self.marked is None or self.has_news or (now_s - self.marked[1] >= interval_s and self.is_marker_old(detector))

    def sign(self, detector: Detector, saved: dict[bytes, bytes | None], now_s: float) -> None:
        """Add the marker."""
        marker = self.marker(detector)
        saved[MARKER] = encode_marker(marker)
        self.marked = (marker.offset, now_s)
