"""The one pass over a batch.

    in log order:  move the partition's clock -> assemble a long-format reading -> late, duplicate, evicted, timed out?
    step by step, in blocks of ROWS readings of distinct streams:  `block.advance` -> alarm -> stopped channels -> learn
    at the end:  streams that the partition's clock has left behind (`absence.py`)

Step k holds every stream's k-th reading of the batch: few steps, wide steps. What a reading decides is attributed to its position in the
batch, so how the log was cut into batches changes nothing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core import absence, alarm, block, events, score, stopped
from detector.core.arithmetic import copy
from detector.core.assembler import assemble
from detector.core.compiled import allocating, compiled, entry
from detector.core.compiled_model import ROWS
from detector.core.event_time import move_clock, put_in_order, timeout_at
from detector.core.readings import NOT_JUDGED, WHOLE, Disposition
from detector.core.stream_state import NEVER, part

SCORED, WARMUP = int(Disposition.SCORED), int(Disposition.WARMUP)
CRITICAL_BELOW = 1e-9
"""An alert whose CUSUM holds a score less probable than this is critical, otherwise a warning."""
EVENTS_OF_READING = 8
"""More no reading can bring: an end of each kind with an eviction, and an event of each kind."""

READING = np.dtype(
    [
        # given
        ("row", "<i4"),  # of the store; of readings without one, whose disposition is given, any
        ("slot", "<i4"),  # of the partition
        ("event_time_us", "<i8"),  # overwritten where a long-format reading is assembled
        ("offset", "<i8"),
        ("item", "<i4"),
        ("channel", "<i4"),  # that the row carries; SOME: those that have a value; WHOLE where readings are whole
        # where it stands in time
        ("watermark_us", "<i8"),  # the partition's, this reading included
        ("clock_us", "<i8"),
        ("step_us", "<i8"),  # since the stream's reading before; 0 for its first, and for a tie
        ("interval_us", "<f8"),  # the stream's usual interval; 0 while it is not known
        ("per_reading_us", "<f8"),  # usual time per reading
        ("evicted_us", "<f8"),  # watermark beyond which the stream was evicted before; infinite: it was not
        ("is_first", "u1"),  # the stream's record begins anew
        # what became of it: `batch_result.BatchResult` says what
        ("disposition", "u1"),
        ("score", "<f4"),
        ("instantaneous", "<f4"),
        ("threshold", "<f4"),
        ("tail_probability", "<f8"),
        ("open_offset", "<i8"),  # of the reading that opened the alert of kind score that is open now; NONE where none is
        ("open_item", "<i4"),
        ("open_at_us", "<i8"),
    ],
    align=True,
)


class Values(NamedTuple):
    """value f4[N, D], overwritten where a long-format reading is assembled; the forecast and its reach f4[N, D], engineering units."""

    observed: NDArray[np.float32]
    expected: NDArray[np.float32]
    reach: NDArray[np.float32]


class Store(NamedTuple):
    """Views of the state store, and the partitions' clocks.

    heads, floats         HEAD[rows], f4[rows, F]
    slot_of_row           i4[rows]
    occurrences           i4[rows] zeros, and again zeros afterwards
    times                 i8[3, slots]
    due                   f8[2, slots] no row of a partition times out before this clock, none is evicted before this watermark
    """

    heads: NDArray[Any]
    floats: NDArray[np.float32]
    slot_of_row: NDArray[np.int32]
    occurrences: NDArray[np.int32]
    times: NDArray[np.int64]
    due: NDArray[np.float64]


@entry
def judge_batch(store, readings, values, model, rules_of, room, log):  # type: ignore[no-untyped-def]
    """Judge a batch and advance the state of its streams.

    readings   READING[N];  values: `Values`
    model, room   as in `compiled_model`;  rules_of  RULES[1]
    log        EventLog
    returns    the log, and the rows of evicted streams, i8[E]
    """
    at, m, rules = model.at[0], model.model[0], rules_of[0]
    for i in range(readings.shape[0]):
        due_us = _in_log_order(i, store, readings, values.observed, at, rules)
        if not np.isnan(due_us):
            log = events.with_room(log, EVENTS_OF_READING)
            absence.end_absence(readings[i].row, readings[i].slot, due_us, readings[i].evicted_us, i, store.heads, readings, log)
    positions, starts = split_into_steps(readings, store.occurrences)
    about = np.zeros((2, values.observed.shape[1]), np.bool_)
    for step in range(starts.shape[0] - 1):
        first = starts[step]
        while first < starts[step + 1]:
            rows = min(ROWS, starts[step + 1] - first)
            log = events.with_room(log, ROWS * EVENTS_OF_READING)
            for p in range(first, first + rows):
                if readings[positions[p]].is_first:
                    absence.begin_anew(positions[p], store.heads, store.floats, readings, at, m, model.new, log)
            _judge_block(
                positions, first, rows, store.heads, store.floats, readings, values, (at, m, rules, model.weights), room, about, log
            )
            first += rows
    return absence.look_for_absent(store, readings, at, m, model.new, rules, log)


@compiled
def _in_log_order(i, store, readings, observed, at, rules):  # type: ignore[no-untyped-def]
    """Everything that is decided in log order of reading i.

    returns  NaN; or, where an absence of the stream ends here, the clock beyond which it had timed out
    """
    reading = readings[i]
    move_clock(store.times, reading.slot, reading.event_time_us)
    reading.watermark_us, reading.clock_us = store.times[0, reading.slot], store.times[1, reading.slot]
    if reading.disposition != NOT_JUDGED:
        return np.nan
    s = store.heads[reading.row]
    if reading.channel != WHOLE:
        reading.disposition, reading.event_time_us = assemble(
            s, store.floats[reading.row], at, reading.channel, reading.event_time_us, observed[i], rules.keeps_ties
        )
        if reading.disposition != NOT_JUDGED:
            return np.nan
    due_us, heard_at_us, is_new = timeout_at(s, rules), s.heard_at_us, s.event_time_us == NEVER
    disposition, is_evicted, step_us = put_in_order(s, reading.event_time_us, reading.watermark_us, reading.clock_us, rules)
    if disposition != NOT_JUDGED:
        reading.disposition = disposition
        return np.nan
    reading.step_us, reading.interval_us, reading.per_reading_us = step_us, s.interval_us, s.interval_us / s.per_time
    reading.is_first = is_new or is_evicted
    if is_evicted:
        reading.evicted_us = np.float64(heard_at_us) + rules.idle_ttl_us
    return due_us if reading.clock_us > due_us or is_evicted or s.timeout_open == 1 else np.nan


@allocating
def split_into_steps(readings, occurrences):  # type: ignore[no-untyped-def]
    """Step k holds the k-th reading of every stream that is to be judged.

    occurrences  i4[rows] zeros, and again zeros afterwards
    returns      positions i8[M], step after step, each in log order; where each step begins, and the end, i8[K + 1]
    """
    n, judged, steps = readings.shape[0], 0, 0
    step_of = np.empty(n, np.int32)
    for i in range(n):
        step_of[i] = -1
        if readings[i].disposition == NOT_JUDGED:
            step_of[i] = occurrences[readings[i].row]
            occurrences[readings[i].row] += 1
            steps = max(steps, step_of[i] + 1)
            judged += 1
    starts, ends = np.zeros(steps + 1, np.int64), np.zeros(steps + 1, np.int64)
    for i in range(n):
        if step_of[i] >= 0:
            occurrences[readings[i].row] = 0
            starts[step_of[i] + 1] += 1
    for step in range(steps):
        starts[step + 1] += starts[step]
        ends[step] = starts[step]
    positions = np.empty(judged, np.int64)
    for i in range(n):
        if step_of[i] >= 0:
            positions[ends[step_of[i]]] = i
            ends[step_of[i]] += 1
    return positions, starts


@compiled
def _judge_block(positions, first, rows, heads, floats, readings, values, how, room, about, log):  # type: ignore[no-untyped-def]
    """Judge the readings at positions[first : first + rows]. how: records OFFSETS, MODEL and RULES, and the weights"""
    at, m, rules, weights = how
    d = m.channels
    for r in range(rows):
        room.rows[r] = readings[positions[first + r]].row
        copy(values.observed[positions[first + r]], part(room.floats, m.value + r * d, d))
    block.advance(heads, floats, room.rows, rows, at, m, weights, room.floats, room.doubles)
    for r in range(rows):
        i = positions[first + r]
        reading, s, f = readings[i], heads[room.rows[r]], floats[room.rows[r]]
        event = _judge_score(reading, s, m, r, rules, weights, room.floats)
        for k in range(d):
            to_units = room.doubles[m.scale + r * d + k]
            values.expected[i, k] = np.float64(room.floats[m.expected + r * d + k]) * to_units + room.doubles[m.location + r * d + k]
            values.reach[i, k] = weights[m.error_scale + k] * room.floats[m.residual_size + r * d + k] * to_units
        is_usual = event == 0 and s.score_open == 0
        is_stuck, is_missing = _judge_channels(reading, s, f, at, m, r, is_usual, rules, room.floats, about)
        if event != 0:
            _write_score(i, reading, s, event, r, m, weights, room, values, log)
        if is_stuck != 0:
            _write_channels(i, reading, s, events.STUCK, is_stuck, about[0], values, log)
        if is_missing != 0:
            _write_channels(i, reading, s, events.MISSING, is_missing, about[1], values, log)
        if s.score_open == 1:
            reading.open_offset, reading.open_item, reading.open_at_us = s.score_offset, s.score_item, s.score_opened_at_us
        if event == alarm.RESET:
            block.reset_baseline(s, f, at, m)
        may_learn = (is_usual and s.cusum == 0.0) or block.is_in_first_days(s, reading.per_reading_us)
        block.learn(s, f, at, m, r, may_learn, room.floats, room.doubles)


@compiled
def _judge_score(reading, s, m, r, rules, weights, room):  # type: ignore[no-untyped-def]
    """Score and alarm of a reading, row r of the block. returns  what happened to the alert: alarm.Event"""
    reading.disposition = SCORED if s.seen >= rules.warmup_readings else WARMUP
    reading.instantaneous = score.instantaneous(m, r, weights, room)
    reading.tail_probability, event, threshold = alarm.judge(s, reading.instantaneous, reading.event_time_us, reading.per_reading_us, rules)
    reading.score, reading.threshold = score.with_peak(s, m, r, reading.instantaneous, threshold, room)
    return event


@compiled
def _judge_channels(reading, s, f, at, m, r, is_usual, rules, room, about):  # type: ignore[no-untyped-def]
    """What happened to the alerts of kind stuck and missing; stopped.OPENED and so on."""
    d = m.channels
    value, moved = part(room, m.value + r * d, d), part(room, m.moved + r * d, d)
    when = (reading.step_us, reading.interval_us, reading.event_time_us - s.stuck_opened_at_us)
    is_stuck = stopped.judge(f, at.stuck, at.between, value, moved, when, is_usual, s.stuck_open == 1, rules, about[0])
    when = (reading.step_us, reading.interval_us, reading.event_time_us - s.missing_opened_at_us)
    is_missing = stopped.judge(f, at.missing, -1, value, moved, when, is_usual, s.missing_open == 1, rules, about[1])
    return is_stuck, is_missing


@compiled
def _write_score(i, reading, s, event, r, m, weights, room, values, log):  # type: ignore[no-untyped-def]
    """An event of the alert of kind score, and its channels."""
    if event == alarm.OPENED:
        s.score_offset, s.score_item, s.is_critical = reading.offset, reading.item, 0
    if (event == alarm.OPENED or event == alarm.ESCALATED) and s.p_min < CRITICAL_BELOW:
        s.is_critical = 1
    reason = (events.EVIDENCE, events.CLEARED, events.RESET, events.ESCALATED)[event - 1]
    written = events.add(log, s, events.SCORE, reason, i, reading.row, reading.event_time_us)
    written.score, written.tail_probability = reading.score, reading.tail_probability
    detail = log.details[events.add_detail(log, written)]
    score.share_out(s, m, r, weights, room.floats, room.doubles, detail[events.SHARE])
    _describe(i, values, detail)


@compiled
def _write_channels(i, reading, s, kind, what, about, values, log):  # type: ignore[no-untyped-def]
    """An event of the alert of kind stuck or missing, and the channels that it is about."""
    if what == stopped.OPENED:
        events.open_alert(s, kind, reading.offset, reading.item, reading.event_time_us)
    ended = events.UNSTUCK if kind == events.STUCK else events.RESUMED
    reason = kind if what == stopped.OPENED else ended if what == stopped.ENDED else events.RESET  # a kind opens for the reason of its name
    written = events.add(log, s, kind, reason, i, reading.row, reading.event_time_us)
    detail = log.details[events.add_detail(log, written)]
    if what != stopped.OPENED:
        events.close_alert(s, kind)
    count = 0
    for k in range(about.shape[0]):
        count += about[k]
    for k in range(about.shape[0]):
        detail[events.IS_ABOUT, k] = about[k]
        detail[events.SHARE, k] = about[k] / max(count, 1)
    _describe(i, values, detail)


@compiled
def _describe(i, values, detail):  # type: ignore[no-untyped-def]
    """What the channels of reading i showed."""
    copy(values.observed[i], detail[events.OBSERVED])
    copy(values.expected[i], detail[events.EXPECTED])
    copy(values.reach[i], detail[events.REACH])
