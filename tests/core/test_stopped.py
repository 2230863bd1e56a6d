"""Channels that are stuck or missing while they should move and come, and all that stands still, or is away, and should."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core import stopped
from detector.core.alarm import RESET_AFTER
from detector.core.alerts import Alert, alert_id
from detector.core.compiled import entry
from detector.core.detector import Detector
from detector.core.event_time import INTERVALS
from detector.core.model import Model
from detector.core.rules import Settings, rules_of
from tests.core.builders import (
    P0,
    SECOND_US,
    START_US,
    Log,
    Records,
    alerts_of,
    log_of,
    model_of,
    normal_values,
    records_of,
    run,
    settings_of,
    state_of,
)

MODEL, THREE = model_of(2), model_of(3)
READINGS = 600
AT = 300
"""Where most channels stop: a liveness of 3 x 45 is reached long before."""
MIN = INTERVALS
F4 = NDArray[np.float32]


def story(value: F4, times: Any = None, stream: str = "pump") -> Log:
    """One stream, f4[T, D]; a reading per second unless `times` (seconds) says otherwise."""
    times = np.arange(len(value)) if times is None else times
    return log_of([(stream, float(t), v) for t, v in zip(times, value, strict=True)], value.shape[1])


def stuck_at(start: int, length: int, channels: Any = (0,), readings: int = READINGS, value: F4 | None = None) -> F4:
    """Two restless channels, of which some repeat their value `length` times from `start` on."""
    value = normal_values(readings, 2, 4) if value is None else value.copy()
    for k in channels:
        value[start : start + length + 1, k] = (value[:start, k].min() + value[:start, k].max()) / 2
    return value


def gone_at(start: int, length: int, channels: Any = (0,), readings: int = READINGS, value: F4 | None = None) -> F4:
    """Two channels, of which some are missing in `length` readings from the one after `start` on: as `stuck_at` repeats a value."""
    value = normal_values(readings, 2, 4) if value is None else value.copy()
    value[start + 1 : start + length + 1, channels] = np.nan
    return value


STOPS: dict[str, Any] = {"stuck": stuck_at, "missing": gone_at}
of_each_kind = pytest.mark.parametrize("kind", STOPS)


def judged(log: Log, cuts: Any = (), model: Model = MODEL, kind: str = "stuck", **changes: Any) -> list[Alert]:
    detector = Detector(model, settings_of(**{"budget_period_us": 1e15, "timeout_intervals": 0.0} | changes))
    return [alert for alert in alerts_of(run(detector, log, cuts)) if alert.kind == kind]


@of_each_kind
@pytest.mark.parametrize("cuts", [(), range(1, READINGS, 7), range(1, READINGS)])
def test_a_channel_that_stops_is_an_alert_until_it_lives_again(cuts: Any, kind: str) -> None:
    """Found as soon as the run is longer than INTERVALS, since this channel never held a value, or was away, for two readings."""
    log = story(STOPS[kind](AT, 100))
    opened, closed = judged(log, cuts, kind=kind)
    ends = {"stuck": "unstuck", "missing": "resumed"}[kind]
    assert (opened.status, opened.kind, opened.reason, opened.severity) == ("opened", kind, kind, "warning")
    assert (closed.status, closed.kind, closed.reason, closed.severity) == ("closed", kind, ends, "warning")
    assert opened.event_time_us == opened.opened_at_us == closed.opened_at_us == START_US + (AT + MIN + 1) * SECOND_US
    assert closed.event_time_us == START_US + (AT + 101) * SECOND_US
    assert opened.id == closed.id == alert_id(kind, "pump", P0, AT + MIN + 1, 0, opened.opened_at_us)
    assert np.isnan([opened.score, opened.tail_probability, closed.score, closed.tail_probability]).all()
    for alert in (opened, closed):
        (channel,) = alert.channels
        assert (channel.name, channel.share) == ("channel0", 1.0)
        assert np.array_equal(channel.observed, log.value[alert.offset, 0], equal_nan=True)
        assert channel.low < channel.expected < channel.high
    assert np.isnan(opened.channels[0].observed) == (kind == "missing")


@of_each_kind
def test_several_channels_are_one_alert_that_names_them(kind: str) -> None:
    value = STOPS[kind](AT, 100, (0, 1), value=normal_values(READINGS, 3, 4))  # a reading without any channel would be empty
    opened, closed = judged(story(value), model=THREE, kind=kind)
    assert [(channel.name, channel.share) for channel in opened.channels] == [("channel0", 0.5), ("channel1", 0.5)]
    assert [channel.name for channel in closed.channels] == ["channel0", "channel1"]
    value[AT + 60 : AT + 101, 0] = normal_values(41, 1, 1)[:, 0]  # one of them is back: the other is not
    opened, closed = judged(story(value), model=THREE, kind=kind)
    assert closed.event_time_us == START_US + (AT + 101) * SECOND_US
    assert [channel.name for channel in closed.channels] == ["channel1"]


@of_each_kind
def test_a_channel_that_stops_while_the_alert_is_open_keeps_it_open(kind: str) -> None:
    value = STOPS[kind](AT + 40, 100, (1,), value=STOPS[kind](AT, 80, value=normal_values(READINGS, 3, 4)))
    opened, closed = judged(story(value), model=THREE, kind=kind)
    assert [channel.name for channel in opened.channels] == ["channel0"]
    assert closed.event_time_us == START_US + (AT + 141) * SECOND_US


def test_a_stuck_channel_that_goes_away_is_both() -> None:
    """It was stuck at 300 and is missing from 340 to 400; back at 401 with the same value, it is still stuck; it moves at 431."""
    value = gone_at(AT + 39, 61, value=stuck_at(AT, 130))
    detector = Detector(MODEL, settings_of(budget_period_us=1e15, timeout_intervals=0.0))
    alerts = [alert for alert in alerts_of(run(detector, story(value))) if alert.kind != "score"]
    seconds = [(alert.event_time_us - START_US) // SECOND_US for alert in alerts]
    assert [alert.reason for alert in alerts] == ["stuck", "missing", "resumed", "unstuck"]
    assert seconds == [AT + MIN + 1, AT + 39 + MIN + 1, AT + 101, AT + 131]


def test_it_is_found_in_every_stream_and_beside_a_score_alert() -> None:
    """The score may alert as well: the two know nothing of each other."""
    a, b = story(stuck_at(AT, 100), stream="a"), story(normal_values(READINGS, 2, 5), np.arange(READINGS) + 0.3, stream="b")
    order = np.argsort(np.concatenate((a.event_time_us, b.event_time_us)), kind="stable")
    both = Log(
        tuple((a.stream + b.stream)[k] for k in order),
        np.concatenate((a.event_time_us, b.event_time_us))[order],
        np.concatenate((a.value, b.value))[order],
        np.zeros(2 * READINGS, np.int32),
        np.arange(2 * READINGS),
        np.zeros(2 * READINGS, np.int32),
    )
    assert [(alert.stream, alert.reason) for alert in judged(both)] == [("a", "stuck"), ("a", "unstuck")]
    detector = Detector(MODEL, settings_of(budget_period_us=100 * SECOND_US))
    alerts = alerts_of(run(detector, both.take(range(2 * (AT + 60)))))
    assert {alert.kind for alert in alerts if alert.stream == "a" and alert.status == "opened"} == {"score", "stuck"}
    assert detector.alerts_open == sum({"opened": 1, "closed": -1}.get(alert.status, 0) for alert in alerts) >= 1


def test_ties_that_are_kept_count_as_readings_and_take_no_time() -> None:
    """Two readings per time, and the channel moves between them, not from one time to the next: a move is a move. A burst that repeats
    one value is no run, however many readings it has: it took no time."""
    moves = np.repeat(stuck_at(AT, 100), 2, axis=0)[1:]
    assert [alert.reason for alert in judged(story(moves, np.arange(len(moves)) // 2), keeps_ties=True)] == ["stuck", "unstuck"]
    burst = np.insert(normal_values(READINGS, 2, 4), [AT] * 200, normal_values(READINGS, 2, 4)[AT - 1], axis=0)
    times = np.insert(np.arange(READINGS), [AT] * 200, AT - 1)
    assert judged(story(burst, times), keeps_ties=True) == []


# -- what stands still and should -------------------------------------------------------------------------------------------------


def moves(kind: str, readings: int = 20_000, seed: int = 0) -> F4:
    """One channel that is no restless sensor."""
    rng, t = np.random.default_rng(seed), np.arange(readings)
    value = {
        "constant": np.full(readings, 7.0),
        "switch": np.cumsum(rng.random(readings) < 1 / 200) % 2,
        "set point": np.cumsum((rng.random(readings) < 1 / 700) * rng.standard_normal(readings)),
        "set point, trimmed at first": np.cumsum(
            (rng.random(readings) < np.where(t % 6_000 < 100, 0.7, 1e-4)) * rng.standard_normal(readings)
        ),
        "counter": t // 360,
        "coarse": np.round(20 + 3 * np.sin(t / 1_400) + 0.1 * rng.standard_normal(readings), 0),
        "dead band": np.round(10 * np.sin(t / 300), 0) / 3,
        "off at nights": np.where(t % 2_000 < 1_200, 50 + rng.standard_normal(readings), 0.0),
        "off at the weekend": np.where(t < 9_000, 50 + rng.standard_normal(readings), 0.25),
        "at its stop": np.minimum(50 + rng.standard_normal(readings) + 9 * (t % 3_000 > 2_000), 55),
    }[kind]
    return value[:, None].astype(np.float32)


@pytest.mark.parametrize(
    "kind",
    ["constant", "switch", "set point", "set point, trimmed at first", "counter", "coarse", "dead band", "off at nights",
     "off at the weekend", "at its stop"],
)  # fmt: skip
def test_what_does_not_move_or_is_at_rest_is_never_stuck(kind: str) -> None:
    """Although training never saw a run longer than one reading, the hardest case."""
    assert not rule(moves(kind))[0].any()


def comes(kind: str, readings: int = 20_000, seed: int = 0) -> F4:
    """One channel that is not always there."""
    rng, t = np.random.default_rng(seed), np.arange(readings)
    is_there = {
        "never": np.zeros(readings, bool),
        "hardly ever": t % 5_000 == 0,
        "now and then": rng.random(readings) < 1 / 12,
        "in every twelfth reading": t % 12 == 0,
        "every other": rng.random(readings) < 0.5,
        "with gaps": np.repeat(rng.random(readings // 20 + 1) < 0.8, 20)[:readings],
        "only at first": t < 130,
    }[kind]
    return np.where(is_there, rng.standard_normal(readings), np.nan)[:, None].astype(np.float32)


@pytest.mark.parametrize(
    "kind", ["never", "hardly ever", "now and then", "in every twelfth reading", "every other", "with gaps", "only at first"]
)
def test_what_comes_now_and_then_is_never_missing(kind: str) -> None:
    assert not rule(comes(kind), kind="missing")[0].any()


@pytest.mark.parametrize("kind", ["in every fourth reading", "every other", "with gaps"])
def test_what_comes_often_is_missed_after_several_of_its_longest_gaps(kind: str) -> None:
    """Or the test above would prove little."""
    value = comes(kind) if kind != "in every fourth reading" else np.where(np.arange(20_000) % 4 == 0, 1.0, np.nan)[:, None]
    value = value.astype(np.float32)
    value[19_000:] = np.nan
    gaps = np.diff(np.flatnonzero(~np.isnan(value[:, 0]))).max()
    (opened, *_) = np.flatnonzero(rule(value, kind="missing")[0])
    last = np.flatnonzero(~np.isnan(value[:, 0]))[-1]
    assert max(4 * gaps, MIN) < opened - last <= 5 * gaps + 1


def test_the_same_stories_would_be_found_where_the_channel_moves_and_stops_amid_its_range() -> None:
    """Or the test above would prove little."""
    value = moves("off at the weekend")
    value[9_000:] = 50.0
    event, _ = rule(value)
    assert np.flatnonzero(event)[0] == 9_000 + MIN + 1


@of_each_kind
def test_a_run_in_the_warm_up_is_not_judged(kind: str) -> None:
    """45 readings of warm-up: a channel that lives at every reading is known after 135 of them."""
    assert not judged(story(STOPS[kind](60, 200)), kind=kind)
    assert not judged(story(STOPS[kind](133, 200)), kind=kind)
    assert judged(story(STOPS[kind](137, 200)), kind=kind)


@of_each_kind
def test_a_run_that_is_longer_than_ever_but_plausible_is_none(kind: str) -> None:
    """It has shown no sign of life for 12 seconds before: nearly 60 are plausible, and after 59 a longer time is."""
    stops = STOPS[kind]
    before = stops(150, 11)
    assert not judged(story(stops(AT, 58, value=before)), kind=kind)
    opened, _ = judged(story(stops(AT, 90, value=before)), kind=kind)
    assert opened.event_time_us == START_US + (AT + 60) * SECOND_US
    again = stops(450, 110, value=stops(AT, 58, value=before))
    assert not judged(story(again), kind=kind)


@of_each_kind
def test_0_turns_it_off(kind: str) -> None:
    assert not judged(story(STOPS[kind](AT, 200)), kind=kind, stuck_run_factor=0.0)


# -- time -------------------------------------------------------------------------------------------------------------------------


def test_faster_sampling_alone_does_not_freeze_a_channel() -> None:
    """A sensor that measures every second, read every second and then thirty times as often: each value comes thirty times."""
    value = normal_values(400, 2, 4)
    fast = np.repeat(value[200:], 30, axis=0)
    times = np.concatenate((np.arange(200), 200 + np.arange(len(fast)) / 30))
    assert not judged(story(np.concatenate((value[:200], fast)), times))


@of_each_kind
def test_a_gap_is_no_run(kind: str) -> None:
    """A channel that has stopped for 12 seconds may do so for 60: the hour between two of its stream's readings counts as one."""
    value, times = STOPS[kind](AT, 40, value=STOPS[kind](150, 11)), np.arange(READINGS)
    times[AT + 10 :] += 3_600
    assert not judged(story(value, times), kind=kind, idle_ttl_us=10**15)
    assert judged(story(STOPS[kind](AT, 70, value=value), times), kind=kind, idle_ttl_us=10**15)


