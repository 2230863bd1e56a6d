"""State that outlives the worker: how a partition is restored, and how its changes are saved.

Restore: load the rows and the checkpoint's time. Judge the messages from the checkpoint's offset to the committed offset again, without output, since
their alerts were published before; each row skips what it holds already. From the committed offset on, messages are live. Batches may be
cut in any way without changing a bit, so the replayed state is the lost one.

Save: every row that changed is saved within one to two intervals, a slice with each commit, so that no commit has to carry a million rows.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from detector.codec.messages import Messages
from detector.codec.state_loader import LoadedState, StateLoader
from detector.codec.state_serde import INCARNATION_BYTES, Checkpoint, RowCodec
from detector.core.batch_result import BatchResult
from detector.core.detector import Detector
from detector.core.event_time import Time
from detector.core.readings import Partition
from detector.ports import PartitionPosition
from detector.service.dirty_tracker import DirtyTracker
from detector.service.resume_point import ResumePoint, resume_point

logger = logging.getLogger(__name__)

MISSED_LINES = {
    "retention": "messages are missed: retention removed them from the log before they were judged; raise it, or add workers",
    "auto_offset_reset": "messages are missed: auto.offset.reset is latest, so they are skipped although the log holds them; set it to earliest",
}
"""The log line for missed messages, by reason."""
ROWS_MAX = 20_000
"""Rows per slice: some 20 MB at 64 hidden units, a fifth of a second."""
SLICE_BYTES_MAX = 128 * 2**20
"""Rows of the universal model are larger. A slice is held twice until its commit: encoded, and in librdkafka's queue."""


