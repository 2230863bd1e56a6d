"""Messages that could not be read -> dead letters: byte for byte what came, and why it was refused.

The headers are Kafka Connect's (KIP-298), so that tools for its dead letter queues read ours too.
"""

from __future__ import annotations

from collections.abc import Iterable

from detector.codec.formats import Reject
from detector.codec.messages import Message, Messages

REASON_CHARACTERS_MAX = 1_000
PREFIX = "__connect.errors."


def dead_letter(messages: Messages, reject: Reject) -> Message:
    """The message of `reject` with its reason: key, value and headers unchanged, headers of our own behind them."""
    return _dead_letter(messages, [reject])


def dead_letters(messages: Messages, rejects: Iterable[Reject]) -> list[Message]:
    """One dead letter per message, in log order, however many of its readings are lost."""
    by_position: dict[int, list[Reject]] = {}
    for reject in rejects:
        by_position.setdefault(reject.position, []).append(reject)
    return [_dead_letter(messages, by_position[position]) for position in sorted(by_position)]


def _dead_letter(messages: Messages, rejects: list[Reject]) -> Message:
    position = rejects[0].position
    partition = messages.partitions[int(messages.partition[position])]
    errors = {
        "topic": partition.topic,
        "partition": str(partition.number),
        "offset": str(int(messages.offset[position])),
        "exception.class.name": rejects[0].error,
        "exception.message": _reason(rejects),
    }
    headers = [(PREFIX + name, text.encode("utf-8", "replace")) for name, text in errors.items()]
    return Message(messages.key[position], messages.value[position], (*messages.headers(position), *headers))


def _reason(rejects: list[Reject]) -> str:
    """All reasons, each with the number of readings lost by it where there are several, at most REASON_CHARACTERS_MAX long."""
    lost = [f"{reject.reason} ({reject.readings} readings)" if reject.readings > 1 else reject.reason for reject in rejects]
    reason = "; ".join(lost)
    return reason if len(reason) <= REASON_CHARACTERS_MAX else reason[: REASON_CHARACTERS_MAX - 3] + "..."
