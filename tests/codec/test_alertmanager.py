"""Alerts as Alertmanager takes them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.codec.alertmanager import LABEL_CHARACTERS_MAX, OWN_LABELS, AlertmanagerEncoder, Posting
from detector.core.alerts import Alert
from detector.errors import ConfigError
from tests.codec.test_alerts import ALERT, NAN, STUCK, TIMEOUT

ENCODER = AlertmanagerEncoder("test", "test.alerts", "plant", "0123456789abcdef", {"site": "north"})
UPDATED = replace(ALERT, status="updated", reason="escalated", event_time_us=ALERT.event_time_us + 60_000_000, offset=120, score=20.0)
RESTORED = replace(ALERT, event_time_us=ALERT.opened_at_us, offset=42, score=NAN, tail_probability=NAN, channels=(), position=0)
CLOSED = replace(ALERT, status="closed", reason="cleared", event_time_us=ALERT.event_time_us + 3_600_000_000, score=0.5)

MISSING = replace(STUCK, kind="missing", reason="missing", channels=tuple(replace(channel, observed=NAN) for channel in ALERT.channels))


def posted(alert: Alert, closed: Alert | None = None) -> Posting:
    return ENCODER.posting(alert, closed, ALERT.opened_at_us, ALERT.opened_at_us + 1_500_000)


def test_an_opened_alert() -> None:
    assert posted(ALERT) == {
        "labels": {
            "alertname": "StreamAnomaly",
            "stream": "plant1/pümp7",
            "kind": "score",
            "severity": "critical",
            "group": "test",
            "topic": "readings",
            "partition": "3",
            "site": "north",
        },
        "annotations": {
            "summary": "plant1/pümp7: rpm is 1400.5, expected 1500.25",
            "description": "Since 2026-11-01T10:00:00.000001Z by event time. "
            "rpm is 1400.5, expected 1500.25, usually 1490 to 1510 (75% of the alert). t is missing, expected 70 (25% of the alert). "
            "A normal reading of this stream scores as high with probability 1e-09.",
            "id": ALERT.id,
            "model": "plant 0123456789ab",
            "score": "12.5",
            "tail_probability": "1e-09",
        },
        "startsAt": "2026-11-01T10:00:00.000001Z",
        "endsAt": "2026-11-01T10:00:01.500001Z",
    }


def test_labels_are_the_same_for_all_of_an_episode_and_whoever_tells_it() -> None:
    labels = [posted(alert, closed)["labels"] for alert, closed in ((ALERT, None), (UPDATED, None), (RESTORED, None), (ALERT, CLOSED))]
    assert all(each == labels[0] for each in labels)


def test_the_own_labels_cannot_be_configured() -> None:
    assert set(OWN_LABELS) == posted(ALERT)["labels"].keys() - {"site"}
    for name in OWN_LABELS:
        with pytest.raises(ConfigError, match=f"alertmanager.labels: {name}: "):
            AlertmanagerEncoder("plant", "plant.alerts", "m", "f" * 32, {name: "x", "site": "north"})


@pytest.mark.parametrize(
    ("alert", "closed", "name", "summary", "told"),
    [
        (UPDATED, None, "StreamAnomaly", "rpm is 1400.5", "It got worse at 2026-11-01T10:01:00.500000Z. rpm is"),
        (RESTORED, None, "StreamAnomaly", "plant1/pümp7 behaves unlike itself", "Its events are in the topic test.alerts, under its id."),
        (ALERT, CLOSED, "StreamAnomaly", "rpm is 1400.5", "Over at 2026-11-01T11:00:00.500000Z: it is normal again."),
        (TIMEOUT, None, "StreamTimeout", "plant1/pümp7 sends no readings", "Since"),
        (STUCK, None, "ChannelStuck", "plant1/pümp7: rpm no longer moves", "rpm is 1400.5"),
        (replace(STUCK, channels=ALERT.channels), None, "ChannelStuck", "plant1/pümp7: rpm, t no longer move", "rpm is"),
        (replace(STUCK, channels=()), None, "ChannelStuck", "plant1/pümp7: a channel no longer moves", "test.alerts"),
        (
            replace(MISSING, channels=MISSING.channels[:1]),
            None,
            "ChannelMissing",
            "plant1/pümp7: rpm is missing",
            "rpm is missing, expected",
        ),
        (MISSING, None, "ChannelMissing", "plant1/pümp7: rpm, t are missing", "rpm is missing, expected"),
    ],
)
def test_words_for_a_person(alert: Alert, closed: Alert | None, name: str, summary: str, told: str) -> None:
    posting = posted(alert, closed)
    assert posting["labels"]["alertname"] == name
    assert summary in posting["annotations"]["summary"]
    assert told in posting["annotations"]["description"]
    assert "nan" not in posting["annotations"]["description"].lower()


@given(
    st.lists(st.text(max_size=400).map(lambda text: "x" * (len(text) % 2 * (LABEL_CHARACTERS_MAX - 20)) + text), min_size=2, unique=True)
)
def test_labels_are_short_and_two_streams_have_two(streams: list[str]) -> None:
    labels = [posted(replace(ALERT, stream=stream))["labels"]["stream"] for stream in streams]
    assert all(len(label) <= LABEL_CHARACTERS_MAX for label in labels)
    assert len(set(labels)) == len(streams)
