"""Which alerts find which faults."""

from __future__ import annotations

from dataclasses import replace

import pytest

from detector.core.alerts import Kind
from detector.lab.faults import USUAL_KINDS, Fault, FaultKind
from detector.lab.match import Opening, match

MINUTE_US = 60_000_000
SHIFT = Fault(FaultKind.LEVEL_SHIFT, "a", 100 * MINUTE_US, 120 * MINUTE_US, ("pressure",), 0.5)
FREEZE = Fault(FaultKind.FROZEN_VALUE, "a", 200 * MINUTE_US, 240 * MINUTE_US, ("current",))


def opened(stream: str, minute: float) -> Opening:
    return Opening(stream, round(minute * MINUTE_US))


@pytest.mark.parametrize(
    ("minute", "is_found"), [(99.9, False), (100, True), (119, True), (120, True), (130, True), (130.1, False), (0, False)]
)
def test_an_alert_finds_a_fault_from_its_start_to_its_end_and_the_tolerance(minute: float, is_found: bool) -> None:
    summary = match([SHIFT], [opened("a", minute)], tolerance_us=10 * MINUTE_US, stream_hours=5)
    assert summary.faults_found == is_found
    assert summary.false_alerts == (not is_found)


def test_delay_is_that_of_the_first_alert_and_further_ones_are_not_false() -> None:
    alerts = [opened("a", 125), opened("a", 104), opened("a", 215)]
    summary = match([FREEZE, SHIFT], alerts, tolerance_us=10 * MINUTE_US, stream_hours=5)
    assert (summary.faults_injected, summary.faults_found, summary.false_alerts) == (2, 2, 0)
    assert summary.delay_to_alert_s_median == pytest.approx((4 + 15) / 2 * 60)
    assert summary.kinds[FaultKind.LEVEL_SHIFT].delay_to_alert_s_median == pytest.approx(240)
    assert summary.kinds[FaultKind.SPIKE].injected == 0
    assert list(summary.kinds) == list(USUAL_KINDS)


@pytest.mark.parametrize(("kind", "fault"), [("stuck", FREEZE), ("missing", replace(FREEZE, kind=FaultKind.DROPPED_CHANNEL))])
def test_an_alert_of_a_channel_that_stopped_finds_what_it_says_only(kind: Kind, fault: Fault) -> None:
    """In another fault it is no news of it, though not false either; outside of all faults it is false."""
    alerts = [Opening("a", minute * MINUTE_US, kind) for minute in (105, 150, 210)]
    summary = match([SHIFT, fault], alerts, tolerance_us=10 * MINUTE_US, stream_hours=5)
    assert summary.missed == (SHIFT,)
    assert summary.false == (alerts[1],)
    assert summary.kinds[fault.kind].delay_to_alert_s_median == 600
    other = replace(fault, kind=FaultKind.NOISE_BURST)
    assert match([other], alerts[2:], tolerance_us=0, stream_hours=5).missed == (other,)


def test_kinds_that_are_not_usual_are_counted_where_they_were_injected() -> None:
    stuck = Fault(FaultKind.PHASE_STUCK, "a", 100 * MINUTE_US, 120 * MINUTE_US, magnitude=3.0)
    summary = match([stuck], [opened("a", 104)], tolerance_us=0, stream_hours=5)
    assert list(summary.kinds) == [*USUAL_KINDS, FaultKind.PHASE_STUCK]
    assert summary.kinds[FaultKind.PHASE_STUCK].found == 1


def test_the_streams_are_kept_apart() -> None:
    summary = match([SHIFT], [opened("b", 110)], tolerance_us=0, stream_hours=5)
    assert summary.missed == (SHIFT,)
    assert summary.false == (opened("b", 110),)


def test_an_alert_belongs_to_one_fault_only() -> None:
    summary = match([SHIFT, FREEZE], [opened("a", 205)], tolerance_us=1_000 * MINUTE_US, stream_hours=5)
    assert summary.missed == (SHIFT,)


def test_nothing_happened() -> None:
    summary = match([], [], tolerance_us=0, stream_hours=5)
    assert (summary.faults_injected, summary.faults_found, summary.false_alerts, summary.delay_to_alert_s_median) == (0, 0, 0, None)
    assert summary.stream_hours == 5
