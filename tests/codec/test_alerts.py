"""Alerts as CloudEvents."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import jsonschema
import pytest
from pydantic import ValidationError

from detector import __version__
from detector.codec.alerts import CHANNELS_MAX, AlertEncoder, alert_schema, decode_alert
from detector.core.alerts import Alert, ChannelReason, alert_id
from detector.core.readings import Partition

NAN = float("nan")
PARTITION = Partition("readings", 3)
ALERT = Alert(
    id=alert_id("score", "plant1/pümp7", PARTITION, 42, 0, 1_793_527_200_000_001),
    status="opened",
    kind="score",
    reason="evidence",
    severity="critical",
    stream="plant1/pümp7",
    opened_at_us=1_793_527_200_000_001,
    event_time_us=1_793_527_200_500_000,
    score=12.5,
    tail_probability=1e-9,
    channels=(ChannelReason("rpm", 1400.5, 1500.25, 1490.0, 1510.0, 0.75), ChannelReason("t", NAN, 70.0, -float("inf"), NAN, 0.25)),
    partition=PARTITION,
    offset=99,
    position=7,
)
TIMEOUT = replace(ALERT, kind="timeout", reason="resumed", status="closed", score=NAN, tail_probability=NAN, channels=())
STUCK = replace(ALERT, kind="stuck", reason="stuck", severity="warning", score=NAN, tail_probability=NAN, channels=ALERT.channels[:1])
ENCODER = AlertEncoder("plant", "sha256:abc", "/detector/test")


def test_headers_follow_the_cloudevents_binary_mode() -> None:
    message = ENCODER.message(ALERT)
    assert message.key == "plant1/pümp7".encode()
    assert dict(message.headers) == {
        "ce_specversion": b"1.0",
        "ce_id": f"{ALERT.id}/opened".encode(),
        "ce_source": b"/detector/test",
        "ce_type": b"detector.alert.opened",
        "ce_time": b"2026-11-01T10:00:00.500000Z",
        "ce_subject": "plant1/pümp7".encode(),
        "content-type": b"application/json",
    }


def test_opened_and_closed_are_two_events_of_one_alert() -> None:
    opened, closed = (dict(ENCODER.message(alert).headers) for alert in (ALERT, replace(ALERT, status="closed", reason="cleared")))
    assert opened["ce_id"] != closed["ce_id"]
    assert closed["ce_type"] == b"detector.alert.closed"


@pytest.mark.parametrize(
    "alert", [ALERT, TIMEOUT, STUCK, replace(STUCK, status="closed", reason="unstuck"), replace(STUCK, kind="missing", reason="missing")]
)
def test_value_fits_its_schema_and_reads_back(alert: Alert) -> None:
    value = ENCODER.message(alert).value
    assert value is not None
    schema = alert_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(json.loads(value), schema, format_checker=jsonschema.FormatChecker())
    event = decode_alert(value)
    assert list(json.loads(value)) == list(type(event).model_fields)
    assert (event.id, event.status, event.kind, event.reason, event.severity) == (
        alert.id,
        alert.status,
        alert.kind,
        alert.reason,
        alert.severity,
    )
    assert event.opened_at == datetime(2026, 11, 1, 10, 0, 0, 1, tzinfo=UTC)
    assert (event.input.topic, event.input.partition, event.input.offset) == ("readings", 3, 99)
    assert (event.model.name, event.model.fingerprint) == ("plant", "sha256:abc")
    assert event.detector.version == __version__


def test_what_is_not_finite_is_null() -> None:
    event = decode_alert(ENCODER.message(ALERT).value or b"")
    assert event.channels[1].observed is None
    assert event.channels[1].low is None
    assert event.channels[0].observed == 1400.5
    assert decode_alert(ENCODER.message(TIMEOUT).value or b"").score is None


def test_bytes_are_deterministic_and_bounded() -> None:
    many = replace(ALERT, channels=ALERT.channels[:1] * 1_000)
    assert ENCODER.message(many) == AlertEncoder("plant", "sha256:abc", "/detector/test").message(many)
    assert len(decode_alert(ENCODER.message(many).value or b"").channels) == CHANNELS_MAX


def test_other_bytes_are_no_alert() -> None:
    with pytest.raises(ValidationError):
        decode_alert(b'{"id": 1}')
