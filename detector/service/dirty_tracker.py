"""Which rows of one partition's state are not saved yet, and what the next slice of saved state holds.

Each batch that changes saved rows opens a generation. It keeps the input offset and the partition's time before the batch, and the rows that
the batch was the first to change. A row stays in its generation, however often it changes again, until it is saved. Generations are saved
in order. So the first generation has the offset from which a restart must judge again, and the rows that changed longest ago are saved first.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detector.codec.state_serde import CHECKPOINT, Checkpoint, RowCodec, encode_checkpoint, key_of
from detector.core.batch_result import EvictedStream
from detector.core.detector import Detector
from detector.core.event_time import Time
from detector.core.stream_state import NEVER


@dataclass(slots=True)
class DirtyGeneration:
    """The rows that one batch was the first to change since they were saved.

    offset, time   input offset and the partition's time before the batch
    since_s        when the batch was judged, on the worker's clock
    rows           i8[R] of the state; they count while `StateStore.changed_in` names this generation
    evicted        streams that were in this generation when their rows were freed
    """

    offset: int
    time: Time
    since_s: float
    rows: NDArray[np.int64]
    evicted: list[bytes] = field(default_factory=list)


class DirtyTracker:
    """Tracks the unsaved changes of one partition.

    next_offset        of the message that comes next
    live_from          messages before this offset are replayed: they only bring the state up to date, their alerts were published before
    unsaved            number of rows, evictions and tombstones that are to be written
    missed             messages that were missed when the partition was restored, by reason, until a commit includes them
    log_change         what had become of its log when the partition was restored, until a commit includes it; empty: nothing
    last_checkpoint    offset of the checkpoint written last, and when; None: none was written
    """

    def __init__(
        self, slot: int, incarnation: bytes, fingerprint: str, log_id: str, next_offset: int, live_from: int, generation_ids: Iterator[int]
    ) -> None:
        self.slot = slot
        self.next_offset = next_offset
        self.live_from = live_from
        self.unsaved = 0
        self.tombstones: deque[tuple[int, bytes]] = deque()  # keys to delete once the checkpoint has passed the offset
        self.layout_is_saved = False
        self.missed: Counter[str] = Counter()
        self.log_change = ""
        self.last_checkpoint: tuple[int, float] | None = None
        self._incarnation = incarnation
        self._fingerprint = fingerprint
        self._log_id = log_id
        self._generation_ids = generation_ids  # shared by all trackers, since a row may move from one partition to another
        self._generations: dict[int, DirtyGeneration] = {}

    @property
    def is_live(self) -> bool:
        """Whether the next message is live, and not replayed."""
        return self.next_offset >= self.live_from

    @property
    def unsaved_since_s(self) -> float | None:
        """When the oldest unsaved change was made; None: all is saved."""
        return next(iter(self._generations.values())).since_s if self._generations else None

    @property
    def has_uncommitted_loss(self) -> bool:
        """Whether messages were missed, or the log had changed, and no commit includes that yet."""
        return bool(self.log_change) or self.missed.total() > 0

    def schedule_tombstones(self, streams: Sequence[bytes], offset: int) -> None:
        """Delete the saved rows of these streams once no message before `offset` will be judged again."""
        self.tombstones.extend((offset, stream) for stream in streams)
        self.unsaved += len(streams)

    def mark_dirty(
        self, detector: Detector, fresh: NDArray[np.int64], evicted: Sequence[EvictedStream], before: Time, now_s: float
    ) -> None:
        """Record what the batch that began at `next_offset` changed in this partition.

        fresh    i8[R] rows of this partition that the batch was the first to change since they were saved
        evicted  streams whose rows the batch freed
        before   the partition's time before the batch
        """
        unassigned = [each for each in evicted if each.changed_in not in self._generations]
        if len(fresh) or unassigned:
            generation_id = next(self._generation_ids)
            detector.store.changed_in[fresh] = generation_id
            self._generations[generation_id] = DirtyGeneration(self.next_offset, before, now_s, fresh, [each.name for each in unassigned])
        for each in evicted:
            if each.changed_in in self._generations:
                self._generations[each.changed_in].evicted.append(each.name)
        self.unsaved += len(fresh) + len(evicted)

    def encode_slice(self, detector: Detector, codec: RowCodec, rows_max: int) -> dict[bytes, bytes | None]:
        """About `rows_max` rows at most as they are now, those that changed longest ago first.

        The rows' layout comes before them, unless it is saved already: whoever reads a row can read it.
        """
        store = detector.store
        encoded: dict[bytes, bytes | None] = {} if self.layout_is_saved else {codec.layout_key: codec.layout}
        self.layout_is_saved = True
        chosen: list[NDArray[np.int64]] = []
        left = rows_max
        while self._generations and left > 0:
            generation_id, generation = next(iter(self._generations.items()))
            part, generation.rows = generation.rows[:left], generation.rows[left:]
            self.unsaved -= len(part)
            left -= len(part)
            chosen.append(part[store.changed_in[part] == generation_id])
            while generation.evicted and left > 0:
                chosen.append(self._encode_eviction(detector, codec, generation.evicted.pop(), encoded))
                left -= 1
            if not len(generation.rows) and not generation.evicted:
                del self._generations[generation_id]
        rows = np.concatenate([np.empty(0, np.int64), *chosen])
        store.changed_in[rows] = 0
        keys = [key_of(store.stream(row).encode()) for row in rows.tolist()]
        encoded.update(zip(keys, codec.encode(store, rows, self._incarnation, self.next_offset), strict=True))
        self._encode_tombstones(detector, left, encoded)
        return encoded

    def _encode_eviction(self, detector: Detector, codec: RowCodec, stream: bytes, encoded: dict[bytes, bytes | None]) -> NDArray[np.int64]:
        """Add a record that the stream is gone. If the stream has come back meanwhile, return its row instead."""
        self.unsaved -= 1
        row = detector.store.row(self.slot, stream)
        if row is not None:
            return np.array([row], np.int64)
        encoded[key_of(stream)] = codec.empty(self._incarnation, self.next_offset)
        self.schedule_tombstones([stream], self.next_offset)
        return np.empty(0, np.int64)

    def _encode_tombstones(self, detector: Detector, rows_max: int, encoded: dict[bytes, bytes | None]) -> None:
        """Add the tombstones that are due, at most `rows_max`. A stream that came back keeps its row."""
        store, offset = detector.store, self.checkpoint(detector).offset
        while self.tombstones and self.tombstones[0][0] <= offset and rows_max > 0:
            _, stream = self.tombstones.popleft()
            self.unsaved -= 1
            rows_max -= 1
            row = store.row(self.slot, stream)
            if row is not None and store.heads["event_time_us"][row] == store.heads["partial_time_us"][row] == NEVER:
                store.free(np.array([row], np.int64))  # it was loaded only to record that it was gone, and had no reading since
                row = None
            if row is None:
                encoded[key_of(stream)] = None

    def checkpoint(self, detector: Detector) -> Checkpoint:
        """The checkpoint that holds while the generations that are left are not saved."""
        first = next(iter(self._generations.values()), None)
        offset, time = (self.next_offset, detector.clocks[self.slot]) if first is None else (first.offset, first.time)
        return Checkpoint(self._incarnation, self._fingerprint, offset, time, self.next_offset, self._log_id)

    def is_checkpoint_stale(self, detector: Detector) -> bool:
        """Whether the checkpoint written last names another offset than the one that holds now."""
        return self.last_checkpoint is None or self.last_checkpoint[0] != self.checkpoint(detector).offset

    def is_checkpoint_due(self, detector: Detector, now_s: float, interval_s: float) -> bool:
        """Whether a checkpoint is due though no row is: messages may change nothing for long, and a loss must be committed to be counted."""
        if self.last_checkpoint is None or self.has_uncommitted_loss:
            return True
        return now_s - self.last_checkpoint[1] >= interval_s and self.is_checkpoint_stale(detector)

    def append_checkpoint(self, detector: Detector, encoded: dict[bytes, bytes | None], now_s: float) -> None:
        """Add the checkpoint behind the rows of a slice."""
        checkpoint = self.checkpoint(detector)
        encoded[CHECKPOINT] = encode_checkpoint(checkpoint)
        self.last_checkpoint = (checkpoint.offset, now_s)
