"""The single walk: every reading one disposition, judged before it is learned from."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.detect import Detector
from detector.core.predictor import HORIZONS, LAGS, Predictor
from detector.core.readings import Disposition, Partition
from detector.core.scaling import Scaling
from detector.core.states import arrays_of
from detector.core.threshold import TAIL, UNIT_MIN
from detector.core.verdicts import Verdicts
from tests.core.builders import (
    P0,
    SECOND_US,
    log_of,
    memory_of,
    model_of,
    normal_values,
    predictor_of,
    rows_of,
    run,
    settings_of,
    state_of,
)
from tests.core.plant import SHARED, eventful_log, narrow

MODEL = model_of(2)
SCORED, WARMUP, LATE, DUPLICATE, INVALID, PARTIAL = Disposition
JUDGED = (SCORED, WARMUP)
P1 = Partition("readings", 1)


def one_stream(readings: int, seed: int = 5) -> Any:
    values = normal_values(readings, 2, seed)
    return log_of([("a", t, value) for t, value in enumerate(values)], 2)


def test_an_empty_batch() -> None:
    verdicts = Detector(MODEL).detect(one_stream(3).take([]).batch(Detector(MODEL)))
    assert len(verdicts) == 0
    assert verdicts.expected.shape == (0, 2)
    assert verdicts.alerts == ()


@given(seed=st.integers(0, 10**6), is_narrow=st.booleans(), streams_max=st.sampled_from([1, 3, 100]), batches=st.integers(1, 5))
@settings(max_examples=10, deadline=None)
def test_every_reading_gets_exactly_one_disposition(seed: int, is_narrow: bool, streams_max: int, batches: int) -> None:
    """Only a judged reading has a score, a probability, an expectation."""
    log = eventful_log(seed, partitions=2)
    log = narrow(log, seed) if is_narrow else log
    detector = Detector(MODEL, settings_of(streams_max=streams_max))
    cuts = np.random.default_rng(seed).integers(0, len(log), batches)
    count: Counter[int] = Counter()
    for verdicts in run(detector, log, cuts.tolist()):
        count.update(verdicts.disposition.tolist())
        judged = np.isin(verdicts.disposition, JUDGED)
        assert (np.isfinite(verdicts.score) == judged).all()
        assert (np.isfinite(verdicts.tail_probability) == judged).all()
        assert (np.isfinite(verdicts.expected).all(axis=1) == judged).all()
        assert np.isnan(verdicts.expected[~judged]).all()
        assert (verdicts.score[judged] >= 0).all()
        assert ((verdicts.tail_probability[judged] > 0) & (verdicts.tail_probability[judged] <= 1)).all()
        assert set(verdicts.alert) <= set(np.flatnonzero(verdicts.disposition == SCORED).tolist())
    assert sum(count.values()) == len(log)
    assert set(count) <= set(Disposition)
    assert (count[PARTIAL] > 0) == is_narrow


def test_readings_of_streams_beyond_the_limit_are_invalid_and_leave_no_name() -> None:
    log = log_of([(name, t, (1.0, 2.0)) for t in range(3) for name in ("a", "b", "c", "d")], 2)
    detector = Detector(MODEL, settings_of(streams_max=2))
    for verdicts in run(detector, log, range(1, 12)):
        assert len(verdicts) == 1
    assert set(detector.names) == {b"a", b"b"}
    assert detector.streams == 2
    assert detector.names.ids_end <= 3
    dispositions = np.concatenate([verdicts.disposition for verdicts in run(Detector(MODEL, settings_of(streams_max=2)), log)])
    assert dispositions.tolist() == [WARMUP, WARMUP, INVALID, INVALID] * 3


def test_a_name_refused_in_one_partition_may_live_in_another() -> None:
    log = log_of([("a", 0, (1.0, 2.0)), ("b", 0, (1.0, 2.0)), ("b", 1, (1.0, 2.0)), ("b", 2, (3.0, 2.0))], 2)
    log = replace(log, partition=np.array([0, 0, 1, 1], np.int32), partitions=(P0, P1))
    detector = Detector(MODEL, settings_of(streams_max=1))
    assert run(detector, log)[0].disposition.tolist() == [WARMUP, INVALID, WARMUP, WARMUP]
    assert set(rows_of(detector)) == {(P0, "a"), (P1, "b")}
    assert set(detector.names) == {b"a", b"b"}


def test_the_verdict_is_that_of_predictor_score_and_alarm_one_after_the_other() -> None:
    """One stream, by hand: expected from the memory before the reading, residual, score."""
    log = one_stream(80)
    log.value[30:33, 1] = np.nan
    (verdicts,) = run(Detector(MODEL, settings_of()), log)
    scaling = MODEL.scaling
    assert isinstance(scaling, Scaling)
    x = scaling.scaled(log.value)
    memory = arrays_of(MODEL.predictor.columns(), 32)
    states = arrays_of(MODEL.scorer.columns())
    for t in range(80):
        expected = MODEL.predictor.step(x[t].repeat(32).reshape(2, 32).T.copy(), **memory)[:1]
        alone = MODEL.scorer.judged(np.zeros(1, np.int32), log.value[t : t + 1], x[t : t + 1], x[t : t + 1] - expected, states)[0]
        score, _ = MODEL.scorer.lingering(np.zeros(1, np.int32), alone, alone, states)
        assert verdicts.expected[t].tobytes() == scaling.unscaled(expected)[0].tobytes()
        assert verdicts.score[t] == score[0]


def test_calibration_is_judged_with_before_it_learns() -> None:
    """p follows from the columns as they were before the reading, for every reading, alerts included."""
    log = one_stream(400)
    log.value[150:170] *= 4
    detector = Detector(MODEL, settings_of())
    fresh = MODEL.prior
    before = {"quantile": fresh.quantile, "unit": max(fresh.excess, UNIT_MIN)}
    events = 0
    for t in range(400):
        verdicts = detector.detect(log.take([t]).batch(detector))
        score, quantile = float(verdicts.alone[0]), before["quantile"]
        expected = TAIL * np.exp(-(score - quantile) / before["unit"]) if score > quantile else TAIL ** (score / quantile)
        assert verdicts.tail_probability[0] == pytest.approx(expected, rel=1e-9)
        before = state_of(detector, "a")
        events += len(verdicts.alerts)
    assert events >= 2


LEARNED = ("quantile", "unit", "mean", "variance", "account")


def test_nothing_is_learned_while_an_alert_is_open() -> None:
    log = one_stream(400)
    log.value[150:170] *= 4
    detector = Detector(MODEL, settings_of(budget_period_us=5_000 * SECOND_US))
    before: dict[str, Any] = {}
    open_readings = 0
    for t in range(400):
        verdicts = detector.detect(log.take([t]).batch(detector))
        after = {name: state_of(detector, "a")[name].item() for name in LEARNED}
        reasons = [alert.reason for alert in verdicts.alerts]
        if 0 in verdicts.alert:
            assert after == before or reasons == ["evidence"]  # then some of it was taken back, and the account charged
            open_readings += 1
        elif reasons == ["cleared"]:
            assert after == before
        elif t >= 45:  # no longer warming up
            assert after != before
        before = after
    assert open_readings > 40


@pytest.mark.parametrize("warmup", [0, 30, 120])
def test_the_warm_up_never_alerts(warmup: int) -> None:
    log = one_stream(160)
    log.value[::7] *= 100
    log.value[20:] *= 50
    (verdicts,) = run(Detector(MODEL, settings_of(warmup_readings=warmup)), log)
    assert verdicts.disposition.tolist() == [WARMUP] * warmup + [SCORED] * (160 - warmup)
    assert all(alert.position >= warmup for alert in verdicts.alerts)
    assert verdicts.alerts or warmup == 120


def test_a_missing_value_is_neither_zero_nor_seen() -> None:
    """Its channel has no residual: a reading that lacks a channel scores no higher than the same reading without the gap."""
    log = one_stream(200)
    whole = run(Detector(MODEL, settings_of()), log)[0]
    log.value[100, 1] = np.nan
    gap = run(Detector(MODEL, settings_of()), log)[0]
    assert gap.score[:100].tobytes() == whole.score[:100].tobytes()
    assert gap.score[100] < whole.score[100] + 0.5
    assert np.isfinite(gap.score).all()
    assert gap.expected[100].tobytes() == whole.expected[100].tobytes()


def test_late_readings_and_duplicates_leave_no_trace() -> None:
    log = one_stream(120)
    disturbed = [*range(60), 59, 30, *range(60, 120), 119]
    plain, other = Detector(MODEL, settings_of()), Detector(MODEL, settings_of())
    (expected,), (found,) = run(plain, log), run(other, log.take(disturbed))
    assert found.disposition[[60, 61, 122]].tolist() == [DUPLICATE, LATE, DUPLICATE]
    assert np.delete(found.score, [60, 61, 122]).tobytes() == expected.score.tobytes()
    assert memory_of(plain) == memory_of(other)


def test_the_budget_counts_readings_also_where_several_share_a_time() -> None:
    """Ten readings every ten seconds, of one time each ten, are as many a week as one a second."""
    value = one_stream(400).value
    apart = log_of([("a", float(t), value[t]) for t in range(400)], 2)
    together = log_of([("a", float(10 * (t // 10)), value[t]) for t in range(400)], 2)

    def thresholds(log: Any, budget_s: int) -> Any:
        detector = Detector(MODEL, settings_of(keeps_ties=True, budget_period_us=budget_s * SECOND_US))
        (verdicts,) = run(detector, log)
        assert not verdicts.alerts
        return verdicts.threshold[60:]

    np.testing.assert_allclose(thresholds(together, 100_000), thresholds(apart, 100_000), rtol=1e-3)
    assert (thresholds(apart, 100_000) > 1.05 * thresholds(apart, 10_000)).all()  # as it would be if the budget counted times


def test_a_forgotten_partition_begins_anew_and_the_others_do_not_notice() -> None:
    log = eventful_log(3)
    partition = log.partitions[1]
    half = len(log) // 2
    mixed = log.take(np.argsort(log.event_time_us, kind="stable").tolist())
    kept, forgetting = Detector(MODEL, settings_of()), Detector(MODEL, settings_of())
    for detector in (kept, forgetting):
        detector.detect(mixed.take(range(half)).batch(detector))
    forgetting.forget([partition])
    assert not [key for key in rows_of(forgetting) if key[0] == partition]
    assert SHARED.encode() in forgetting.names
    assert not [name for name in forgetting.names if name.startswith(b"p1/")]
    rest = mixed.take(range(half, len(mixed)))
    new = Detector(MODEL, settings_of())
    expected, found, alone = (one.detect(rest.batch(one)) for one in (kept, forgetting, new))
    is_forgotten = rest.partition == 1
    assert found.score[~is_forgotten].tobytes() == expected.score[~is_forgotten].tobytes()
    assert found.score[is_forgotten].tobytes() == alone.score[is_forgotten].tobytes()
    assert found.disposition[is_forgotten].tobytes() == alone.disposition[is_forgotten].tobytes()
    memory = memory_of(new)
    assert all(columns == memory[key] for key, columns in memory_of(forgetting).items() if key[0] == partition)


def test_a_forgotten_partition_can_be_judged_again_from_its_start() -> None:
    """As a restore does: nothing of its time or of its silences is left."""
    log = eventful_log(4, partitions=1)
    detector = Detector(MODEL, settings_of())
    first = run(detector, log, [len(log) // 2])
    memory = memory_of(detector)
    detector.forget(log.partitions)
    again = run(detector, log, [len(log) // 2])
    assert repr([verdicts.alerts for verdicts in again]) == repr([verdicts.alerts for verdicts in first])
    assert any(alert.kind == "timeout" for verdicts in first for alert in verdicts.alerts)
    assert memory_of(detector) == memory


def test_recycled_rows_and_ids_carry_nothing_over() -> None:
    """A thousand streams come and go; a stream that takes over their rows is judged as in an empty memory."""
    detector, empty = Detector(MODEL, settings_of()), Detector(MODEL, settings_of())
    other = replace(one_stream(60), partitions=(P1,))
    for generation in range(3):
        crowd = log_of([(f"{generation}/{k}", t, (k, t)) for t in range(3) for k in range(300)], 2)
        detector.detect(crowd.batch(detector))
        assert detector.streams == 300
        detector.forget([P0])
        assert detector.streams == 0
    assert detector.names.ids_end == 300
    assert len(detector.states["h"]) == 1_024
    (found,), (expected,) = run(detector, other), run(empty, other)
    assert found.score.tobytes() == expected.score.tobytes()
    assert memory_of(detector) == memory_of(empty)


def test_alerts_open_counts_both_kinds() -> None:
    values = normal_values(100, 2, 1)
    story: list[Any] = [(name, t + k / 10, values[t]) for t in range(60) for k, name in enumerate("abc")]
    story += [(name, t + k / 10, values[t] * (20 if name == "b" else 1)) for t in range(60, 85) for k, name in enumerate("bc")]
    detector = Detector(MODEL, settings_of(budget_period_us=2_000 * SECOND_US))
    run(detector, log_of(story, 2))
    assert detector.alerts_open == 2
    detector.forget([P0])
    assert detector.alerts_open == 0


def test_the_self_test_passes_here() -> None:
    assert Detector(model_of(4, hidden=64)).self_test()
    assert Detector(model_of(1, layers=2, kind="reconstruction")).self_test()


class Neighbourly(Predictor):
    """A predictor whose rows depend, in the last bit, on how many there are."""

    spoiled = "expected"

    def step(self, x: Any, h: Any, c: Any, last: Any, ahead: Any, past: Any) -> Any:
        expected = super().step(x, h, c, last, ahead, past)
        touched = {"expected": expected, "h": h, "c": c, "last": last, "ahead": ahead, "past": past[:, -1]}[self.spoiled]
        if len(x) > 512:
            touched[...] = np.nextafter(touched, np.float32(np.inf))
        return expected


@pytest.mark.parametrize("spoiled", ["expected", "h", "c", "last", "ahead", "past"])
def test_the_self_test_fails_where_a_row_depends_on_its_neighbours(spoiled: str) -> None:
    predictor = Neighbourly(2, 32, horizons=HORIZONS, lags=LAGS)
    predictor.load_state_dict(predictor_of(2, 32).state_dict())
    predictor.spoiled = spoiled
    assert not Detector(replace(MODEL, predictor=predictor)).self_test()


def test_torch_runs_on_one_thread() -> None:
    torch.set_num_threads(2)
    Detector(MODEL)
    assert torch.get_num_threads() == 1


def changed_streams(detector: Detector, verdicts: Verdicts) -> set[str]:
    rows = verdicts.changed[detector.states.slots_of(verdicts.changed) >= 0]
    return {detector.states.stream(row) for row in rows.tolist()}


@pytest.mark.parametrize("is_narrow", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_every_memory_that_changed_is_named_and_every_stream_that_was_freed(seed: int, is_narrow: bool) -> None:
    """Against the memories before and after each batch, bit for bit. A row that is not named would be lost by a snapshot."""
    log = eventful_log(seed, partitions=2)
    log = narrow(log, seed) if is_narrow else log
    log = log.take(np.argsort(log.event_time_us, kind="stable").tolist())
    detector = Detector(MODEL, settings_of())
    before: dict[Any, Any] = {}
    forgotten = 0
    for start in range(0, len(log), 40):
        verdicts = detector.detect(log.take(range(start, min(start + 40, len(log)))).batch(detector))
        after = memory_of(detector)
        rows = {key: row for key, row in rows_of(detector).items() if before.get(key) != after[key]}
        assert set(rows.values()) <= set(verdicts.changed.tolist()), start
        slots = {int(detector.states.slots_for((partition,))[0]): partition for partition in log.partitions}
        freed = {(slots[each.slot], each.name.decode()) for each in verdicts.forgotten}
        assert before.keys() - after.keys() <= freed
        assert not freed & after.keys()
        forgotten += len(freed)
        before = after
    assert forgotten


def test_a_forgotten_stream_says_since_when_its_row_was_not_saved() -> None:
    detector = Detector(MODEL, settings_of())
    detector.detect(log_of([("a", 0, 1), ("b", 0, 1)], 2).batch(detector))
    detector.states.changed_in[rows_of(detector)[P0, "a"]] = 17
    verdicts = detector.detect(log_of([("b", 200, 1)], 2).batch(detector))
    (gone,) = verdicts.forgotten
    assert (gone.name, gone.changed_in) == (b"a", 17)
    assert changed_streams(detector, verdicts) == {"b"}


def test_readings_before_the_offset_that_a_row_stands_for_only_move_the_time() -> None:
    """A row saved at offset 80, loaded, and the log read again from 30: from 80 on all is as if nothing had happened."""
    log = one_stream(120)
    whole, restored = Detector(MODEL, settings_of()), Detector(MODEL, settings_of())
    whole.detect(log.take(range(30)).batch(whole))
    time = whole.clocks[0]
    whole.detect(log.take(range(30, 80)).batch(whole))
    saved = state_of(whole, "a")
    slot = int(restored.states.slots_for((P0,))[0])
    restored.clocks.grow(1)
    restored.clocks[slot] = time
    restored.states.load(slot, [b"a"], {name: value[None] for name, value in saved.items()}, np.array([80]))
    again = restored.detect(log.take(range(30, 80)).batch(restored))
    assert set(again.disposition.tolist()) == {DUPLICATE}
    assert np.isnan(again.score).all()
    assert again.alerts == ()
    assert not len(again.changed)
    assert restored.clocks[slot] == whole.clocks[0] != time
    assert state_of(restored, "a").keys() == saved.keys()
    assert memory_of(restored) == memory_of(whole)
    expected, found = (one.detect(log.take(range(80, 120)).batch(one)) for one in (whole, restored))
    assert found.score.tobytes() == expected.score.tobytes()
    assert found.disposition.tobytes() == expected.disposition.tobytes()
    assert memory_of(restored) == memory_of(whole)


def test_a_part_is_not_held_by_a_row_that_has_it_already() -> None:
    log = narrow(one_stream(20))
    whole, restored = Detector(MODEL, settings_of()), Detector(MODEL, settings_of())
    whole.detect(log.batch(whole))
    slot = int(restored.states.slots_for((P0,))[0])
    saved = state_of(whole, "a")
    restored.states.load(slot, [b"a"], {name: value[None] for name, value in saved.items()}, np.array([log.offset[-1] + 1]))
    verdicts = restored.detect(log.batch(restored))
    assert set(verdicts.disposition.tolist()) == {DUPLICATE}
    assert memory_of(restored) == memory_of(whole)


@pytest.mark.parametrize("kind", ["timeout", "evicted"])
def test_an_absence_is_shown_by_the_message_that_moved_the_time_whatever_became_of_it(kind: str) -> None:
    """The message's own time, also where it completes an earlier reading of narrow ones, or is in its row already (as in a replay):
    otherwise a restored memory would tell of the absence with another time."""
    quick = settings_of(warmup_readings=3, silence_intervals=3.0 if kind == "timeout" else 0.0, idle_max_us=12 * SECOND_US)
    story = [(name, t, t + 1) for t in range(30) for name in ("a", "b") if name == "b" or t < 12]
    log = log_of(story, 2)
    log = replace(log, channel=np.zeros(len(log), np.int32))  # only ever half of a reading
    told = []
    for stands_for in (0, len(log)):
        detector = Detector(MODEL, quick)
        detector.detect(log.take(range(20)).batch(detector))
        rows = rows_of(detector)
        detector.states["is_open"][rows[P0, "a"]] = 1
        detector.states.stands_for[rows[P0, "b"]] = stands_for
        alerts = detector.detect(log.take(range(20, len(log))).batch(detector)).alerts
        (alert,) = (each for each in alerts if each.stream == "a" and each.reason == kind)
        assert alert.event_time_us == log.event_time_us[alert.offset]
        told.append((alert.offset, alert.event_time_us))
    assert told[0] == told[1]


def test_what_lingers_ranks_and_does_not_decide() -> None:
    """The same alerts, probabilities and memories with and without; where the score says more, what it is held against says as much more."""
    log = one_stream(400)
    log.value[150:170] *= 4
    forgets = replace(MODEL, scorer=replace(MODEL.scorer, held_share=np.zeros(1, np.float32)))
    (alone,) = run(Detector(forgets, settings_of()), log)
    (lingering,) = run(Detector(MODEL, settings_of()), log)
    assert [(a.id, a.status, a.offset) for a in alone.alerts] == [(a.id, a.status, a.offset) for a in lingering.alerts]
    assert alone.alerts
    assert alone.tail_probability.tobytes() == lingering.tail_probability.tobytes()
    assert alone.score.tobytes() == alone.alone.tobytes() == lingering.alone.tobytes()
    share, held, fading = 0.5 / 2, 0.0, np.exp(-1 / 400)  # each of two channels changes with every reading
    for t in range(400):
        assert lingering.score[t] ** 2 == pytest.approx(alone.score[t] ** 2 + share * held**2, rel=1e-4)
        assert lingering.threshold[t] ** 2 == pytest.approx(alone.threshold[t] ** 2 + share * held**2, rel=1e-4, nan_ok=True)
        held = max(held * fading, alone.score[t])
    assert held > 1