def test_narrow_readings_that_are_not_whole_are_no_news_of_a_channel() -> None:
    """Each message carries one channel: one alone is no reading in which the other is missing, and a second's two are one reading. A channel
    that no longer comes is missed when a later time shows so."""
    value = gone_at(AT, 100)
    rows = [(t, k) for t in range(READINGS) for k in (0, 1) if not np.isnan(value[t, k])]
    whole = log_of([("pump", t, np.where(np.arange(2) == k, value[t], np.nan).tolist()) for t, k in rows], 2)
    log = replace(whole, channel=np.array([k for _, k in rows], np.int32))
    opened, closed = judged(log, kind="missing")
    assert [channel.name for channel in opened.channels] == ["channel0"]
    assert opened.event_time_us == START_US + (AT + MIN + 1) * SECOND_US
    assert closed.event_time_us == START_US + (AT + 101) * SECOND_US


def test_slower_sampling_alone_does_not_freeze_a_channel() -> None:
    """Every fourth value is repeated once or twice, read every second and then every minute."""
    value = normal_values(READINGS, 2, 4)
    value[1::4], value[2::8] = value[0::4], value[0::8]
    times = np.concatenate((np.arange(AT), AT + 60 * np.arange(READINGS - AT)))
    assert not judged(story(value, times), idle_ttl_us=10**15)


