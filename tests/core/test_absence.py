"""Streams that stay away, measured by the time that others show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detector.core.alerts import Alert
from detector.core.detector import Detector
from detector.core.readings import Disposition
from tests.core.builders import SECOND_US, START_US, Log, alerts_of, log_of, model_of, normal_values, run, settings_of

MODEL = model_of(1)
VALUES = normal_values(2_000, 1)
Reading = tuple[str, float, Any]


def ticks(stream: str, start: float, end: float, every: float = 1.0, lag: float = 0.0) -> list[Reading]:
    """A stream that sends at a regular pace in start <= t < end; `lag`: how far its clock is behind, seconds."""
    times = np.arange(start, end, every)
    return [(stream, float(t), (float(t) - lag, VALUES[k])) for k, t in enumerate(times)]


def log(*streams: list[Reading]) -> Log:
    """All of them, in the order in which they were sent."""
    sent = sorted((reading for stream in streams for reading in stream), key=lambda reading: (reading[1], reading[0]))
    return log_of([(stream, event_time, value) for stream, _, (event_time, value) in sent])


def timeouts(readings: Log, cuts: Any = (), **changes: Any) -> list[Alert]:
    detector = Detector(MODEL, settings_of(**changes))
    return [alert for alert in alerts_of(run(detector, readings, cuts)) if alert.kind == "timeout"]


@pytest.mark.parametrize("cuts", [(), range(1, 200, 7), range(1, 201)])
def test_a_stream_that_stops_is_an_alert_of_the_reading_that_shows_it(cuts: Any) -> None:
    """Last heard when the watermark stood at 59 s; eight intervals later b's reading at 67.5 s is the first beyond."""
    readings = log(ticks("a", 0, 60), ticks("b", 0.5, 90), ticks("a", 85.2, 90))
    opened, closed = timeouts(readings, cuts)
    shown = readings.stream.index("b", int(np.argmax(readings.event_time_us > START_US + 67 * SECOND_US)))
    assert (opened.stream, opened.status, opened.reason, opened.offset) == ("a", "opened", "timeout", shown)
    assert opened.event_time_us == opened.opened_at_us == START_US + 67_500_000
    assert (closed.stream, closed.status, closed.reason) == ("a", "closed", "resumed")
    assert closed.event_time_us == START_US + 85_200_000
    assert (closed.id, closed.opened_at_us) == (opened.id, opened.opened_at_us)


def test_the_alert_stays_open_until_the_stream_is_heard() -> None:
    detector = Detector(MODEL, settings_of(budget_period_us=1_000 * SECOND_US))
    run(detector, log(ticks("a", 0, 60), ticks("b", 0.5, 100)))
    assert detector.alerts_open == 1
    late: Reading = ("a", 105.0, (30.0, VALUES[0]))  # says nothing new
    assert not alerts_of(run(detector, log(ticks("b", 100.5, 110), [late])))
    assert detector.alerts_open == 1
    (closed,) = alerts_of(run(detector, log(ticks("b", 110.5, 112), ticks("a", 111, 112))))
    assert (closed.stream, closed.reason) == ("a", "resumed")
    assert detector.alerts_open == 0


def test_two_timeouts_within_a_batch_are_two_alerts() -> None:
    readings = log(ticks("b", 0.5, 140), ticks("a", 0, 60), ticks("a", 75, 100), ticks("a", 130, 135))
    first, first_end, second, second_end = timeouts(readings)
    assert [alert.reason for alert in (first, first_end, second, second_end)] == ["timeout", "resumed"] * 2
    assert first.id == first_end.id != second.id == second_end.id


def test_a_sensor_whose_clock_lags_does_not_time_out() -> None:
    assert not timeouts(log(ticks("a", 0, 300, lag=3_600), ticks("b", 0.5, 300)))
    assert timeouts(log(ticks("a", 0, 100, lag=3_600), ticks("b", 0.5, 300)))


def test_a_slow_stream_among_fast_ones_has_its_own_deadline() -> None:
    slow = ticks("slow", 0, 500, every=7)
    assert not timeouts(log(slow, ticks("fast", 0.5, 500)))
    opened, *_ = timeouts(log([reading for reading in slow if reading[1] < 400], ticks("fast", 0.5, 500)))
    assert opened.event_time_us - START_US == pytest.approx((399 + 8 * 7) * SECOND_US, abs=3 * SECOND_US)