class StateManager:
    """Restores and saves the state of all partitions of a worker.

    interval_s         every change is saved within one to two of these; 0: nothing is saved, every start is cold
    draw_incarnation   draws a new incarnation's name, INCARNATION_BYTES bytes
    messages_missed    messages that were never judged, or are not in the state, by reason (`ports.MISSED`); committed ones only
    log_changes        partitions that started cold because their log changed, by reason (`ports.LOG_CHANGES`); committed ones only
    """

    def __init__(
        self, detector: Detector, interval_s: float, draw_incarnation: Callable[[], bytes] = lambda: os.urandom(INCARNATION_BYTES)
    ) -> None:
        self._detector = detector
        self._interval_s = interval_s
        self._draw_incarnation = draw_incarnation
        self._codec = RowCodec(detector.store.layout)
        self._rows_max = max(1, min(ROWS_MAX, SLICE_BYTES_MAX // self._codec.row_bytes))
        self._trackers: dict[Partition, DirtyTracker] = {}
        self._generation_ids = itertools.count(1)
        self._round_began_s = 0.0
        self._round_rows = 0
        self._accrued_rows = 0
        self._due_rows = 0
        self._log_ids: dict[Partition, str] = {}  # of all logs that were read, also of partitions that were given up since
        self.messages_missed: Counter[str] = Counter()
        self.log_changes: Counter[str] = Counter()

    # -- restore --------------------------------------------------------------------------------------------------------

    def restore(
        self,
        restored: Mapping[Partition, PartitionPosition],
        pieces: Iterable[tuple[Partition, Mapping[bytes, bytes | None]]],
        now_s: float,
    ) -> dict[Partition, int]:
        """Load the state of partitions. returns  the offsets from which they are to be read

        restored  where each partition stands
        pieces    their saved state, as `Log.state` yields it; not read if nothing is saved

        raises StateCorrupted  saved state does not read back
        raises LogUnavailable  the log names offsets that are older than what was committed together with the state, or stopped
                               answering; nothing is restored
        """
        store = self._detector.store
        slots = store.slots_for(tuple(restored)).tolist()
        loaders = {partition: StateLoader(store, slot) for partition, slot in zip(restored, slots, strict=True)}
        try:
            for partition, records in pieces if self._interval_s else ():
                loaders[partition].load(records)
            loaded = {partition: loader.finish() for partition, loader in loaders.items()}
            points = {partition: self._resume_point(partition, at, loaded[partition].checkpoint) for partition, at in restored.items()}
        except BaseException:
            self._detector.forget(tuple(restored))
            raise
        return {
            partition: self._restore_partition(partition, at, loaded[partition], points[partition], now_s)
            for partition, at in restored.items()
        }

    def _resume_point(self, partition: Partition, at: PartitionPosition, checkpoint: Checkpoint | None) -> ResumePoint:
        fingerprint, read_of = self._detector.model.fingerprint, self._log_ids.get(partition, "")
        return resume_point(partition, at, checkpoint, fingerprint, read_of=read_of, keeps_state=self._interval_s > 0)

    def _restore_partition(self, partition: Partition, at: PartitionPosition, loaded: LoadedState, point: ResumePoint, now_s: float) -> int:
        """Set up one partition; returns the offset from which it is to be read."""
        detector, checkpoint = self._detector, loaded.checkpoint
        (slot,) = detector.store.slots_for((partition,)).tolist()
        detector.clocks.grow(detector.store.slots)
        is_cold = checkpoint is None or bool(point.why_cold)
        needed = point.offset if checkpoint is None or is_cold else checkpoint.offset
        has_gap = point.offset < at.first  # retention removed messages that were never judged
        start = at.end if has_gap and at.resets_to_end else max(needed, at.first)
        live_from = start if is_cold or has_gap else point.offset
        incarnation = self._draw_incarnation() if checkpoint is None or is_cold else checkpoint.incarnation
        tracker = DirtyTracker(slot, incarnation, detector.model.fingerprint, at.log_id, start, live_from, self._generation_ids)
        if checkpoint is None or is_cold:
            unusable = [detector.store.stream(row).encode() for row in detector.store.rows_in(slot).tolist()]
            detector.forget((partition,))
            tracker.schedule_tombstones([*loaded.stale, *unusable], start)
        else:
            self._continue_from(tracker, loaded, checkpoint, now_s)
        tracker.layout_is_saved = self._codec.layout_id in loaded.layouts
        tracker.log_change = point.log_change
        tracker.missed["retention"] = max(0, min(at.first, start) - needed)
        tracker.missed["auto_offset_reset"] = start - at.first if has_gap else 0
        _log_losses(partition, point, tracker, start)
        self._trackers[partition] = tracker
        self._log_ids[partition] = at.log_id
        return start

    def _continue_from(self, tracker: DirtyTracker, loaded: LoadedState, checkpoint: Checkpoint, now_s: float) -> None:
        """Continue a partition from its checkpoint."""
        for offset, stream in sorted((offset, stream) for stream, offset in loaded.evicted.items()):
            tracker.schedule_tombstones([stream], offset)
        tracker.schedule_tombstones(loaded.stale, checkpoint.offset)
        tracker.last_checkpoint = (checkpoint.offset, now_s)
        self._detector.clocks[tracker.slot] = checkpoint.time

    def on_committed(self, partitions: Iterable[Partition]) -> None:
        """A commit of these partitions succeeded. What they missed is counted now: once, whichever workers restored them before."""
        for partition in partitions:
            tracker = self._trackers.get(partition)
            if tracker is not None:
                self.messages_missed += tracker.missed
                self.log_changes.update([tracker.log_change] if tracker.log_change else [])
                tracker.missed, tracker.log_change = Counter(), ""

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Drop the state of partitions that another worker has now, or that are about to be restored."""
        partitions = tuple(partitions)
        for partition in partitions:
            self._trackers.pop(partition, None)
        self._detector.forget(partitions)

    @property
    def has_uncommitted_loss(self) -> bool:
        """Whether missed messages, or a change of a log, are not counted yet."""
        return any(tracker.has_uncommitted_loss for tracker in self._trackers.values())

    @property
    def is_live(self) -> bool:
        """Whether all messages that come next are live."""
        return all(tracker.is_live for tracker in self._trackers.values())

    def split_replay(self, messages: Messages) -> tuple[Messages, Messages]:
        """Messages that are replayed to bring the state up to date, and live ones. In each partition the former come first."""
        live_from = np.array([self._trackers[partition].live_from for partition in messages.partitions], np.int64)
        is_live = messages.offset >= live_from[messages.partition]
        if is_live.all():
            return Messages(), messages
        return messages.take(~is_live), messages.take(is_live)

    # -- save -----------------------------------------------------------------------------------------------------------

    def partition_times(self, messages: Messages) -> dict[Partition, Time]:
        """The time of the messages' partitions; take it before they are judged."""
        return {partition: self._detector.clocks[self._trackers[partition].slot] for partition in messages.partitions}

    def mark_dirty(self, messages: Messages, result: BatchResult, before: Mapping[Partition, Time], now_s: float) -> None:
        """Record what a judged batch changed.

        before  as `partition_times` returned it before the batch was judged
        """
        store, changed = self._detector.store, result.changed
        fresh = np.unique(changed[(store.changed_in[changed] == 0) & (store.slots_of(changed) >= 0)])
        slots = store.slots_of(fresh)
        for partition, next_offset in messages.next_offsets().items():
            tracker = self._trackers[partition]
            if self._interval_s:
                evicted = [each for each in result.evicted if each.slot == tracker.slot]
                tracker.mark_dirty(self._detector, fresh[slots == tracker.slot], evicted, before[partition], now_s)
            tracker.next_offset = next_offset

    def next_offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """The offsets to be committed for these partitions, with what was judged."""
        return {partition: self._trackers[partition].next_offset for partition in partitions}

    @property
    def rows_unsaved(self) -> int:
        """Number of rows, evictions and tombstones that are to be written."""
        return sum(tracker.unsaved for tracker in self._trackers.values())

    def unsaved_s(self, now_s: float) -> float:
        """Age of the oldest unsaved change, seconds; 0: all is saved."""
        since_s = [tracker.unsaved_since_s for tracker in self._trackers.values()]
        return max((now_s - each for each in since_s if each is not None), default=0.0)

    def due_slices(self, now_s: float) -> dict[Partition, dict[bytes, bytes | None]]:
        """The rows of every partition that are due now, encoded, by key."""
        if not self._interval_s:
            return {}
        self._accrue(now_s)
        rows = min(self._due_rows, self._rows_max)
        self._due_rows -= rows
        unsaved = self.rows_unsaved
        slices = {}
        for partition, tracker in self._trackers.items():
            quota = -(-rows * tracker.unsaved // unsaved) if unsaved else 0
            if tracker.is_live and (quota or tracker.is_checkpoint_due(self._detector, now_s, self._interval_s)):
                slices[partition] = self._encode_slice(tracker, quota, now_s)
        return slices

    def _accrue(self, now_s: float) -> None:
        """Rows that were unsaved at the beginning of a round become due evenly over it: whole rows, and at its end all of them."""
        unsaved = self.rows_unsaved
        accrued = int(self._round_rows * min((now_s - self._round_began_s) / self._interval_s, 1.0))
        self._due_rows = min(self._due_rows + accrued - self._accrued_rows, unsaved)
        self._accrued_rows = accrued
        if accrued == self._round_rows:
            self._round_rows, self._accrued_rows, self._round_began_s = unsaved - self._due_rows, 0, now_s

    def flush_slice(self, partitions: Iterable[Partition], now_s: float) -> dict[Partition, dict[bytes, bytes | None]]:
        """The next large slice of what is unsaved of these partitions; empty once all is saved.

        It includes the first checkpoint of every partition that has none yet: an offset that is committed without one would be a cold start.
        """
        if not self._interval_s:
            return {}
        slices = {}
        for partition in partitions:
            tracker = self._trackers.get(partition)
            if tracker is not None and tracker.is_live and (tracker.unsaved or tracker.is_checkpoint_stale(self._detector)):
                slices[partition] = self._encode_slice(tracker, self._rows_max, now_s)
                break
        for partition, tracker in self._trackers.items():
            if tracker.last_checkpoint is None:
                slices[partition] = self._encode_slice(tracker, 0, now_s)
        return slices

    def _encode_slice(self, tracker: DirtyTracker, rows_max: int, now_s: float) -> dict[bytes, bytes | None]:
        encoded = tracker.encode_slice(self._detector, self._codec, rows_max)
        tracker.append_checkpoint(self._detector, encoded, now_s)
        return encoded


def _log_losses(partition: Partition, point: ResumePoint, tracker: DirtyTracker, start: int) -> None:
    """Log what a partition lost when it was restored."""
    name = f"{partition.topic}/{partition.number}"
    if point.why_cold:
        logger.warning("cold start: " + point.why_cold, extra={"partition": name, "offset": start})
    for reason, messages in tracker.missed.items():
        if messages:
            logger.warning(MISSED_LINES[reason], extra={"partition": name, "messages": messages, "continuing_at": start})