def test_missing_values_neither_continue_nor_end_a_run() -> None:
    value = stuck_at(AT, 100)
    value[AT + 5 : AT + 45, 0] = np.nan
    opened, closed = judged(story(value))
    assert opened.event_time_us == START_US + (AT + 40 + MIN + 1) * SECOND_US
    assert closed.event_time_us == START_US + (AT + 101) * SECOND_US
    value[AT + 80 : AT + 120, 0] = np.nan  # it does not move by going away
    opened, closed = judged(story(value))
    assert closed.event_time_us == START_US + (AT + 120) * SECOND_US
    assert closed.channels[0].name == "channel0"


def test_the_time_for_which_a_value_is_missing_does_not_count() -> None:
    value = stuck_at(AT, 90, value=stuck_at(150, 11))
    value[AT + 5 : AT + 45, 0] = np.nan
    assert not judged(story(value))


# -- learning ---------------------------------------------------------------------------------------------------------------------


@entry
def play(floats, at, value, by_value, teaches, opened_at_us, rules, events, memories):  # type: ignore[no-untyped-def]
    """The rule on one stream, a reading per second. opened_at_us: i8[1]"""
    o, d, last, is_open = at[0], value.shape[1], np.full(value.shape[1], np.nan), False
    moved, about = np.zeros(d, np.float32), np.zeros(d, np.bool_)
    runs, between = (o.stuck, o.between) if by_value else (o.missing, -1)
    for t in range(value.shape[0]):
        for k in range(d):
            moved[k] = not np.isnan(value[t, k]) and value[t, k] != last[k]
            last[k] = last[k] if np.isnan(value[t, k]) else value[t, k]
        when = (1_000_000 if t > 0 else 0, 1e6, 1_000_000 * t - opened_at_us)
        events[t] = stopped.judge(floats, runs, between, value[t], moved, when, teaches[t], is_open, rules[0], about)
        if events[t] != 0:
            is_open, opened_at_us = events[t] == stopped.OPENED, 1_000_000 * t
        if t < memories.shape[0]:
            memories[t] = floats


