"""Baseline resets in the log of readings: messages without a value, with a header, whose key names the stream.

Other readers of the topic take them for tombstones.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from detector.codec.messages import Message, Messages
from detector.codec.readings import Decoded
from detector.core.baseline_reset import BaselineReset

HEADER = "detector.reset_baseline"


def baseline_reset(stream: str) -> Message:
    """The message that resets the baseline of a stream."""
    return Message(stream.encode("utf-8"), None, ((HEADER, b""),))


def with_baseline_resets(decoded: Decoded, messages: Messages) -> Decoded:
    """The same, with the baseline resets of `messages` taken out of the rejects. Only messages without a value are examined.

    One without a key names no stream, and stays a reject.
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
        BaselineReset(messages.key[at] or b"", messages.partitions[messages.partition[at]], int(messages.offset[at]), int(place))
        for at, place in zip(marked, places.tolist(), strict=True)
    )
    is_reset = frozenset(marked)
    rejects = tuple(each for each in decoded.rejects if each.position not in is_reset)
    return replace(decoded, rejects=rejects, baseline_resets=found)
