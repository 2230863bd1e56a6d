"""Alerts -> what Alertmanager takes at `POST /api/v2/alerts`.

Labels are an alert's identity there: they stay the same through an episode, and no two open alerts have the same. Annotations are
for the person, and may change.

source: Alertmanager's api/v2/openapi.yaml, and Prometheus' documentation of its clients
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import TypedDict

from detector.codec.event_time import rfc3339
from detector.core.alerts import Alert, ChannelReason, Kind, Reason
from detector.errors import ConfigError

LABEL_CHARACTERS_MAX = 300  # of a label's value: Kafka's own names are shorter, a message's key may be a megabyte
CHANNELS_SHOWN_MAX = 5  # those of the largest share: a pager's screen is small

NAMES: dict[Kind, str] = {"score": "StreamAnomaly", "timeout": "StreamTimeout", "stuck": "ChannelStuck", "missing": "ChannelMissing"}
STOPPED: dict[Kind, tuple[str, str]] = {"stuck": ("no longer moves", "no longer move"), "missing": ("is missing", "are missing")}
"""What the summary says of one channel, and of several."""
OWN_LABELS = ("alertname", "stream", "kind", "severity", "group", "topic", "partition")
CLOSED_BECAUSE: dict[Reason, str] = {
    "cleared": "it is normal again",
    "reset": "its level became the stream's baseline",
    "resumed": "what was missing came back",
    "unstuck": "the channels move again",
    "evicted": "no reading came for so long that the stream was evicted",
    "escalated": "it got worse and is critical now",
}


class Posting(TypedDict):
    """One alert, as Alertmanager's API has it."""

    labels: dict[str, str]
    annotations: dict[str, str]
    startsAt: str
    endsAt: str


class AlertmanagerEncoder:
    """Writes alerts for Alertmanager. The same alert has the same labels, whichever worker sends it.

    group          the detector's
    alerts_topic   where all events of an alert are
    model_name, fingerprint   of the bundle
    labels         further ones, the same for all alerts

    raises ConfigError  `labels` has one of OWN_LABELS
    """

    def __init__(self, group: str, alerts_topic: str, model_name: str, fingerprint: str, labels: Mapping[str, str]) -> None:
        if taken := sorted(labels.keys() & set(OWN_LABELS)):
            raise ConfigError(
                f"alertmanager.labels: {', '.join(taken)}: every alert has labels of these names already", fix="choose other names"
            )
        self._group = group
        self._alerts_topic = alerts_topic
        self._model = f"{model_name} {fingerprint[:12]}"
        self._further = dict(labels)

    def posting(self, alert: Alert, closed: Alert | None, starts_us: int, ends_us: int) -> Posting:
        """An alert for Alertmanager.

        alert              as it was opened, or updated last
        closed             the event that ended it; None while it is open
        starts_us, ends_us by the clock, microseconds since the epoch; the alert is open until `ends_us`
        """
        return {
            "labels": self._labels(alert),
            "annotations": self._annotations(alert, closed),
            "startsAt": rfc3339(starts_us),
            "endsAt": rfc3339(ends_us),
        }

    def _labels(self, alert: Alert) -> dict[str, str]:
        own = (NAMES[alert.kind], alert.stream, alert.kind, alert.severity, self._group, alert.partition.topic, str(alert.partition.number))
        return {**self._further, **dict(zip(OWN_LABELS, map(_cut, own), strict=True))}

    def _annotations(self, alert: Alert, closed: Alert | None) -> dict[str, str]:
        sentences = [f"Since {rfc3339(alert.opened_at_us)} by event time.", *_details(alert)]
        if not math.isfinite(alert.score) and not alert.channels:
            sentences.append(f"Its events are in the topic {self._alerts_topic}, under its id.")
        if closed is not None:
            sentences.append(f"Over at {rfc3339(closed.event_time_us)}: {CLOSED_BECAUSE.get(closed.reason, closed.reason)}.")
        annotations = {
            "summary": _summary(alert),
            "description": " ".join(sentences),
            "id": alert.id,
            "model": self._model,
        }
        if math.isfinite(alert.score):
            annotations |= {"score": f"{alert.score:.6g}", "tail_probability": f"{alert.tail_probability:.3g}"}
        return annotations


def _summary(alert: Alert) -> str:
    """One line: the stream, and what is strange about it."""
    stream, names = _cut(alert.stream), [channel.name for channel in alert.channels[:CHANNELS_SHOWN_MAX]]
    if alert.kind == "timeout":
        return f"{stream} sends no readings"
    if alert.kind in STOPPED:
        one, many = STOPPED[alert.kind]
        return f"{stream}: {', '.join(names) or 'a channel'} {one if len(names) < 2 else many}"
    return f"{stream}: {_observed(alert.channels[0])}" if alert.channels else f"{stream} behaves unlike itself"


def _details(alert: Alert) -> list[str]:
    """Sentences on what was observed when the alert was opened, or when it got worse."""
    sentences = [f"{_observed(channel)}{_usual(channel)}." for channel in alert.channels[:CHANNELS_SHOWN_MAX]]
    if alert.status == "updated":
        sentences.insert(0, f"It got worse at {rfc3339(alert.event_time_us)}.")
    if math.isfinite(alert.tail_probability):
        sentences.append(f"A normal reading of this stream scores as high with probability {alert.tail_probability:.2g}.")
    return sentences


def _observed(channel: ChannelReason) -> str:
    return f"{channel.name} is {_number(channel.observed)}, expected {_number(channel.expected)}"


def _usual(channel: ChannelReason) -> str:
    usual = f", usually {channel.low:.6g} to {channel.high:.6g}" if math.isfinite(channel.low + channel.high) else ""
    return f"{usual} ({channel.share:.0%} of the alert)" if math.isfinite(channel.share) else usual


def _number(value: float) -> str:
    return f"{value:.6g}" if math.isfinite(value) else "missing"


def _cut(text: str) -> str:
    """A long text's beginning and a hash of the whole, so that two long names stay different."""
    if len(text) <= LABEL_CHARACTERS_MAX:
        return text
    name = hashlib.blake2s(text.encode("utf-8"), digest_size=8).hexdigest()
    return f"{text[: LABEL_CHARACTERS_MAX - len(name) - 1]}~{name}"