def rule(value: F4, teaches: Any = True, kind: str = "stuck") -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """The rule alone: events; and what is remembered after each reading of a short story."""
    record, events = Records(stopped.parts(value.shape[1])), np.zeros(len(value), np.uint8)
    memories = np.zeros((len(value) if len(value) <= 2_000 else 0, record.floats.shape[1]), np.float32)
    may_learn = np.ascontiguousarray(np.broadcast_to(teaches, len(value)))
    rules = rules_of(Settings(warmup_readings=45, stuck_run_factor=5.0), MODEL.prior)
    play(record.floats[0], record.layout.offsets, np.ascontiguousarray(value), kind == "stuck", may_learn, 0, rules, events, memories)
    places = {name: (int(record.layout.offsets[name][0]), shape) for name, shape in record.layout.shapes.items()}
    return events, [{name: memory[at : at + np.prod(shape)].reshape(shape) for name, (at, shape) in places.items()} for memory in memories]


def learned(memory: dict[str, Any]) -> bytes:
    """What was learned of stuck channels: range, longest runs and liveness."""
    return bytes(memory["between"].tobytes() + memory["stuck"][[stopped.LONGEST, stopped.LIVENESS]].tobytes())


def test_a_run_teaches_when_it_has_ended_and_not_before() -> None:
    """What is known while a run is judged is what was known when it began."""
    value = stuck_at(AT, 15)[:, :1]
    _, memories = rule(value)
    during = {learned(memory) for memory in memories[AT : AT + 16]}
    assert len(during) == 1
    assert memories[AT + 15]["stuck"][stopped.LONGEST, 0] < 1.001 * SECOND_US
    assert memories[AT + 16]["stuck"][stopped.LONGEST, 0] == 16 * SECOND_US


