"""Memories that outlive the worker: rolling snapshots, and how a partition is brought back.

Back: load the rows and the checkpoint's time; judge the messages from the checkpoint's offset o to the committed offset k again, silently (they
were told of before), each row skipping what is in it already; from k on everything is news. Cut invariance makes the replayed memory the
lost one, bit for bit.

Saved: every row that changed, once per interval or two, a slice with each commit, so that no commit has to carry a million rows.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from detector.codec.messages import Messages
from detector.codec.saved_state import Saved, SavedState
from detector.codec.snapshots import INCARNATION_BYTES, Checkpoint, RowCodec
from detector.core.detect import Detector
from detector.core.event_time import Time
from detector.core.readings import Partition
from detector.core.verdicts import Verdicts
from detector.errors import LogUnavailable
from detector.ports import PartitionPosition
from detector.service.beginning import Beginning, beginning
from detector.service.ledger import Ledger

logger = logging.getLogger(__name__)

MISSED_LINES = {
    "retention": "the log no longer holds messages that were still needed: raise its retention, or keep up",
    "auto_offset_reset": "messages that the log still holds are passed over, since auto.offset.reset is latest: set it to earliest",
}
"""What is said of messages that are missed, by reason."""
ROWS_MAX = 20_000
"""Rows per slice: some 20 MB at 64 hidden units, a fifth of a second."""
SLICE_BYTES_MAX = 128 * 2**20
"""Rows of the universal model are larger. A slice is held twice until its commit: encoded, and in librdkafka's queue."""


