"""A person resets the baseline of a stream: the open alert ends, its level is normal, and cuts and replays change nothing of that."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.core.alerts import Alert
from detector.core.baseline_reset import BaselineReset
from detector.core.detector import Detector
from detector.core.model import Model
from tests.core.builders import P0, SECOND_US, Log, log_of, model_of, normal_values, records_of, settings_of, universal_model_of

FLEET, UNIVERSAL = model_of(2), universal_model_of(2)
SETTINGS = settings_of(budget_period_us=3_600 * SECOND_US, warmup_readings=100, reset_baseline_after_us=10**12, idle_ttl_us=10**12)
FAULT, RESET_AT, END = 600, 800, 1_300


def shifted(size: float = 8.0) -> NDArray[np.float32]:
    """A machine whose second channel gets another level, for good."""
    value = normal_values(END, 2, 3)
    value[FAULT:, 1] += np.float32(size * value[:FAULT, 1].std())
    return value


def readings(value: NDArray[np.float32]) -> Log:
    return log_of([("pump", t, reading) for t, reading in enumerate(value)], value.shape[1])


def reset(place: int, stream: bytes = b"pump", offset: int | None = None) -> BaselineReset:
    return BaselineReset(stream, P0, place if offset is None else offset, place)


def played(model: Model, log: Log, *resets: BaselineReset) -> tuple[Detector, list[Alert]]:
    detector = Detector(model, SETTINGS)
    return detector, list(detector.detect(log.batch(detector), resets).alerts)


@pytest.mark.parametrize("model", [FLEET, UNIVERSAL], ids=["fleet", "universal"])
def test_its_level_is_normal_from_then_on(model: Model) -> None:
    log = readings(shifted())
    _, alone = played(model, log)
    assert [alert.status for alert in alone][:1] == ["opened"]
    assert not [alert for alert in alone if alert.reason == "reset"]
    detector, alerts = played(model, log, reset(RESET_AT))
    assert [alert.reason for alert in alerts if alert.offset >= alone[0].offset] == ["evidence", "reset"]
    opened, closed = alerts[-2:]
    assert closed.id == opened.id
    assert (closed.status, closed.kind, closed.offset, closed.channels) == ("closed", "score", RESET_AT, ())
    assert closed.event_time_us == log.event_time_us[RESET_AT - 1]
    assert not detector.alerts_open


def test_a_fault_after_it_is_seen() -> None:
    value = shifted(5)
    value[1_100:1_160, 0] += np.float32(20 * value[:FAULT, 0].std())
    _, alerts = played(FLEET, readings(value), reset(RESET_AT))
    assert [(alert.reason, alert.offset > RESET_AT) for alert in alerts][:3] == [
        ("evidence", False),
        ("reset", False),
        ("evidence", True),
    ]


@pytest.mark.parametrize("kind", ["stuck", "missing"])
def test_channels_that_stopped_are_reset(kind: str) -> None:
    value = normal_values(END, 2, 3)
    value[FAULT:, 0] = np.median(value[:FAULT, 0]) if kind == "stuck" else np.nan
    detector, alerts = played(FLEET, readings(value), reset(RESET_AT))
    assert [alert.reason for alert in alerts if alert.kind == kind] == [kind, "reset"]
    assert not detector.store.heads[f"{kind}_open"].any()


@pytest.mark.parametrize(
    "nothing",
    [reset(300), reset(RESET_AT, b"another"), BaselineReset(b"pump", P0._replace(number=7), 800, 800)],
    ids=["no alert is open", "a stream that is not known", "a partition in which the stream is not"],
)
def test_where_there_is_nothing_to_reset_nothing_changes(nothing: BaselineReset) -> None:
    log = readings(shifted())
    (with_it, its), (without, theirs) = played(FLEET, log, nothing), played(FLEET, log)
    assert records_of(with_it) == records_of(without)
    assert repr(its) == repr(theirs)


def test_one_that_is_in_the_row_already_is_not_done_again() -> None:
    log = readings(shifted())
    detector, _ = played(FLEET, log)
    detector.store.stands_for[:] = RESET_AT + 1
    before = records_of(detector)
    result = detector.detect(log.take([]).batch(detector), [reset(0, offset=RESET_AT)])
    assert not result.alerts
    assert records_of(detector) == before


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=3), st.lists(st.integers(0, 400), max_size=4), st.sampled_from([FLEET, UNIVERSAL]))
def test_cuts_change_no_bit(places: list[int], cuts: list[int], model: Model) -> None:
    log, places = readings(shifted()[FAULT - 200 : FAULT + 200]), sorted([*places, 300])
    whole, expected = played(model, log, *(reset(place) for place in places))
    assert [alert.reason for alert in expected]
    detector, found = Detector(model, SETTINGS), []
    for start, end in itertools.pairwise([0, *sorted(cuts), len(log)]):
        own = [reset(place - start, offset=place) for place in places if start <= place < end or place == end == len(log)]
        result = detector.detect(log.take(range(start, end)).batch(detector), own)
        found += [replace(alert, position=start + alert.position) for alert in result.alerts]
        places = [place for place in places if place >= end and not place == end == len(log)]
    assert repr(found) == repr(expected)
    assert records_of(detector) == records_of(whole)