def test_an_open_alert_teaches_nothing() -> None:
    """Neither the stuck channel nor the one beside it; nor do the readings of a score alert."""
    value = stuck_at(AT, 100)
    value[AT + 50, 1] *= 50
    event, memories = rule(value)
    opened, moved = np.flatnonzero(event)
    assert event[[opened, moved]].tolist() == [stopped.OPENED, stopped.ENDED]
    assert len({learned(memory) for memory in memories[opened : moved + 1]}) == 1
    assert learned(memories[moved + 1]) != learned(memories[moved])
    teaches = np.ones(READINGS, np.bool_)
    teaches[AT - 50 : AT + 200] = False
    _, memories = rule(value, teaches=teaches)
    assert len({learned(memory) for memory in memories[AT - 51 : AT + 200]}) == 1


def test_a_score_alert_keeps_the_history_of_runs_as_it_was() -> None:
    value = normal_values(READINGS, 2, 4)
    value[AT : AT + 30] *= 50
    detector = Detector(MODEL, settings_of(budget_period_us=1_000 * SECOND_US))
    log, while_open = story(value), set()
    known = b""
    for t in range(READINGS):
        was_open = detector.alerts_open == 1
        (result,) = run(detector, log.take([t]))
        assert {alert.kind for alert in result.alerts} <= {"score"}
        if was_open or detector.alerts_open:
            assert learned(state_of(detector, "pump")) == known
            while_open.add(t)
        known = learned(state_of(detector, "pump"))
    assert while_open >= set(range(AT, AT + 30))
    assert state_of(detector, "pump")["between"][1, 0] < np.abs(value[AT : AT + 30, 0]).max()


