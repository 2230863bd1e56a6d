"""Every reading gets one disposition, and is judged before it is learned from."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core import detector as module
from detector.core import walk
from detector.core.alarm import EXCESS_MIN, TAIL
from detector.core.batch_result import BatchResult
from detector.core.detector import Detector
from detector.core.model import Model
from detector.core.readings import NOT_JUDGED, Disposition, Partition
from detector.core.stream_state import HEAD, READINGS_MODULUS
from detector.lab.playback import play
from detector.lab.scoring import scored
from tests.core.builders import (
    P0,
    SECOND_US,
    log_of,
    model_of,
    normal_values,
    records_of,
    result_at,
    rows_of,
    run,
    settings_of,
    state_of,
    universal_model_of,
)
from tests.core.plant import SHARED, eventful_log, narrow

MODEL, UNIVERSAL = model_of(2), universal_model_of(2)
SCORED, WARMUP, LATE, DUPLICATE, INVALID, PARTIAL, EMPTY = Disposition
JUDGED = (SCORED, WARMUP)
P1 = Partition("readings", 1)


def one_stream(readings: int, seed: int = 5) -> Any:
    values = normal_values(readings, 2, seed)
    return log_of([("a", t, value) for t, value in enumerate(values)], 2)


def test_an_empty_batch() -> None:
    result = Detector(MODEL).detect(one_stream(3).take([]).batch(Detector(MODEL)))
    assert len(result) == 0
    assert result.expected.shape == (0, 2)
    assert result.alerts == ()


def test_preparing_it_changes_nothing() -> None:
    log, prepared, other = one_stream(60), Detector(MODEL, settings_of()), Detector(MODEL, settings_of())
    prepared.prepare()
    assert len(prepared.store) == 0
    found, expected = (run(each, log)[0] for each in (prepared, other))
    assert [result_at(found, k) for k in range(60)] == [result_at(expected, k) for k in range(60)]
    assert records_of(prepared) == records_of(other)


@given(seed=st.integers(0, 10**6), is_long=st.booleans(), max_per_partition=st.sampled_from([1, 3, 100]), batches=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_every_reading_gets_exactly_one_disposition(seed: int, is_long: bool, max_per_partition: int, batches: int) -> None:
    """Only a judged reading has a score, a probability, an expectation."""
    log = eventful_log(seed, partitions=2)
    log = narrow(log, seed) if is_long else log
    detector = Detector(MODEL, settings_of(max_per_partition=max_per_partition))
    cuts = np.random.default_rng(seed).integers(0, len(log), batches)
    count: Counter[int] = Counter()
    for result in run(detector, log, cuts.tolist()):
        count.update(result.disposition.tolist())
        judged = np.isin(result.disposition, JUDGED)
        assert (np.isfinite(result.score) == judged).all()
        assert (np.isfinite(result.tail_probability) == judged).all()
        assert (np.isfinite(result.expected).all(axis=1) == judged).all()
        assert np.isnan(result.expected[~judged]).all()
        assert (result.score[judged] >= 0).all()
        assert ((result.tail_probability[judged] > 0) & (result.tail_probability[judged] <= 1)).all()
        assert set(result.alert) <= set(np.flatnonzero(result.disposition == SCORED).tolist())
    assert sum(count.values()) == len(log)
    assert set(count) <= set(Disposition)
    assert (count[PARTIAL] > 0) == is_long


def test_readings_of_streams_beyond_the_limit_are_invalid_and_leave_no_name() -> None:
    log = log_of([(name, t, (1.0, 2.0)) for t in range(3) for name in ("a", "b", "c", "d")], 2)
    detector = Detector(MODEL, settings_of(max_per_partition=2))
    for result in run(detector, log, range(1, 12)):
        assert len(result) == 1
    assert set(detector.names) == {b"a", b"b"}
    assert detector.streams == 2
    assert detector.names.ids_end <= 3
    dispositions = np.concatenate([result.disposition for result in run(Detector(MODEL, settings_of(max_per_partition=2)), log)])
    assert dispositions.tolist() == [WARMUP, WARMUP, INVALID, INVALID] * 3


def test_readings_without_any_channel_are_empty_and_touch_no_stream() -> None:
    nothing = (np.nan, np.nan)
    rows = [("a", t, (1.0 + t % 3, 2.0)) for t in range(50)]
    empty = [(name, t, nothing) for t in range(50) for name in ("a", "stranger")]
    story = sorted([*rows, *empty], key=lambda row: row[1])
    with_them, without = Detector(MODEL, settings_of()), Detector(MODEL, settings_of())
    log = log_of(story, 2)
    found = np.concatenate([result.disposition for result in run(with_them, log, range(1, 150, 7))])
    assert found[np.isnan(log.value).all(axis=1)].tolist() == [EMPTY] * 100
    assert EMPTY not in found[~np.isnan(log.value).all(axis=1)]
    run(without, replace(log_of(rows, 2), offset=log.offset[~np.isnan(log.value).all(axis=1)]))
    assert records_of(with_them) == records_of(without)
    assert set(with_them.names) == {b"a"}


def test_an_empty_reading_moves_the_time_of_its_partition() -> None:
    rows = [("a", t, (1.0 + t % 3, 2.0)) for t in range(100)] + [("b", t, (np.nan, np.nan)) for t in range(100, 1_000)]
    detector = Detector(MODEL, settings_of(timeout_intervals=60.0))
    alerts = [alert for result in run(detector, log_of(rows, 2)) for alert in result.alerts if alert.kind == "timeout"]
    assert [(alert.stream, alert.status, alert.reason) for alert in alerts] == [("a", "opened", "timeout"), ("a", "closed", "evicted")]


def test_a_name_refused_in_one_partition_may_live_in_another() -> None:
    log = log_of([("a", 0, (1.0, 2.0)), ("b", 0, (1.0, 2.0)), ("b", 1, (1.0, 2.0)), ("b", 2, (3.0, 2.0))], 2)
    log = replace(log, partition=np.array([0, 0, 1, 1], np.int32), partitions=(P0, P1))
    detector = Detector(MODEL, settings_of(max_per_partition=1))
    assert run(detector, log)[0].disposition.tolist() == [WARMUP, INVALID, WARMUP, WARMUP]
    assert set(rows_of(detector)) == {(P0, "a"), (P1, "b")}
    assert set(detector.names) == {b"a", b"b"}


@pytest.mark.parametrize("model", [MODEL, model_of(2, 16, 2, "reconstruction"), UNIVERSAL], ids=["fleet", "reconstruction", "universal"])
def test_the_result_is_that_of_forecast_and_score_one_after_the_other(model: Model) -> None:
    """One stream, as `playback` and `sequences` have it: what is trained and calibrated with is what is judged with."""
    log = one_stream(80)
    log.value[30:33, 1] = np.nan
    (result,) = run(Detector(model, settings_of(warmup_readings=100)), log)
    played = play(model, log.value[None])
    own = (played.band_size[0], played.weight[0]) if model.is_universal else ()
    instantaneous, _, score = scored(model.score, log.value, played.x[0], played.residual[0], *own)
    assert result.instantaneous.tobytes() == instantaneous.tobytes()
    assert result.score.tobytes() == score.tobytes()
    if model.scaling is not None:
        expected = played.expected[0].astype(float) * model.scaling.scale + model.scaling.location
        assert result.expected == pytest.approx(expected, rel=1e-6)


def test_calibration_is_judged_with_before_it_learns() -> None:
    """p follows from the columns as they were before the reading, for every reading, alerts included."""
    log = one_stream(400)
    log.value[150:170] *= 4
    detector = Detector(MODEL, settings_of())
    fresh = MODEL.prior
    before = {"quantile": fresh.quantile, "excess": max(fresh.excess, EXCESS_MIN)}
    events = 0
    for t in range(400):
        result = detector.detect(log.take([t]).batch(detector))
        score, quantile = float(result.instantaneous[0]), before["quantile"]
        expected = TAIL * np.exp(-(score - quantile) / before["excess"]) if score > quantile else TAIL ** (score / quantile)
        assert result.tail_probability[0] == pytest.approx(expected, rel=1e-9)
        before = state_of(detector, "a")
        events += len(result.alerts)
    assert events >= 2


LEARNED = ("quantile", "excess", "mean", "variance", "slow_penalty")


def test_nothing_is_learned_while_an_alert_is_open() -> None:
    log = one_stream(400)
    log.value[150:170] *= 4
    detector = Detector(MODEL, settings_of(budget_period_us=5_000 * SECOND_US))
    before: dict[str, Any] = {}
    open_readings = 0
    for t in range(400):
        result = detector.detect(log.take([t]).batch(detector))
        after = {name: state_of(detector, "a")[name] for name in LEARNED}
        reasons = [alert.reason for alert in result.alerts]
        if 0 in result.alert:
            assert after == before or reasons == ["evidence"]  # then some of it was taken back, and the penalty raised
            open_readings += 1
        elif reasons == ["cleared"]:
            assert after == before
        elif t >= 45:  # no longer warming up
            assert after != before
        before = after
    assert open_readings > 40


def test_a_batch_may_lie_in_memory_as_it_likes_and_is_left_as_it_was() -> None:
    """Read-only, as from a file, or column by column; long-format readings are assembled elsewhere."""
    log = one_stream(60)
    expected = run(Detector(MODEL, settings_of()), log)[0]
    for value in (np.asfortranarray(log.value), np.frombuffer(log.value.tobytes(), np.float32).reshape(60, 2)):
        found = run(Detector(MODEL, settings_of()), replace(log, value=value))[0]
        assert [result_at(found, k) for k in range(60)] == [result_at(expected, k) for k in range(60)]
    long = narrow(log)
    before = long.value.tobytes()
    run(Detector(MODEL, settings_of()), long)
    assert long.value.tobytes() == before


@pytest.mark.parametrize("warmup", [0, 30, 120])
def test_the_warm_up_never_alerts(warmup: int) -> None:
    log = one_stream(160)
    log.value[::7] *= 100
    log.value[20:] *= 50
    (result,) = run(Detector(MODEL, settings_of(warmup_readings=warmup)), log)
    assert result.disposition.tolist() == [WARMUP] * warmup + [SCORED] * (160 - warmup)
    assert all(alert.position >= warmup for alert in result.alerts)
    assert result.alerts or warmup == 120


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
    assert records_of(plain) == records_of(other)


def test_the_budget_counts_readings_also_where_several_share_a_time() -> None:
    """Ten readings every ten seconds, of one time each ten, are as many a week as one a second."""
    value = one_stream(400).value
    apart = log_of([("a", float(t), value[t]) for t in range(400)], 2)
    together = log_of([("a", float(10 * (t // 10)), value[t]) for t in range(400)], 2)

    def thresholds(log: Any, budget_s: int) -> Any:
        detector = Detector(MODEL, settings_of(keeps_ties=True, budget_period_us=budget_s * SECOND_US))
        (result,) = run(detector, log)
        assert not result.alerts
        return result.threshold[60:]

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
    records = records_of(new)
    assert all(record == records[key] for key, record in records_of(forgetting).items() if key[0] == partition)


def test_a_forgotten_partition_can_be_judged_again_from_its_start() -> None:
    """As a restore does: nothing of its time or of its silences is left."""
    log = eventful_log(4, partitions=1)
    detector = Detector(MODEL, settings_of())
    first = run(detector, log, [len(log) // 2])
    records = records_of(detector)
    detector.forget(log.partitions)
    again = run(detector, log, [len(log) // 2])
    assert repr([result.alerts for result in again]) == repr([result.alerts for result in first])
    assert any(alert.kind == "timeout" for result in first for alert in result.alerts)
    assert records_of(detector) == records


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
    assert len(detector.store.heads) == 1_024
    (found,), (expected,) = run(detector, other), run(empty, other)
    assert found.score.tobytes() == expected.score.tobytes()
    assert records_of(detector) == records_of(empty)


def test_alerts_open_counts_both_kinds() -> None:
    values = normal_values(100, 2, 1)
    story: list[Any] = [(name, t + k / 10, values[t]) for t in range(60) for k, name in enumerate("abc")]
    story += [(name, t + k / 10, values[t] * (20 if name == "b" else 1)) for t in range(60, 85) for k, name in enumerate("bc")]
    detector = Detector(MODEL, settings_of(budget_period_us=2_000 * SECOND_US))
    run(detector, log_of(story, 2))
    assert detector.alerts_open == 2
    detector.forget([P0])
    assert detector.alerts_open == 0


def changed_streams(detector: Detector, result: BatchResult) -> set[str]:
    rows = result.changed[detector.store.slots_of(result.changed) >= 0]
    return {detector.store.stream(row) for row in rows.tolist()}


@pytest.mark.parametrize("is_long", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_every_record_that_changed_is_named_and_every_stream_that_was_freed(seed: int, is_long: bool) -> None:
    """Against the records before and after each batch, bit for bit. A row that is not named would be lost by a snapshot."""
    log = eventful_log(seed, partitions=2)
    log = narrow(log, seed) if is_long else log
    log = log.take(np.argsort(log.event_time_us, kind="stable").tolist())
    detector = Detector(MODEL, settings_of())
    before: dict[Any, Any] = {}
    evicted = 0
    for start in range(0, len(log), 40):
        result = detector.detect(log.take(range(start, min(start + 40, len(log)))).batch(detector))
        after = records_of(detector)
        rows = {key: row for key, row in rows_of(detector).items() if before.get(key) != after[key]}
        assert set(rows.values()) <= set(result.changed.tolist()), start
        slots = {int(detector.store.slots_for((partition,))[0]): partition for partition in log.partitions}
        freed = {(slots[each.slot], each.name.decode()) for each in result.evicted}
        assert before.keys() - after.keys() <= freed
        assert not freed & after.keys()
        evicted += len(freed)
        before = after
    assert evicted


def test_an_evicted_stream_says_since_when_its_row_was_not_saved() -> None:
    detector = Detector(MODEL, settings_of())
    detector.detect(log_of([("a", 0, 1), ("b", 0, 1)], 2).batch(detector))
    detector.store.changed_in[rows_of(detector)[P0, "a"]] = 17
    result = detector.detect(log_of([("b", 200, 1)], 2).batch(detector))
    (gone,) = result.evicted
    assert (gone.name, gone.changed_in) == (b"a", 17)
    assert changed_streams(detector, result) == {"b"}


def test_readings_before_the_offset_that_a_row_stands_for_only_move_the_time() -> None:
    """A row saved at offset 80, loaded, and the log read again from 30: from 80 on all is as if nothing had happened."""
    log = one_stream(120)
    whole, restored = Detector(MODEL, settings_of()), Detector(MODEL, settings_of())
    whole.detect(log.take(range(30)).batch(whole))
    time = whole.clocks[0]
    whole.detect(log.take(range(30, 80)).batch(whole))
    saved = whole.store.records[[rows_of(whole)[P0, "a"]]]
    slot = int(restored.store.slots_for((P0,))[0])
    restored.clocks.grow(1)
    restored.clocks[slot] = time
    restored.store.load(slot, [b"a"], saved, np.array([80]))
    again = restored.detect(log.take(range(30, 80)).batch(restored))
    assert set(again.disposition.tolist()) == {DUPLICATE}
    assert np.isnan(again.score).all()
    assert again.alerts == ()
    assert not len(again.changed)
    assert restored.clocks[slot] == whole.clocks[0] != time
    assert records_of(restored) == records_of(whole)
    expected, found = (one.detect(log.take(range(80, 120)).batch(one)) for one in (whole, restored))
    assert found.score.tobytes() == expected.score.tobytes()
    assert found.disposition.tobytes() == expected.disposition.tobytes()
    assert records_of(restored) == records_of(whole)


def test_a_part_is_not_held_by_a_row_that_has_it_already() -> None:
    log = narrow(one_stream(20))
    whole, restored = Detector(MODEL, settings_of()), Detector(MODEL, settings_of())
    whole.detect(log.batch(whole))
    slot = int(restored.store.slots_for((P0,))[0])
    saved = whole.store.records[[rows_of(whole)[P0, "a"]]]
    restored.store.load(slot, [b"a"], saved, np.array([log.offset[-1] + 1]))
    result = restored.detect(log.batch(restored))
    assert set(result.disposition.tolist()) == {DUPLICATE}
    assert records_of(restored) == records_of(whole)


@pytest.mark.parametrize("kind", ["timeout", "evicted"])
def test_an_absence_is_shown_by_the_message_that_moved_the_time_whatever_became_of_it(kind: str) -> None:
    """The message's own time, also where it completes an earlier reading of long-format ones, or is in its row already (as in a replay):
    otherwise a restored record would tell of the absence with another time."""
    quick = settings_of(warmup_readings=3, timeout_intervals=3.0 if kind == "timeout" else 0.0, idle_ttl_us=12 * SECOND_US)
    story = [(name, t, t + 1) for t in range(30) for name in ("a", "b") if name == "b" or t < 12]
    log = log_of(story, 2)
    log = replace(log, channel=np.zeros(len(log), np.int32))  # only ever half of a reading
    told = []
    for stands_for in (0, len(log)):
        detector = Detector(MODEL, quick)
        detector.detect(log.take(range(20)).batch(detector))
        rows = rows_of(detector)
        detector.store.heads["score_open"][rows[P0, "a"]] = 1
        detector.store.stands_for[rows[P0, "b"]] = stands_for
        alerts = detector.detect(log.take(range(20, len(log))).batch(detector)).alerts
        (alert,) = (each for each in alerts if each.stream == "a" and each.reason == kind)
        assert alert.event_time_us == log.event_time_us[alert.offset]
        told.append((alert.offset, alert.event_time_us))
    assert told[0] == told[1]


def test_the_decaying_peak_ranks_and_does_not_decide() -> None:
    """The same alerts, probabilities and records with and without; where the score says more, what it is held against says as much more."""
    log = one_stream(400)
    log.value[150:170] *= 4
    forgets = replace(MODEL, score=replace(MODEL.score, peak_share=np.zeros(1, np.float32)))
    (alone,) = run(Detector(forgets, settings_of()), log)
    (with_peak,) = run(Detector(MODEL, settings_of()), log)
    assert [(a.id, a.status, a.offset) for a in alone.alerts] == [(a.id, a.status, a.offset) for a in with_peak.alerts]
    assert alone.alerts
    assert alone.tail_probability.tobytes() == with_peak.tail_probability.tobytes()
    assert alone.score.tobytes() == alone.instantaneous.tobytes() == with_peak.instantaneous.tobytes()
    share, peak, fading = 0.5 / 2, 0.0, np.exp(-1 / 400)  # each of two channels changes with every reading
    for t in range(400):
        assert with_peak.score[t] ** 2 == pytest.approx(alone.score[t] ** 2 + share * peak**2, rel=1e-4)
        assert with_peak.threshold[t] ** 2 == pytest.approx(alone.threshold[t] ** 2 + share * peak**2, rel=1e-4, nan_ok=True)
        peak = max(peak * fading, alone.score[t])
    assert peak > 1


def test_a_reading_that_is_dropped_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass that skips one leaves it without a disposition: the service's count of dispositions then falls short of its readings."""
    judge_batch = walk.judge_batch

    def skip_the_last(store: Any, readings: Any, values: Any, *others: Any) -> Any:
        return judge_batch(store, readings[:-1], type(values)(*(each[:-1] for each in values)), *others)

    log, detector = one_stream(20), Detector(MODEL, settings_of())
    monkeypatch.setattr(module, "judge_batch", skip_the_last)
    (result,) = run(detector, log)
    assert NOT_JUDGED not in set(Disposition)
    assert result.disposition.tolist() == [WARMUP] * 19 + [NOT_JUDGED]
    assert np.isnan(result.score[-1])
    assert int(np.isin(result.disposition, list(Disposition)).sum()) == len(log) - 1