def test_a_stream_that_comes_in_bursts_times_out_by_its_times_not_by_its_readings() -> None:
    """Fifty readings at a time, every five seconds: nobody times out between two bursts, nor is a stream known after two of them."""
    bursts = [reading for reading in ticks("a", 0, 300, every=5) for _ in range(50)]
    others = ticks("b", 0.5, 400)
    opened, *_ = timeouts(log(bursts, others), keeps_ties=True)
    assert opened.event_time_us - START_US == pytest.approx((295 + 8 * 5) * SECOND_US, abs=2 * SECOND_US)
    assert not timeouts(log(bursts[:100], others), keeps_ties=True)


def test_a_single_stream_has_nothing_to_measure_by() -> None:
    assert not timeouts(log(ticks("a", 0, 100), ticks("a", 160, 170)))


def test_streams_that_come_late_or_are_still_warming_up_do_not_time_out() -> None:
    assert not timeouts(log(ticks("b", 0, 300), ticks("born", 150.2, 200)), warmup_readings=60)
    assert not timeouts(log(ticks("b", 0, 300), [("once", 20.2, (20.2, VALUES[0]))]), warmup_readings=0)


def test_nobody_times_out_while_all_are_there() -> None:
    assert not timeouts(log(*(ticks(f"s{k}", k / 10, 200) for k in range(8))), range(1, 1_600, 13))


def test_0_intervals_turn_it_off() -> None:
    assert not timeouts(log(ticks("a", 0, 60), ticks("b", 0.5, 200)), timeout_intervals=0.0)


def test_a_stream_that_timed_out_and_is_then_evicted_closes_its_alert_and_frees_its_row() -> None:
    """Last heard at 59 s; evicted 120 s later, by b's reading at 179.5 s."""
    gone = log(ticks("a", 0, 60), ticks("b", 0.5, 300))
    back = log(ticks("a", 0, 60), ticks("b", 0.5, 300), ticks("a", 250, 255))
    for readings in (gone, back):
        for cuts in ((), (130,), range(1, len(readings))):
            opened, closed = timeouts(readings, cuts)
            assert (opened.reason, closed.reason, opened.id == closed.id) == ("timeout", "evicted", True)
            assert closed.event_time_us == START_US + 179_500_000
    detector = Detector(MODEL, settings_of(budget_period_us=10_000 * SECOND_US))  # b's scores are no matter here
    run(detector, gone)
    assert (detector.streams, detector.alerts_open) == (1, 0)
    assert b"a" not in detector.names
    run(detector, log(ticks("c", 300, 301)))
    assert len(detector.store.heads) == 1_024
    assert (detector.store.heads["seen"] > 0).sum() == 2


def test_streams_that_come_and_go_for_ever_do_not_fill_the_memory() -> None:
    detector = Detector(MODEL, settings_of(max_per_partition=20))
    for k in range(60):
        start = 40 * k
        result = run(
            detector, log(ticks("stays", start, start + 40), *(ticks(f"guest{k}-{i}", start + i + 0.5, start + i + 3) for i in range(4)))
        )
        assert not any((each.disposition == Disposition.INVALID).any() for each in result)
    assert detector.streams <= 20
    assert len(detector.names) <= 20


def test_nobody_times_out_when_the_whole_partition_pauses() -> None:
    streams = [ticks(f"s{k}", k / 10, 100) + ticks(f"s{k}", 190 + k / 10, 250) for k in range(6)]
    assert not timeouts(log(*streams))
    assert not timeouts(log(*streams), range(1, 900, 7))


def test_other_partitions_do_not_count() -> None:
    """A stream times out by the time of its own partition only."""
    here, there = log(ticks("a", 0, 60)), log(ticks("b", 0.5, 300))
    detector = Detector(MODEL, settings_of())
    elsewhere = there.take(range(len(there)))
    object.__setattr__(elsewhere, "partitions", (here.partitions[0]._replace(number=1),))
    assert not [alert for alert in alerts_of([*run(detector, here), *run(detector, elsewhere)]) if alert.kind == "timeout"]


def test_the_streams_whose_timeout_one_reading_shows_come_in_the_order_of_their_names() -> None:
    found = timeouts(log(*(ticks(name, 0.1, 60) for name in ("x", "m", "c")), ticks("b", 0, 82)))
    assert [alert.stream for alert in found] == ["c", "m", "x"]
    assert len({alert.offset for alert in found}) == 1
    assert len({alert.id for alert in found}) == 3