@of_each_kind
def test_what_stopped_often_enough_is_normal(kind: str) -> None:
    """Three alerts; then runs of that length are known, those of five times the length are not."""
    value = normal_values(2_000, 2, 4)
    for start in range(300, 1_200, 150):
        value = STOPS[kind](start, 60, value=value)
    value = STOPS[kind](1_500, 320, value=value)
    alerts = judged(story(value), kind=kind)
    assert [alert.status for alert in alerts] == ["opened", "closed"] * 4
    starts = [(alert.opened_at_us - START_US) / SECOND_US for alert in alerts[::2]]
    assert starts == [300 + MIN + 1, 450 + MIN + 1, 600 + MIN + 1, pytest.approx(1_500 + 305, abs=5)]


@of_each_kind
def test_what_was_reset_is_normal_and_opens_no_second_alert(kind: str) -> None:
    value = STOPS[kind](900, 100, value=STOPS[kind](AT, 500, readings=1_100))
    opened, closed = judged(story(value), kind=kind, reset_baseline_after_us=50 * SECOND_US)
    assert (opened.reason, closed.reason) == (kind, "reset")
    assert closed.event_time_us - opened.event_time_us == 50 * SECOND_US
    assert [channel.name for channel in closed.channels] == ["channel0"]


@of_each_kind
def test_without_a_time_an_alert_is_reset_after_many_usual_intervals(kind: str) -> None:
    readings = AT + RESET_AFTER + 100
    opened, closed = judged(story(STOPS[kind](AT, readings, readings=readings)), kind=kind)
    assert closed.reason == "reset"
    assert closed.event_time_us - opened.event_time_us == RESET_AFTER * SECOND_US


def test_what_is_normal_fades() -> None:
    """A run of 20 readings is forgotten after 20 FADE of moving; the rule is found waiting again."""
    rng = np.random.default_rng(0)
    value = rng.standard_normal((300 + 21 + 15_000, 1)).astype(np.float32)
    value[300:320] = 0.1
    short, long = value[: 300 + 21 + 500].copy(), value.copy()
    short[-80:], long[-80:] = 0.1, 0.1
    assert not (rule(short)[0] == stopped.OPENED).any()
    assert (rule(long)[0] == stopped.OPENED).any()


# -- whatever comes -----------------------------------------------------------------------------------------------------------------

PIECES = st.lists(
    st.tuples(st.sampled_from(["moves", "keeps", "gone", "pause", "coarse"]), st.integers(0, 1), st.integers(1, 70)),
    min_size=1,
    max_size=12,
)


def told(value: F4, times: Any, cuts: Any) -> tuple[list[str], Any]:
    detector = Detector(MODEL, settings_of(warmup_readings=20, reset_baseline_after_us=30 * SECOND_US, idle_ttl_us=90 * SECOND_US))
    result = run(detector, story(value, times), cuts)
    return [repr(replace(alert, position=0)) for alert in alerts_of(result)], records_of(detector)