class Recovery:
    """Keeps the books of all partitions of a worker.

    interval_s        every change is saved after one to two of these; 0: nothing is saved, every start is cold
    draw_incarnation  a new incarnation's name, 8 bytes
    """

    def __init__(
        self, detector: Detector, interval_s: float, draw_incarnation: Callable[[], bytes] = lambda: os.urandom(INCARNATION_BYTES)
    ) -> None:
        self._detector = detector
        self._interval_s = interval_s
        self._draw_incarnation = draw_incarnation
        self._codec = RowCodec(detector.states.columns)
        self._rows_max = max(1, min(ROWS_MAX, SLICE_BYTES_MAX // self._codec.row_bytes))
        self._ledgers: dict[Partition, Ledger] = {}
        self._numbers = itertools.count(1)
        self._round_begun_s = 0.0
        self._round_rows = 0
        self._accrued_rows = 0
        self._owed_rows = 0
        self._log_ids: dict[Partition, str] = {}  # of all logs that were read, also of partitions that were given up since
        self.messages_missed: Counter[str] = Counter()
        self.log_changes: Counter[str] = Counter()

    # -- back -----------------------------------------------------------------------------------------------------------

    def begin(
        self,
        restored: Mapping[Partition, PartitionPosition],
        pieces: Iterable[tuple[Partition, Mapping[bytes, bytes | None]]],
        now_s: float,
    ) -> dict[Partition, int]:
        """Bring partitions back, as far as their rows do it; the offsets from which they are to be read.

        pieces   their state, as `Log.state` brings it; not looked at if nothing is saved

        raises StateCorrupted  saved state does not read back
        raises LogUnavailable  the log tells of offsets that are older than what was committed together with the state, or stopped
                               telling; nothing was begun
        """
        states = self._detector.states
        slots = states.slots_for(tuple(restored)).tolist()
        incoming = {partition: SavedState(states, slot) for partition, slot in zip(restored, slots, strict=True)}
        try:
            for partition, records in pieces if self._interval_s else ():
                incoming[partition].take(records)
            saved = {partition: each.settle() for partition, each in incoming.items()}
            begun = {partition: self._beginning(partition, at, saved[partition].checkpoint) for partition, at in restored.items()}
        except BaseException:
            self._detector.forget(tuple(restored))
            raise
        return {partition: self._begin(partition, at, saved[partition], begun[partition], now_s) for partition, at in restored.items()}

    def _beginning(self, partition: Partition, at: PartitionPosition, checkpoint: Checkpoint | None) -> Beginning:
        fingerprint, read_of = self._detector.model.fingerprint, self._log_ids.get(partition, "")
        begun = beginning(at, checkpoint, fingerprint, read_of=read_of, keeps_state=self._interval_s > 0)
        if not begun.log_change:
            _refuse_the_past(partition, at, checkpoint)
        return begun

    def _begin(self, partition: Partition, at: PartitionPosition, saved: Saved, begun: Beginning, now_s: float) -> int:
        detector, checkpoint = self._detector, saved.checkpoint
        (slot,) = detector.states.slots_for((partition,)).tolist()
        detector.clocks.grow(detector.states.slots)
        is_cold = checkpoint is None or bool(begun.why_cold)
        needed = begun.offset if checkpoint is None or is_cold else checkpoint.offset
        is_passed = begun.offset < at.first  # retention has taken messages that were never judged
        start = at.end if is_passed and at.resets_to_end else max(needed, at.first)
        live_from = start if is_cold or is_passed else begun.offset
        incarnation = self._draw_incarnation() if checkpoint is None or is_cold else checkpoint.incarnation
        ledger = Ledger(slot, incarnation, detector.model.fingerprint, at.log_id, start, live_from, self._numbers)
        if checkpoint is None or is_cold:
            unusable = [detector.states.stream(row).encode() for row in detector.states.rows_in(slot).tolist()]
            detector.forget((partition,))
            ledger.bury([*saved.stale, *unusable], start)
        else:
            self._go_on(ledger, saved, checkpoint, now_s)
        ledger.layout_is_saved = self._codec.layout_id in saved.layouts
        ledger.log_change = begun.log_change
        ledger.missed["retention"] = max(0, min(at.first, start) - needed)
        ledger.missed["auto_offset_reset"] = start - at.first if is_passed else 0
        _tell(partition, begun, ledger, start)
        self._ledgers[partition] = ledger
        self._log_ids[partition] = at.log_id
        return start

    def confirm(self, partitions: Iterable[Partition]) -> None:
        """A commit of these partitions is true: what they missed when they came back is counted, once, whoever brought them back before."""
        for partition in partitions:
            ledger = self._ledgers.get(partition)
            if ledger is not None:
                self.messages_missed += ledger.missed
                self.log_changes.update([ledger.log_change] if ledger.log_change else [])
                ledger.missed, ledger.log_change = Counter(), ""

    def _go_on(self, ledger: Ledger, saved: Saved, checkpoint: Checkpoint, now_s: float) -> None:
        gone = sorted((offset, name) for name, offset in saved.gone.items())
        for offset, name in gone:
            ledger.bury([name], offset)
        ledger.bury(saved.stale, checkpoint.offset)
        ledger.marked = (checkpoint.offset, now_s)
        self._detector.clocks[ledger.slot] = checkpoint.time

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These are another worker's now, or are about to be brought back: drop their memories and books."""
        partitions = tuple(partitions)
        for partition in partitions:
            self._ledgers.pop(partition, None)
        self._detector.forget(partitions)

    @property
    def is_counted(self) -> bool:
        """Whether all that was missed, and every change of a log, is counted."""
        return not any(ledger.has_news for ledger in self._ledgers.values())

    @property
    def is_live(self) -> bool:
        """Whether all that comes next is news."""
        return all(ledger.is_live for ledger in self._ledgers.values())

    def split(self, messages: Messages) -> tuple[Messages, Messages]:
        """Messages that only bring memories up to date, and those that are news. The former come first in their partitions."""
        live_from = np.array([self._ledgers[partition].live_from for partition in messages.partitions], np.int64)
        is_news = messages.offset >= live_from[messages.partition]
        if is_news.all():
            return Messages(), messages
        return messages.take(np.flatnonzero(~is_news)), messages.take(np.flatnonzero(is_news))

    # -- saved ----------------------------------------------------------------------------------------------------------

    def times(self, messages: Messages) -> dict[Partition, Time]:
        """The time of the messages' partitions, to be taken before they are judged."""
        return {partition: self._detector.clocks[self._ledgers[partition].slot] for partition in messages.partitions}

    def note(self, messages: Messages, verdicts: Verdicts, before: Mapping[Partition, Time], now_s: float) -> None:
        """Write down what a judged batch changed."""
        states, changed = self._detector.states, verdicts.changed
        fresh = np.unique(changed[(states.changed_in[changed] == 0) & (states.slots_of(changed) >= 0)])
        slots = states.slots_of(fresh)
        for partition, next_offset in messages.next_offsets().items():
            ledger = self._ledgers[partition]
            if self._interval_s:
                forgotten = [each for each in verdicts.forgotten if each.slot == ledger.slot]
                ledger.note(self._detector, fresh[slots == ledger.slot], forgotten, before[partition], now_s)
            ledger.next_offset = next_offset

    def offsets(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where these partitions stand: the offsets to be committed with what was judged."""
        return {partition: self._ledgers[partition].next_offset for partition in partitions}

    @property
    def rows_unsaved(self) -> int:
        """What is to be written: rows, freed rows, tombstones."""
        return sum(ledger.unsaved for ledger in self._ledgers.values())

    def unsaved_s(self, now_s: float) -> float:
        """Age of the oldest change that is not saved."""
        since_s = [ledger.unsaved_since_s for ledger in self._ledgers.values()]
        return max((now_s - each for each in since_s if each is not None), default=0.0)

    def due_slice(self, now_s: float) -> dict[Partition, dict[bytes, bytes | None]]:
        """What is due now of every partition."""
        if not self._interval_s:
            return {}
        self._accrue(now_s)
        rows = min(self._owed_rows, self._rows_max)
        self._owed_rows -= rows
        unsaved = self.rows_unsaved
        slices = {}
        for partition, ledger in self._ledgers.items():
            share = -(-rows * ledger.unsaved // unsaved) if unsaved else 0
            if ledger.is_live and (share or ledger.owes_checkpoint(self._detector, now_s, self._interval_s)):
                slices[partition] = self._slice(ledger, share, now_s)
        return slices

    def _accrue(self, now_s: float) -> None:
        """What was unsaved at the beginning of a round is owed evenly over it: whole rows, and at its end all of them."""
        unsaved = self.rows_unsaved
        accrued = int(self._round_rows * min((now_s - self._round_begun_s) / self._interval_s, 1.0))
        self._owed_rows = min(self._owed_rows + accrued - self._accrued_rows, unsaved)
        self._accrued_rows = accrued
        if accrued == self._round_rows:
            self._round_rows, self._accrued_rows, self._round_begun_s = unsaved - self._owed_rows, 0, now_s

    def rest(self, partitions: Iterable[Partition], now_s: float) -> dict[Partition, dict[bytes, bytes | None]]:
        """The next large slice of what is unsaved of these partitions; empty once all is saved.

        With the first checkpoint of every partition that has none yet: an offset that is committed without one would be a cold start.
        """
        if not self._interval_s:
            return {}
        slices = {}
        for partition in partitions:
            ledger = self._ledgers.get(partition)
            if ledger is not None and ledger.is_live and (ledger.unsaved or ledger.is_checkpoint_old(self._detector)):
                slices[partition] = self._slice(ledger, self._rows_max, now_s)
                break
        for partition, ledger in self._ledgers.items():
            if ledger.marked is None:
                slices[partition] = self._slice(ledger, 0, now_s)
        return slices

    def _slice(self, ledger: Ledger, rows_max: int, now_s: float) -> dict[bytes, bytes | None]:
        saved = ledger.save(self._detector, self._codec, rows_max)
        ledger.sign(self._detector, saved, now_s)
        return saved


def _tell(partition: Partition, begun: Beginning, ledger: Ledger, start: int) -> None:
    """Say what a partition lost when it came back."""
    name = f"{partition.topic}/{partition.number}"
    if begun.why_cold:
        logger.warning("memories begin anew: " + begun.why_cold, extra={"partition": name, "offset": start})
    for reason, messages in ledger.missed.items():
        if messages:
            logger.warning(MISSED_LINES[reason], extra={"partition": name, "messages": messages, "continuing_at": start})


def _refuse_the_past(partition: Partition, at: PartitionPosition, checkpoint: Checkpoint | None) -> None:
    """State and offsets become true together. Where the state is further, and nobody has set the offset back, brokers have forgotten.

    To go on from there would repeat all alerts since. (A Kafka that is alone and was killed can tell offsets of minutes ago.)
    """
    if checkpoint is not None and at.is_own and at.offset < checkpoint.next_offset <= at.end:
        raise LogUnavailable(
            f"{partition.topic} {partition.number}: the brokers say that offset {at.offset} is committed, the saved state that "
            f"{checkpoint.next_offset} is: they tell an old one",
            fix="restart the broker that coordinates the group; to go back on purpose, set the offset with Kafka's own tools",
        )