@pytest.mark.parametrize("model", [MODEL, UNIVERSAL], ids=["fleet", "universal"])
def test_the_number_of_readings_goes_around_and_nobody_notices(model: Model) -> None:
    """A stream's rings go on where they were: a multiple of their lengths before the end of the numbers, and at the beginning."""
    log, shift = one_stream(440), READINGS_MODULUS - 360  # 360 readings: a multiple of the length of every ring
    log.value[::9, 1] = np.nan
    young, old = Detector(model, settings_of()), Detector(model, settings_of())
    for detector in (young, old):
        run(detector, log.take(range(60)))
    old.store.heads["readings"] += shift
    (expected,), (found,) = (run(detector, log.take(range(60, 440))) for detector in (young, old))
    assert [result_at(found, k) for k in range(380)] == [result_at(expected, k) for k in range(380)]
    assert state_of(old, "a")["readings"] == READINGS_MODULUS // 2 + 440 - 360


ABSURD = st.one_of(st.floats(-(2.0**100), 2.0**100, width=32), st.sampled_from([0.0, 1e-30, -1e30, 1e30, 3.0, float("nan")]))


@given(st.lists(st.tuples(ABSURD, ABSURD), min_size=1, max_size=40), st.sampled_from(["fleet", "universal"]), st.integers(0, 70))
@settings(max_examples=60, deadline=None)
def test_absurd_values_leave_a_stream_usable(absurd: list[tuple[float, float]], kind: str, at: int) -> None:
    """Also one whose scales are its own: whatever came, all that is said of it and of the readings after it is a number."""
    value = np.concatenate((one_stream(80).value[:at], np.array(absurd, np.float32), one_stream(80).value))
    log = log_of([("a", t, reading) for t, reading in enumerate(value)], 2)
    detector = Detector(MODEL if kind == "fleet" else UNIVERSAL, settings_of())
    (result,) = run(detector, log)
    for name in ("score", "instantaneous", "tail_probability", "expected", "reach"):
        assert np.isfinite(getattr(result, name)[result.disposition != EMPTY]).all(), name
    assert (result.tail_probability[result.disposition != EMPTY] > 0).all()
    head = detector.store.heads[0]
    assert all(np.isfinite(head[name]) for name in HEAD.names or ())
    for alert in result.alerts:
        assert sum(channel.share for channel in alert.channels) == pytest.approx(1, abs=1e-5)
