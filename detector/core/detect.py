"""The single walk: from a batch of readings to verdicts and alerts.

    rows_for -> join (narrow readings) -> put_in_order -> plan_steps
    per step: scale -> gather -> expect -> residual -> advance -> scatter -> score -> judge -> look for channels that stopped -> alert
        -> learn the scale, and a readout
    look for streams that stay away

Steps are cut to STEP_ROWS_MAX rows and padded to STEP_ROWS_MULTIPLE, so that no reading's bits depend on its neighbours.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from detector.core import alerting, event_time, parts, silence, stopped, threshold
from detector.core.acceptance import Acceptance
from detector.core.alerting import Alert, Alerting, Judged
from detector.core.model import Model
from detector.core.predictor import STEP_ROWS_MAX, STEP_ROWS_MULTIPLE
from detector.core.readings import NOT_JUDGED, Disposition, Partition, ReadingBatch, StreamNames
from detector.core.states import StreamStates
from detector.core.steps import plan_steps
from detector.core.verdicts import Forgotten, Verdicts

SELF_TEST_TRIALS = 8


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user decides about judging; `config.Alerts` and `config.Streams` say why.

    budget_period_us   event time per acceptable false alert of one stream
    warmup_readings    readings of a new stream that cannot alert
    accept_after_us    age at which an open alert's level is accepted; None: 2,000 readings
    silence_intervals  usual intervals without a reading that make an alert; 0: never
    stuck_run_factor   times its longest usual run that a moving channel may keep its value, or one that comes be missing; 0: for ever
    idle_max_us        event time after which an unseen stream is forgotten
    streams_max        streams per partition
    keeps_ties         a reading as old as its stream's newest is judged, in the order of the log; otherwise it is a duplicate
    """

    budget_period_us: float = 7 * 86_400e6
    warmup_readings: int = 100
    accept_after_us: float | None = None
    silence_intervals: float = 60.0
    stuck_run_factor: float = 5.0
    idle_max_us: int = 30 * 86_400_000_000
    streams_max: int = 1_000_000
    keeps_ties: bool = False


@dataclass(frozen=True, slots=True)
class Walk:
    """A batch on its way through the detector. What is "among the whole ones" is indexed by W, its readings that can be judged.

    rows       i4[W] of the streams
    placed     i8[W] positions in the batch
    passing    when the partitions' time passed what; over all readings of the batch
    alerts     what opened and closed so far
    needed     streams of readings that come later
    """

    batch: ReadingBatch
    rows: NDArray[np.int32]
    placed: NDArray[np.int64]
    order: event_time.Order
    passing: event_time.Passing
    verdicts: Verdicts
    alerts: list[Alert]
    needed: Container[int]


