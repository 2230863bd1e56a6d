"""The detector: batches of readings -> what became of them, and alerts."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core import alerts, baseline_reset, events
from detector.core.alerts import KINDS, Alert
from detector.core.baseline_reset import BaselineReset
from detector.core.batch_result import BatchResult, EvictedStream
from detector.core.event_time import Clocks, Time
from detector.core.events import EventLog
from detector.core.model import Model
from detector.core.readings import Disposition, Partition, ReadingBatch, StreamNames
from detector.core.rules import Settings, rules_of
from detector.core.state_store import FREE, StateStore
from detector.core.stream_state import NEVER
from detector.core.walk import READING, Store, Values, judge_batch


class Detector:
    """Judges readings, one batch after another, and remembers every stream."""

    def __init__(self, model: Model, settings: Settings | None = None) -> None:
        self.model = model
        self.settings = settings or Settings()
        self.names = StreamNames()
        layout = model.layout()
        self.store = StateStore(layout, self.names, self.settings.max_per_partition)
        self.clocks = Clocks()
        self._compiled, self._room = model.compiled(layout)
        self._rules = rules_of(self.settings, model.prior)
        self._due = np.empty((2, 0))  # per slot: as `Store.due`
        self._occurrences = np.zeros(0, np.int32)

    @property
    def streams(self) -> int:
        """Streams in memory."""
        return len(self.store)

    @property
    def alerts_open(self) -> int:
        """Alerts open now, of all kinds."""
        heads = self.store.heads
        return sum(int(np.count_nonzero(heads[f"{kind}_open"])) for kind in KINDS)

    def still_open(self) -> list[Alert]:
        """These alerts, one for each: identity, severity and opening; scores and channels are not remembered."""
        return alerts.still_open(self.store)

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Drop the state of partitions that another worker has now."""
        slots = self.store.free_partitions(partitions)
        self._grow()
        for slot in slots.tolist():
            self.clocks[slot] = Time()
            self._due[:, slot] = -np.inf

    def prepare(self) -> None:
        """Load the machine code, or compile it where none is kept: half a minute of one core. Otherwise the first batch does."""
        nothing = ReadingBatch.of_one(0, Partition("", 0), 0, len(self.model.channels)).take(slice(0))
        none = np.empty(0, np.int32)
        self._judge(*_columns_of(nothing, none, none, BatchResult.blank(0, len(self.model.channels))))

    def detect(self, batch: ReadingBatch, resets: Sequence[BaselineReset] = ()) -> BatchResult:
        """Judge a batch and advance the state of its streams.

        A reading whose offset is before the one that its stream's row stands for moves its partition's time, and is otherwise a
        duplicate: its effect is in the row already.

        resets   in log order; the batch is cut at each, which changes no bit
        """
        if not resets:
            return self._detect(batch)
        parts, start = [], 0
        for each in resets:
            needed = frozenset(batch.stream_id[each.place :].tolist())
            parts += [self._detect(batch.take(slice(start, each.place)), needed), self._reset(each)]
            start = each.place
        return BatchResult.joined([*parts, self._detect(batch.take(slice(start, None)))])

    def _reset(self, each: BaselineReset) -> BatchResult:
        """Of a stream that has no open alert, or is not known here, it changes nothing."""
        store, none = self.store, BatchResult.blank(0, len(self.model.channels))
        (slot,) = store.slots_for((each.partition,)).tolist()
        row = store.row(slot, each.stream)
        if row is None or each.offset < store.stands_for[row]:
            return none
        log = events.empty_log(len(self.model.channels))
        baseline_reset.reset(store.heads, store.floats, row, self._compiled.at, self._compiled.model, log)
        place = ReadingBatch.of_one(self.names[each.stream], each.partition, each.offset, len(self.model.channels))
        told = self._alerts_of(log, place)
        return replace(none, alerts=told, changed=np.array([row] if told else [], np.int64))

    def _detect(self, batch: ReadingBatch, needed: Container[int] = ()) -> BatchResult:
        """needed: streams of readings that come after this part of a batch; their names must not be released with their rows."""
        store, result = self.store, BatchResult.blank(len(batch), len(self.model.channels))
        is_empty = batch.are_empty()
        rows = store.rows_for(batch, ~is_empty)
        if len(batch) == 0:
            return result
        slots = store.slots_for(batch.partitions)[batch.partition]
        self._grow()
        has_row = rows != FREE
        result.disposition[~has_row] = np.where(is_empty[~has_row], Disposition.EMPTY, Disposition.INVALID)
        self._release_names(batch.stream_id[~has_row], needed)
        known = has_row & (batch.offset >= store.stands_for[rows])
        result.disposition[has_row & ~known] = Disposition.DUPLICATE
        readings, values = _columns_of(batch, rows, slots, result)
        log, evicted = self._judge(readings, values)
        for name in ("disposition", "score", "instantaneous", "threshold", "tail_probability"):
            getattr(result, name)[:] = readings[name]
        told, events_of = self._alerts_of(log, batch), log.events[: log.counts[0]]
        touched = events_of["row"][events_of["kind"] == events.TIMEOUT]
        gone = self._free_evicted(evicted, needed)
        open_now = self._open_now(batch, readings)
        return replace(result, alert=open_now, alerts=told, changed=np.concatenate((rows[known], touched, evicted)), evicted=gone)

    def _judge(self, readings: NDArray[Any], values: Values) -> tuple[EventLog, NDArray[np.int64]]:
        """The compiled pass."""
        views = self.store
        store = Store(views.heads, views.floats, views.slot_of_row, self._occurrences, self.clocks.times, self._due)
        log, evicted = judge_batch(
            store, readings, values, self._compiled, self._rules, self._room, events.empty_log(len(self.model.channels))
        )
        return log, evicted

    def _alerts_of(self, log: EventLog, batch: ReadingBatch) -> tuple[Alert, ...]:
        told = []
        for event in log.events[: log.counts[0]]:
            detail = None if event["detail"] == events.NONE else log.details[event["detail"]]
            told.append(alerts.alert_of(event, detail, batch, self.store, self.model.channels))
        return tuple(sorted(told, key=lambda alert: (alert.position, alert.kind, alert.stream, alert.status == "opened")))

    def _open_now(self, batch: ReadingBatch, readings: NDArray[Any]) -> dict[int, str]:
        """The ids of alerts of kind score that are open after each reading."""
        found = {}
        for i in np.flatnonzero(readings["open_offset"] != events.NONE).tolist():
            opened_by = (int(readings[name][i]) for name in ("open_offset", "open_item", "open_at_us"))
            name, partition = self.names.name(int(batch.stream_id[i])), batch.partitions[batch.partition[i]]
            found[i] = alerts.alert_id("score", name, partition, *opened_by)
        return found

    def _free_evicted(self, rows: NDArray[np.int64], needed: Container[int]) -> tuple[EvictedStream, ...]:
        """Free the rows of evicted streams; one that holds a reading which is not whole yet must wait for the rest."""
        store = self.store
        free = rows[store.heads["partial_time_us"][rows] == NEVER]
        gone = tuple(
            EvictedStream(int(store.slots_of(row)), store.stream(row).encode(), int(store.changed_in[row])) for row in free.tolist()
        )
        store.free(free, needed)
        return gone

    def _release_names(self, stream_ids: NDArray[np.int32], needed: Container[int]) -> None:
        """Names of refused streams must not fill the memory."""
        if len(stream_ids):
            unique = np.unique(stream_ids).tolist()
            self.names.release(each for each in unique if each not in needed and not self.store.is_known(each))

    def _grow(self) -> None:
        """Make room for as many partitions and rows as the store has."""
        self.clocks.grow(self.store.slots)
        missing = self.store.slots - self._due.shape[1]
        if missing > 0:
            self._due = np.hstack((self._due, np.full((2, missing), -np.inf)))
        if len(self._occurrences) < len(self.store.records):
            self._occurrences = np.zeros(len(self.store.records), np.int32)


def _columns_of(batch: ReadingBatch, rows: NDArray[np.int32], slots: NDArray[np.int32], result: BatchResult) -> tuple[NDArray[Any], Values]:
    """A batch as the compiled pass takes it, READING[N]; the result's forecasts are written by it."""
    readings = np.zeros(len(batch), READING)
    readings["row"], readings["slot"], readings["disposition"] = rows, slots, result.disposition
    readings["event_time_us"], readings["offset"], readings["item"] = batch.event_time_us, batch.offset, batch.item
    readings["channel"] = -1 if batch.channel is None else batch.channel
    readings["evicted_us"], readings["open_offset"] = np.inf, events.NONE
    for name in ("score", "instantaneous", "threshold", "tail_probability"):
        readings[name] = np.nan
    value = batch.value if batch.channel is None else batch.value.copy()
    # One type for compiled code, whoever made the batch: columns that were read from a file may not be written to.
    return readings, Values(np.require(value, np.float32, ["C", "W"]), result.expected, result.reach)
