"""Acceptances in the log of readings: messages whose key names a stream, without a value, marked by a header.

For whoever does not know them they are tombstones of a key.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detector.codec.messages import Message, Messages
from detector.codec.readings import Decoded
from detector.core.acceptance import Acceptance

HEADER = "detector.accept"


def acceptance(stream: str) -> Message:
    """The message that accepts what this stream's open alert is about."""
    return Message(stream.encode("utf-8"), None, ((HEADER, b""),))


def with_acceptances(decoded: Decoded, messages: Messages) -> Decoded:
    """What was decoded of `messages`, the acceptances among them found: only what has no value is looked at.

    Without a key it names no stream, and stays a message that cannot be read.
    """
    marked = [
        reject.position
        for reject in decoded.rejects
        if reject.error == "NullValue"
        and messages.key[reject.position]
        and any(name == HEADER for name, _ in messages.headers(reject.position))
    ]
    if not marked:
        return decoded
    places = np.searchsorted(decoded.message, marked)
    found = tuple(
        Acceptance(messages.key[at] or b"", messages.partitions[messages.partition[at]], int(messages.offset[at]), int(place))
        for at, place in zip(marked, places.tolist(), strict=True)
    )
    no_rejects = frozenset(marked)
    return replace(decoded, rejects=tuple(each for each in decoded.rejects if each.position not in no_rejects), acceptances=found)