class Detector:
    """Judges readings, one batch after another, and remembers every stream.

    Sets torch to one thread: with more, a matrix product may sum in another order, and replay would not be bit-identical.
    """

    def __init__(self, model: Model, settings: Settings | None = None) -> None:
        torch.set_num_threads(1)
        self.model = model
        self.settings = settings or Settings()
        self.names = StreamNames()
        self.channels = model.channels
        model.predictor.eval()
        self._memory = tuple(model.predictor.columns())
        self.states = StreamStates(
            {
                **model.predictor.columns(),
                **event_time.COLUMNS,
                **silence.COLUMNS,
                **stopped.columns(len(model.channels)),
                **parts.columns(len(model.channels)),
                **model.scaling.columns(),
                **(model.readout.columns() if model.readout else {}),
                **model.scorer.columns(),
                **model.prior.columns(),
                **alerting.COLUMNS,
            },
            self.names,
            self.settings.streams_max,
        )
        self.clocks = event_time.Clocks()
        self._patience = event_time.Patience(self.settings.silence_intervals, self.settings.warmup_readings, self.settings.idle_max_us)
        self._silence = silence.Silence(self._patience)
        self._limits = stopped.Limits(self.settings.stuck_run_factor, self.settings.warmup_readings, self.settings.accept_after_us or 0.0)
        self._alerting = Alerting(model, self.states)

    @property
    def streams(self) -> int:
        """Streams in memory."""
        return len(self.states)

    @property
    def alerts_open(self) -> int:
        """Alerts open now, of all kinds."""
        return sum(int(self.states[name].sum()) for name in alerting.IS_OPEN.values())

    def still_open(self) -> list[Alert]:
        """These alerts, one for each: identity, severity and opening; scores and channels are not remembered."""
        return self._alerting.still_open()

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Drop the memories of partitions that another worker has now."""
        slots = self.states.forget_partitions(partitions)
        self.clocks.grow(self.states.slots)
        for slot in slots.tolist():
            self.clocks[slot] = event_time.Time()
        self._silence.forget(slots)

    def detect(self, batch: ReadingBatch, acceptances: Sequence[Acceptance] = ()) -> Verdicts:
        """Judge a batch and advance the memory of its streams.

        A reading whose offset is before the one that its stream's row stands for moves its partition's time, and is otherwise a
        duplicate: its effect is in the row already.

        acceptances   in log order; the batch is cut at each, which changes no bit
        """
        if not acceptances:
            return self._detect(batch)
        told, start = [], 0
        for each in acceptances:
            needed = frozenset(batch.stream_id[each.place :].tolist())
            told += [self._detect(batch.take(slice(start, each.place)), needed), self._accept(each)]
            start = each.place
        return Verdicts.joined([*told, self._detect(batch.take(slice(start, None)))])

    def _accept(self, accepted: Acceptance) -> Verdicts:
        """A person's word that a stream is as it should be. Of a stream that has no open alert, or is not known here, it changes nothing."""
        states, none = self.states, Verdicts.blank(0, len(self.channels))
        (slot,) = states.slots_for((accepted.partition,)).tolist()
        row = states.row(slot, accepted.stream)
        if row is None or accepted.offset < states.stands_for[row]:
            return none
        event_time_us = int(states["event_time_us"][row])
        batch = accepted.as_reading(self.names[accepted.stream], event_time_us, len(self.channels))
        alerts = []
        for kind in stopped.KINDS:
            if states[alerting.IS_OPEN[kind]][row]:
                stopped.accept(kind, row, states)
                alerts.append(self._alerting.unscored(batch, 0, row, event_time_us, "reset", kind))
        if states["is_open"][row]:
            threshold.accept(row, states)
            alerts.append(self._alerting.ended(batch, 0, row, event_time_us, "reset"))
            self._take_as_usual(row)
        return replace(none, alerts=tuple(alerts), changed=np.array([row] if alerts else [], np.int64))

    def _take_as_usual(self, row: int) -> None:
        """What a row learned before its alert was accepted must soon give way to what comes."""
        self.model.scaling.accept(row, self.states)
        if self.model.readout:
            self.model.readout.accept(row, self.states)

    def _detect(self, batch: ReadingBatch, needed: Container[int] = ()) -> Verdicts:
        """needed: streams of readings that come after this part of a batch; their names must not be forgotten with their memories."""
        n = len(batch)
        rows = self.states.rows_for(batch)
        verdicts = Verdicts.blank(n, len(self.channels))
        if n == 0:
            return verdicts
        slots = self.states.slots_for(batch.partitions)[batch.partition]
        self.clocks.grow(self.states.slots)
        passing = event_time.Passing(slots, *self.clocks.advance(slots, batch.event_time_us))
        known = rows >= 0
        verdicts.disposition[~known] = Disposition.INVALID
        self._release_names(batch.stream_id[~known], needed)
        known &= batch.offset >= self.states.stands_for[rows]
        verdicts.disposition[~known & (rows >= 0)] = Disposition.DUPLICATE
        if batch.channel is not None:
            batch = self._join(batch, rows, known, verdicts)
        placed = np.flatnonzero(verdicts.disposition == NOT_JUDGED)
        order = event_time.put_in_order(
            rows[placed], batch.event_time_us[placed], passing.watermark_us[placed], passing.clock_us[placed],
            self._patience, self.states, keeps_ties=self.settings.keeps_ties,
        )  # fmt: skip
        verdicts.disposition[placed] = order.disposition
        walk = Walk(batch, rows[placed], placed, order, passing, verdicts, [], needed)
        to_judge = np.flatnonzero(order.disposition == NOT_JUDGED)
        for step in plan_steps(walk.rows[to_judge]):
            for start in range(0, len(step), STEP_ROWS_MAX):
                self._step(walk, to_judge[step[start : start + STEP_ROWS_MAX]])
        missed, forgotten = self._look_for_absent(walk)
        alerts = sorted(walk.alerts, key=lambda alert: (alert.position, alert.kind, alert.stream, alert.status == "opened"))
        return replace(verdicts, alerts=tuple(alerts), changed=np.concatenate((rows[known], missed)), forgotten=forgotten)

    def _join(self, batch: ReadingBatch, rows: NDArray[np.int32], known: NDArray[np.bool_], verdicts: Verdicts) -> ReadingBatch:
        """Narrow readings -> the same batch with whole readings where a message completed one."""
        at = np.flatnonzero(known)
        assert batch.channel is not None
        joined, time_us, value = parts.join(
            rows[at], batch.event_time_us[at], batch.channel[at], batch.value[at], self.states, keeps_ties=self.settings.keeps_ties
        )
        verdicts.disposition[at] = joined
        whole = replace(batch, event_time_us=batch.event_time_us.copy(), value=batch.value.copy(), channel=None)
        whole.event_time_us[at], whole.value[at] = time_us, value
        return whole

    def _step(self, walk: Walk, at: NDArray[np.int64]) -> None:
        """Judge and advance one step. at: places of its readings among the whole ones."""
        states, settings, verdicts = self.states, self.settings, walk.verdicts
        rows, position = walk.rows[at], walk.placed[at]
        time_us, value = walk.batch.event_time_us[position], walk.batch.value[position]
        if walk.order.is_first[at].any():
            self._begin_anew(walk, at[walk.order.is_first[at]])
        is_settled = states["seen"][rows] >= settings.warmup_readings
        units = self.model.scaling.of(rows, states)
        x = units.scaled(value)
        expected = self._advance(rows, x)
        if self.model.readout:
            expected, said = self.model.readout.expected(rows, expected, states)
        e = units.residuals(x, expected)
        moved = self.model.scorer.moved(rows, value, states)
        alone, terms = self.model.scorer.judged(rows, value, x, e, states, units.usual)
        p, event, limit = threshold.judge(
            rows, alone, time_us, walk.order.per_reading_us[at], states,
            settings.budget_period_us, settings.warmup_readings, settings.accept_after_us or 0.0, self.model.prior,
        )  # fmt: skip
        score, limit = self.model.scorer.lingering(rows, alone, limit, states, units.usual)
        verdicts.disposition[position] = np.where(is_settled, Disposition.SCORED, Disposition.WARMUP)
        verdicts.score[position], verdicts.alone[position] = score, alone
        verdicts.tail_probability[position] = p
        verdicts.expected[position] = unscaled = units.unscaled(expected)
        verdicts.threshold[position] = limit
        verdicts.reach[position] = self.model.reach(units)
        is_usual = (event == 0) & (states["is_open"][rows] == 0)
        turns = {
            kind: stopped.judge(
                kind, rows, value, moved, time_us, walk.order.step_us[at], walk.order.interval_us[at], is_usual, self._limits, states
            )
            for kind in stopped.KINDS
        }
        for i in np.flatnonzero(np.any([event, *(turn for turn, _ in turns.values())], axis=0)).tolist():
            judged = Judged(value[i], unscaled[i], x[i], e[i], float(score[i]), float(p[i]))
            where = walk.batch, int(position[i]), int(rows[i])
            if event[i]:
                walk.alerts.append(self._alerting.scored(*where, int(event[i]), int(time_us[i]), judged))
            for kind, (turn, about) in turns.items():
                if turn[i]:
                    channels = self._alerting.reasons(int(rows[i]), judged, about[i] / about[i].sum())[: about[i].sum()]
                    reason = stopped.REASON_OF[kind][turn[i]]
                    walk.alerts.append(self._alerting.unscored(*where, int(time_us[i]), reason, kind, channels))
        for i in np.flatnonzero(states["is_open"][rows]).tolist():
            partition = walk.batch.partitions[walk.batch.partition[position[i]]]
            verdicts.alert[int(position[i])] = self._alerting.open_id(int(rows[i]), partition)
        for row in rows[event == threshold.ACCEPTED].tolist():
            self._take_as_usual(row)
        teaches = is_usual & (states["evidence"][rows] == 0)
        self.model.scaling.learn(rows, value, moved, x, x - expected, terms, teaches, states)  # judged first
        if self.model.readout:
            self.model.readout.learn(rows, x, said, teaches, states)

    def _advance(self, rows: NDArray[np.int32], x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Gather the memory of a step's streams, expect, advance, scatter; returns the expected values, scaled, f4[B, D]."""
        states, n = self.states, len(rows)
        padding = -n % STEP_ROWS_MULTIPLE
        padded = np.concatenate((rows, np.repeat(rows[:1], padding))) if padding else rows
        memory = {name: np.take(states[name], padded, axis=0) for name in self._memory}
        expected = self.model.predictor.step(np.concatenate((x, x[:1].repeat(padding, axis=0))) if padding else x, **memory)
        for name, array in memory.items():
            states[name][rows] = array[:n]
        return expected[:n]

    def _begin_anew(self, walk: Walk, at: NDArray[np.int64]) -> None:
        """Streams that come back after they were forgotten start from nothing. at: places of their first readings."""
        back = at[np.isfinite(walk.order.expired_us[at])]
        for place in back.tolist():
            slot = int(walk.passing.slots[walk.placed[place]])
            self._end_forgotten(walk, int(walk.rows[place]), walk.passing.watermark(slot, float(walk.order.expired_us[place])))
        self.states.reset(walk.rows[back], but=(*event_time.COLUMNS, *silence.COLUMNS, *parts.COLUMNS))

    def _look_for_absent(self, walk: Walk) -> tuple[NDArray[np.int64], tuple[Forgotten, ...]]:
        """Streams that stay away are missed, which is an alert, and forgotten in the end, which frees their rows.

        returns  the rows that changed by it, and the streams whose rows were freed
        """
        states = self.states
        silent, expired = self._silence.find(states, walk.rows, walk.placed, walk.order, walk.passing)
        for each in silent:
            is_own = each.reason == "resumed"  # otherwise the reading that moved the time shows it, and may itself be skipped or a part
            shown_at_us = int((walk.batch.event_time_us if is_own else walk.passing.watermark_us)[each.position])
            walk.alerts.append(self._alerting.unscored(walk.batch, each.position, each.row, shown_at_us, each.reason, "timeout"))
        for gone in expired:
            self._end_forgotten(walk, gone.row, gone.position)
        rows = np.array([gone.row for gone in expired], np.int64)
        states.reset(rows, but=parts.COLUMNS)
        free = rows[states["part_time_us"][rows] == event_time.NEVER]  # a row that holds a part must wait for the rest
        forgotten = tuple(
            Forgotten(int(states.slots_of(row)), states.stream(row).encode(), int(states.changed_in[row])) for row in free.tolist()
        )
        states.forget(free, walk.needed)
        return np.array([each.row for each in silent] + rows.tolist(), np.int64), forgotten

    def _end_forgotten(self, walk: Walk, row: int, position: int) -> None:
        """A forgotten stream's alerts end with the reading that shows it, at this position of the batch."""
        event_time_us = int(walk.passing.watermark_us[position])
        if self.states["is_open"][row]:
            walk.alerts.append(self._alerting.ended(walk.batch, position, row, event_time_us, "evicted"))
        for kind in stopped.KINDS:
            if self.states[alerting.IS_OPEN[kind]][row]:
                walk.alerts.append(self._alerting.unscored(walk.batch, position, row, event_time_us, "evicted", kind))

    def _release_names(self, stream_ids: NDArray[np.int32], needed: Container[int]) -> None:
        """Names of refused streams must not fill the memory."""
        if len(stream_ids):
            unique = np.unique(stream_ids).tolist()
            self.names.release(each for each in unique if each not in needed and not self.states.is_known(each))

    def self_test(self) -> bool:
        """Whether this machine gives a row the same bits among others, among others in another order, and elsewhere in memory: what
        bit-identical replay rests on."""
        predictor, generator = self.model.predictor, np.random.default_rng(0)
        d, width, few = len(self.channels), STEP_ROWS_MAX, STEP_ROWS_MULTIPLE
        shapes = [(d,), *(column.shape for column in predictor.columns().values())]
        before = [generator.standard_normal((width, *shape), np.float32) for shape in shapes]
        after = [array.copy() for array in before]
        after.append(predictor.step(*after))
        for trial in range(SELF_TEST_TRIALS):
            chosen = generator.permutation(width)[:few]
            again = [_displaced(array[chosen], trial) for array in before]
            again.append(predictor.step(*again))
            if not all(np.array_equal(a, b[chosen]) for a, b in zip(again[1:], after[1:], strict=True)):
                return False
        return True


def _displaced(array: NDArray[np.float32], floats: int) -> NDArray[np.float32]:
    """A copy that begins so many floats further into its memory."""
    copy = np.empty(array.size + floats, np.float32)[floats:].reshape(array.shape)
    copy[...] = array
    return copy