def composed(pieces: Any, seed: int) -> tuple[F4, NDArray[np.float64]]:
    """A stream as the pieces have it: what each does to which channel and for how long."""
    rng = np.random.default_rng(seed)
    value, times = normal_values(80, 2, seed), np.ones(80)
    for what, k, length in pieces:
        piece, steps = normal_values(length, 2, int(rng.integers(99))), np.ones(length)
        match what:
            case "keeps":
                piece[:, k] = np.median(value[:, k][~np.isnan(value[:, k])])
            case "gone":
                piece[:, k] = np.nan
            case "pause":
                steps[0] = 20 + 2 * length
            case "coarse":
                piece[:, k] = np.round(piece[:, k])
        value, times = np.concatenate((value, piece)), np.concatenate((times, steps))
    return value, np.cumsum(times)


@given(pieces=PIECES, cuts=st.lists(st.integers(1, 900), max_size=8), seed=st.integers(0, 9), end=st.integers(1, 900))
@settings(max_examples=12, deadline=None)
def test_no_cut_and_no_future_changes_it(pieces: Any, cuts: list[int], seed: int, end: int) -> None:
    value, times = composed(pieces, seed)
    whole, memory = told(value, times, ())
    assert told(value, times, cuts) == (whole, memory)
    end = min(end, len(value))
    prefix, _ = told(value[:end], times[:end], cuts)
    assert whole[: len(prefix)] == prefix


def test_these_stories_are_not_empty() -> None:
    """Or the test above would prove little."""
    pieces = [("keeps", 0, 35), ("moves", 0, 20), ("keeps", 1, 70), ("gone", 0, 30), ("moves", 0, 5), ("gone", 1, 70), ("pause", 0, 70)]
    alerts, _ = told(*composed(pieces, 1), ())
    for kind, reasons in (("stuck", ("stuck", "unstuck", "reset")), ("missing", ("missing", "resumed", "reset"))):
        for reason in reasons:
            assert any(f"kind='{kind}', reason='{reason}'" in alert for alert in alerts), (kind, reason)


@pytest.mark.parametrize("cuts", [(), (AT + 40,), (AT + 60, AT + 130), range(1, 900)])
@of_each_kind
@pytest.mark.parametrize("is_back", [False, True])
def test_a_stream_that_goes_away_stopped_closes_its_alert_when_it_is_evicted(is_back: bool, cuts: Any, kind: str) -> None:
    """Last heard at 340 s; evicted 120 s later, by b's reading at 460.5 s, also if it comes back in the same batch."""
    a = STOPS[kind](AT, 100)[: AT + 41]
    readings = [("a", t, a[t]) for t in range(len(a))] + [("b", t + 0.5, a[t % 200]) for t in range(500)]
    readings += [("a", t, a[AT]) for t in range(480, 540)] if is_back else []
    log = log_of(sorted(readings, key=lambda reading: (reading[1], reading[0])), 2)
    opened, closed = judged(log, cuts, kind=kind)
    assert (opened.stream, opened.reason, closed.reason, opened.id) == ("a", kind, "evicted", closed.id)
    assert closed.event_time_us == START_US + 460_500_000
    assert closed.channels == ()


@of_each_kind
def test_an_open_alert_outlives_the_worker(kind: str) -> None:
    """Saved with its alert open, and restored: what follows is what would have been."""
    log = story(STOPS[kind](AT, 100))
    at = AT + 60
    limits = settings_of(budget_period_us=1e15)
    whole, before, after = (Detector(MODEL, limits) for _ in range(3))
    run(before, log.take(range(at)))
    after.clocks.grow(1)
    after.clocks[int(after.store.slots_for((P0,))[0])] = before.clocks[0]
    after.store.load(0, [b"pump"], before.store.records[:1], np.array([at]))
    assert after.alerts_open == 1
    (closed,) = (alert for alert in alerts_of(run(after, log.take(range(at, len(log))))) if alert.kind == kind)
    _, expected = (alert for alert in alerts_of(run(whole, log)) if alert.kind == kind)
    assert (closed.id, closed.reason, closed.event_time_us, closed.channels) == (
        expected.id,
        expected.reason,
        expected.event_time_us,
        expected.channels,
    )
    assert records_of(after) == records_of(whole)
