"""Alerts <-> CloudEvents 1.0 in Kafka's binary mode: attributes are headers, the value is JSON.

source: CloudEvents 1.0.2 and its Kafka protocol binding
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import numpy as np
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from detector import __version__
from detector.codec.event_time import rfc3339
from detector.codec.framed import unframed
from detector.codec.messages import Message
from detector.core.alerting import Alert, ChannelReason, Kind, Reason

CHANNELS_MAX = 64  # of the largest share: an alert is for a person, and a message has a limit

Number = float | None


class Part(BaseModel):
    """A part of an alert. Readers ignore fields that they do not know: more may come."""

    model_config = ConfigDict(frozen=True)


class AlertChannel(Part):
    """One channel at the alert, engineering units; null stands for missing."""

    name: str
    observed: Number = Field(description="what the sensor said")
    expected: Number = Field(description="what the model expected")
    low: Number = Field(description="lower end of the usual")
    high: Number = Field(description="upper end of the usual")
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
    status: Literal["opened", "updated", "closed"]
    kind: Kind = Field(
        description="score: the stream behaves strangely; silence: it stopped; stuck: channels that move keep their value; missing: channels "
        "that come are gone"
    )
    reason: Reason = Field(
        description="opened for evidence, silence, stuck or missing channels; updated because it got worse; closed because quiet again, "
        "accepted as the new normal, returned from silence, unstuck (all stuck channels move), resumed (all missing ones are back), or "
        "forgotten with its stream"
    )
    severity: Literal["warning", "critical"]
    stream: str
    opened_at: AwareDatetime = Field(description="event time of the reading that opened it, RFC 3339, UTC")
    event_time: AwareDatetime = Field(description="event time of the reading that this event follows from, RFC 3339, UTC")
    score: Number = Field(description="larger is stranger, and what is strange lingers in it; null unless the kind is score")
    tail_probability: Number = Field(
        description="how often a normal reading of this stream scores as high, 0 to 1; null unless the kind is score"
    )
    channels: list[AlertChannel] = Field(max_length=CHANNELS_MAX, description="the channels of the largest share, largest first")
    model: AlertModel
    detector: AlertDetector
    input: AlertInput


class AlertEncoder:
    """Writes alerts as messages. The same alert gives the same bytes, from one version of the program.

    model_name, fingerprint   of the bundle
    source                    CloudEvents `source`, a URI reference such as `/detector/GROUP`
    frame                     what stands before the JSON: Confluent's frame, or nothing
    """

    def __init__(self, model_name: str, fingerprint: str, source: str, frame: bytes = b"") -> None:
        self._model = {"name": model_name, "fingerprint": fingerprint}
        self._source = source
        self._frame = frame

    def message(self, alert: Alert) -> Message:
        """The alert for the topic of alerts: key = stream, so that an episode stays in order.

        CloudEvents wants source and id to be unique per event, and an episode is several: `ce_id` is `<alert id>/<status>`, for updates
        with the event time, of which a stream has each only once.
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
        return Message(alert.stream.encode("utf-8"), self._frame + msgspec.json.encode(self._event(alert)), headers)

    def _event(self, alert: Alert) -> dict[str, Any]:
        """The fields of `AlertEvent`, in its order."""
        return {
            "id": alert.id,
            "status": alert.status,
            "kind": alert.kind,
            "reason": alert.reason,
            "severity": alert.severity,
            "stream": alert.stream,
            "opened_at": rfc3339(alert.opened_at_us),
            "event_time": rfc3339(alert.event_time_us),
            "score": _short(alert.score),
            "tail_probability": alert.tail_probability if math.isfinite(alert.tail_probability) else None,
            "channels": [_channel(channel) for channel in alert.channels[:CHANNELS_MAX]],
            "model": self._model,
            "detector": {"version": __version__},
            "input": {"topic": alert.partition.topic, "partition": int(alert.partition.number), "offset": int(alert.offset)},
        }


def decode_alert(value: bytes) -> AlertEvent:
    """The alert in a message of the topic of alerts, framed or not.

    raises pydantic.ValidationError  when it is none
    """
    return AlertEvent.model_validate_json(unframed(value))


def alert_schema() -> dict[str, Any]:
    """The JSON Schema of an alert's value."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **AlertEvent.model_json_schema()}


def _channel(channel: ChannelReason) -> dict[str, Any]:
    return {
        "name": channel.name,
        "observed": _short(channel.observed),
        "expected": _short(channel.expected),
        "low": _short(channel.low),
        "high": _short(channel.high),
        "share": _short(channel.share),
    }


def _short(number: float) -> float | None:
    """A float32 as people write it: the shortest decimal that reads back as the same, 79.97 and not 79.97000122070312.

    JSON has no NaN and no infinity: they are null.
    """
    return float(str(np.float32(number))) if math.isfinite(number) else None
