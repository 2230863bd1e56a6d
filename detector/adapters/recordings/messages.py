"""JSON messages in a file, read as the service would read them from a topic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.codec.messages import Messages
from detector.codec.reading_format import Decoded
from detector.core.readings import Partition, ReadingBatch, StreamNames
from detector.tables.recording import IN_ORDER, UNORDERED, Recording, RejectedRow, Understanding
from detector.tables.times import far_from_rest

Decode = Callable[[Messages], Decoded]
SHOWN_CHARACTERS = 80


def as_messages(lines: Sequence[bytes], name: str, topic: str) -> Messages:
    """Lines as messages of a topic's partition 0, whose key is the file's name without ending."""
    count = len(lines)
    offsets, unknown = np.arange(count), np.full(count, -1, np.int64)
    return Messages(
        [name.split(".", maxsplit=1)[0].encode()] * count, list(lines), np.zeros(count, np.int32), offsets, unknown, (Partition(topic, 0),)
    )


@dataclass(frozen=True, slots=True)
class OrderedLines:
    """Messages in the order of their event times, where the file has them in another.

    lines, order          the lines; IN_ORDER or UNORDERED, as the file has them
    earliest_us, latest_us   bounds of event time, beyond which there are a few absurd ones; of all if there are none
    """

    lines: list[bytes]
    order: str
    earliest_us: int
    latest_us: int


def in_order(lines: Sequence[bytes], decoded: Decoded) -> OrderedLines:
    """Sort lines by the event time of their first reading, stably; a line that cannot be read stays behind the one before it.

    decoded  the lines' readings
    """
    time_us, message, stream = decoded.batch.event_time_us, decoded.message, decoded.batch.stream_id
    if not len(time_us):
        return OrderedLines(list(lines), IN_ORDER, 10**14, 10**16 - 1)
    is_far = far_from_rest(time_us)
    good = time_us[~is_far]
    bounds = int(good.min()), int(good.max())
    by_stream = np.argsort(stream[~is_far], kind="stable")
    steps = np.diff(good[by_stream])[np.diff(stream[~is_far][by_stream]) == 0]
    if (steps >= 0).all():
        return OrderedLines(list(lines), IN_ORDER, *bounds)
    first = np.full(len(lines), np.iinfo(np.int64).min)
    first[message[::-1]] = np.where(is_far, bounds[1], time_us)[::-1]
    known = np.maximum.accumulate(np.where(first != np.iinfo(np.int64).min, np.arange(len(lines)), 0))
    order = np.argsort(first[known], kind="stable")
    return OrderedLines([lines[at] for at in order.tolist()], UNORDERED, *bounds)


def recording_of(
    batches: Sequence[Decoded], names: StreamNames, channels: Sequence[str], lines: Sequence[bytes] | None, file: str
) -> Recording:
    """What was decoded, as a recording.

    batches   in log order, their messages counted on
    lines     the messages, for what is rejected; None: their text is not known
    """
    batch = _joined([decoded.batch for decoded in batches])
    stream, time_us, value = (batch.stream_id, batch.event_time_us, batch.value) if batch.channel is None else _gathered(batch)
    is_there = ~np.isnan(value).all(axis=1)
    streams, index = np.unique(stream[is_there], return_inverse=True)
    by_time = np.argsort(time_us[is_there], kind="stable")
    rejected = [
        RejectedRow(
            reject.position + 1,
            f"{reject.error}: {reject.reason}",
            lines[reject.position][:SHOWN_CHARACTERS].decode("utf-8", "replace") if lines else "",
        )
        for decoded in batches
        for reject in decoded.rejects
        for _ in range(reject.readings)
    ]
    empty = int((~is_there).sum())
    notes = (f"{empty:,} readings have none of the channels",) if empty else ()
    return Recording(
        tuple(names.name(stream_id) for stream_id in streams.tolist()),
        index.astype(np.int32)[by_time],
        time_us[is_there][by_time],
        value[is_there][by_time].astype(np.float64),
        tuple(channels),
        Understanding(
            file=file, time_columns=(), time="as `input:` says", stream="as `input:` says", rejected=tuple(rejected), notes=notes
        ),
    )


def _joined(batches: Sequence[ReadingBatch]) -> ReadingBatch:
    if len(batches) == 1:
        return batches[0]
    channels = [batch.channel for batch in batches if batch.channel is not None]
    return ReadingBatch(
        np.concatenate([batch.stream_id for batch in batches]),
        np.concatenate([batch.event_time_us for batch in batches]),
        np.concatenate([batch.value for batch in batches]),
        np.concatenate([batch.partition for batch in batches]),
        np.concatenate([batch.offset for batch in batches]),
        np.concatenate([batch.item for batch in batches]),
        batches[0].partitions,
        np.concatenate(channels) if len(channels) == len(batches) else None,
    )


def _gathered(batch: ReadingBatch) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float32]]:
    """Readings of one channel each -> those of one stream and time together; of two values of a channel the later one counts."""
    pairs = np.empty(len(batch), [("stream", "<i4"), ("time", "<i8")])
    pairs["stream"], pairs["time"] = batch.stream_id, batch.event_time_us
    whole, which = np.unique(pairs, return_inverse=True)
    value = np.full((len(whole), batch.channels), np.nan, np.float32)
    for place in range(batch.channels):
        there = ~np.isnan(batch.value[:, place])
        value[which[there], place] = batch.value[there, place]
    return whole["stream"], whole["time"], value
