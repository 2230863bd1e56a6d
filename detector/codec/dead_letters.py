"""Messages that could not be read -> dead letters: the message byte for byte, and the reason.

The headers are Kafka Connect's (KIP-298), so that tools for its dead letter queues read these too.
"""

from __future__ import annotations

from collections.abc import Iterable

from detector.codec.messages import Message, Messages
from detector.codec.reading_format import STREAM_BYTES_MAX, Reject

REASON_CHARACTERS_MAX = 1_000
PREFIX = "__connect.errors."
REASON = tuple(PREFIX + name for name in ("topic", "partition", "offset", "exception.class.name", "exception.message"))
OMITTED = PREFIX + "omitted"


def dead_letters(messages: Messages, rejects: Iterable[Reject]) -> list[Message]:
    """The refused messages, key, value and headers unchanged, each with its reason in headers of our own behind them.

    One dead letter per message, in log order, however many of its readings are lost.
    """
    by_position: dict[int, list[Reject]] = {}
    for reject in rejects:
        by_position.setdefault(reject.position, []).append(reject)
    return [_dead_letter(messages, by_position[position]) for position in sorted(by_position)]


def reason_only(dead_letter: Message) -> Message:
    """A dead letter that is too large, cut to some kilobytes: where the original is, and the reason.

    Left out are its value, its own headers, and a key too long for a stream's name; the header OMITTED says so.
    """
    key = dead_letter.key if len(dead_letter.key or b"") <= STREAM_BYTES_MAX else None
    left_out = []
    if dead_letter.value is not None:
        left_out.append(f"value ({len(dead_letter.value)} bytes)")
    if key != dead_letter.key:
        left_out.append(f"key ({len(dead_letter.key or b'')} bytes)")
    if len(dead_letter.headers) > len(REASON):
        left_out.append(f"headers ({len(dead_letter.headers) - len(REASON)})")
    return Message(key, None, (*dead_letter.headers[-len(REASON) :], (OMITTED, ", ".join(left_out).encode())))


def _dead_letter(messages: Messages, rejects: list[Reject]) -> Message:
    position = rejects[0].position
    partition = messages.partitions[int(messages.partition[position])]
    texts = (partition.topic, str(partition.number), str(int(messages.offset[position])), rejects[0].error, _reason(rejects))
    headers = [(name, text.encode("utf-8", "replace")) for name, text in zip(REASON, texts, strict=True)]
    return Message(messages.key[position], messages.value[position], (*messages.headers(position), *headers))


def _reason(rejects: list[Reject]) -> str:
    """All reasons, each with the number of readings lost by it where there are several, at most REASON_CHARACTERS_MAX long."""
    lost = [f"{reject.reason} ({reject.readings} readings)" if reject.readings > 1 else reject.reason for reject in rejects]
    reason = "; ".join(lost)
    return reason if len(reason) <= REASON_CHARACTERS_MAX else reason[: REASON_CHARACTERS_MAX - 3] + "..."
