"""Alerts <-> CloudEvents 1.0 in Kafka's binary mode: attributes are headers, the value is JSON.

source: CloudEvents 1.0.2 and its Kafka protocol binding
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer

from detector import __version__
from detector.codec.confluent_wire_format import unframed
from detector.codec.event_time import rfc3339, rfc3339_of, utc
from detector.codec.messages import Message
from detector.core.alerts import Alert, ChannelReason, Kind, Reason, Severity, Status

CHANNELS_MAX = 64  # those of the largest share: an alert is for a person, and a message has a size limit

Number = float | None
Moment = Annotated[AwareDatetime, PlainSerializer(rfc3339_of)]


class Part(BaseModel):
    """A part of an alert. Readers ignore unknown fields: later versions may add some."""

    model_config = ConfigDict(frozen=True)


class AlertChannel(Part):
    """One channel at the alert, engineering units; null stands for missing."""

    name: str
    observed: Number = Field(description="value of the reading")
    expected: Number = Field(description="value that the model expected")
    low: Number = Field(description="lower end of the range in which 99 % of normal readings lie")
    high: Number = Field(description="upper end of that range")
    share: Number = Field(description="part of the alert that this channel makes, 0 to 1")


class AlertModel(Part):
    """The model that judged."""

    name: str
    fingerprint: str


class AlertDetector(Part):
    """The program that judged."""

    version: str


class AlertInput(Part):
    """The message that this event follows from."""

    topic: str
    partition: int = Field(ge=0)
    offset: int = Field(ge=0)


class AlertEvent(Part):
    """An alert was opened, got worse or was closed."""

    id: str = Field(description="of the episode: all its events carry the same; the same in every replay")
    status: Status
    kind: Kind = Field(
        description="score: the stream behaves strangely; timeout: it stopped; stuck: channels that move keep their value; missing: "
        "channels that come are gone"
    )
    reason: Reason = Field(
        description="opened: evidence, timeout, stuck, missing; updated: escalated, it got worse; closed: cleared, it is normal again; reset, its level "
        "became the stream's baseline; resumed, the stream, or all channels that were missing, came back; unstuck, all channels that were stuck move again; "
        "evicted, with its stream after `streams.idle_ttl_s`"
    )
    severity: Severity
    stream: str
    opened_at: Moment = Field(description="event time of the reading that opened it, RFC 3339, UTC")
    event_time: Moment = Field(description="event time of the reading that this event follows from, RFC 3339, UTC")
    score: Number = Field(description="larger is stranger; what is strange decays slowly in it; null unless the kind is score")
    tail_probability: Number = Field(
        description="how often a normal reading of this stream scores as high, 0 to 1; null unless the kind is score"
    )
    channels: list[AlertChannel] = Field(
        max_length=CHANNELS_MAX, description="those outside their band first, then by share; the first of them"
    )
    model: AlertModel
    detector: AlertDetector
    input: AlertInput


class AlertEncoder:
    """Writes alerts as messages. The same alert gives the same bytes, from one version of the program.

    model_name, fingerprint   of the bundle
    source                    CloudEvents `source`, a URI reference such as `/detector/GROUP`
    frame                     Confluent's frame, written before the JSON; empty: none
    """

    def __init__(self, model_name: str, fingerprint: str, source: str, frame: bytes = b"") -> None:
        self._model = AlertModel(name=model_name, fingerprint=fingerprint)
        self._source = source
        self._frame = frame

    def message(self, alert: Alert) -> Message:
        """The alert as a message for the topic of alerts. Its key is the stream, so that an episode stays in order.

        CloudEvents requires source and id to be unique per event, and an episode has several events: `ce_id` is `<alert id>/<status>`; for
        updates also `/<event time>`, which is unique within a stream.
        """
        once = f"/{alert.event_time_us}" if alert.status == "updated" else ""
        attributes = {
            "ce_specversion": "1.0",
            "ce_id": f"{alert.id}/{alert.status}{once}",
            "ce_source": self._source,
            "ce_type": f"detector.alert.{alert.status}",
            "ce_time": rfc3339(alert.event_time_us),
            "ce_subject": alert.stream,
        }
        if not self._frame:
            attributes["content-type"] = "application/json"  # which a framed value is not
        headers = tuple((name, text.encode("utf-8")) for name, text in attributes.items())
        return Message(alert.stream.encode("utf-8"), self._frame + self._event(alert).model_dump_json().encode(), headers)

    def _event(self, alert: Alert) -> AlertEvent:
        # Not validated: the fields come from the core, and validation would take most of the time.
        return AlertEvent.model_construct(
            id=alert.id,
            status=alert.status,
            kind=alert.kind,
            reason=alert.reason,
            severity=alert.severity,
            stream=alert.stream,
            opened_at=utc(alert.opened_at_us),
            event_time=utc(alert.event_time_us),
            score=_short(alert.score),
            tail_probability=alert.tail_probability if math.isfinite(alert.tail_probability) else None,
            channels=[_channel(channel) for channel in alert.channels[:CHANNELS_MAX]],
            model=self._model,
            detector=AlertDetector(version=__version__),
            input=AlertInput(topic=alert.partition.topic, partition=alert.partition.number, offset=alert.offset),
        )


def decode_alert(value: bytes) -> AlertEvent:
    """The alert in a message of the topic of alerts, framed or not.

    raises pydantic.ValidationError  this is no alert
    """
    return AlertEvent.model_validate_json(unframed(value))


def alert_schema() -> dict[str, Any]:
    """The JSON Schema of an alert's value."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **AlertEvent.model_json_schema()}


def _channel(channel: ChannelReason) -> AlertChannel:
    return AlertChannel.model_construct(
        name=channel.name,
        observed=_short(channel.observed),
        expected=_short(channel.expected),
        low=_short(channel.low),
        high=_short(channel.high),
        share=_short(channel.share),
    )


def _short(number: float) -> float | None:
    """A float32 as the shortest decimal that reads back as the same: 79.97 and not 79.97000122070312. JSON has no NaN and no infinity: None."""
    return float(str(np.float32(number))) if math.isfinite(number) else None
