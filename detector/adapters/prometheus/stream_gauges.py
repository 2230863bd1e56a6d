"""What the metrics know of single streams: the latest judged reading of the few that are watched, and how long all were judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.codec.readings import Decoded
from detector.core.readings import Disposition, StreamNames
from detector.core.verdicts import Verdicts

UNKNOWN_US = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Look:
    """One judged reading of a watched stream; what is missing is NaN.

    threshold            score beyond which the reading opens an alert, or makes an open one worse
    is_open              whether an alert of kind score is open after it
    observed, expected   per channel, engineering units
    reach                how far from `expected` 99 % of normal readings lie at most
    """

    score: float
    threshold: float
    is_open: bool
    observed: tuple[float, ...]
    expected: tuple[float, ...]
    reach: tuple[float, ...]


class Watched:
    """The latest judged reading of each watched stream, for as long as this process remembers the stream."""

    def __init__(self, streams: Sequence[str], names: StreamNames) -> None:
        self._streams = streams
        self._names = names
        self._looks: dict[str, Look] = {}

    def see(self, decoded: Decoded, verdicts: Verdicts) -> None:
        """Keep the last judged reading of the batch, stream by stream."""
        for stream in self._streams:
            stream_id = self._names.get(stream.encode())
            if stream_id is None:
                continue
            positions = np.flatnonzero((decoded.batch.stream_id == stream_id) & np.isfinite(verdicts.score))
            if len(positions):
                at = int(positions[-1])
                self._looks[stream] = Look(
                    score=float(verdicts.score[at]),
                    threshold=float(verdicts.threshold[at]),
                    is_open=at in verdicts.alert,
                    observed=tuple(decoded.batch.value[at].tolist()),
                    expected=tuple(verdicts.expected[at].tolist()),
                    reach=tuple(verdicts.reach[at].tolist()),
                )

    def looks(self) -> Iterator[tuple[str, Look]]:
        """Streams in memory with their latest look. One that went to another worker is shown there, and no longer here."""
        return ((stream, look) for stream, look in list(self._looks.items()) if stream.encode() in self._names)


class JudgedTime:
    """Event time over which streams were judged: what an alert budget counts by."""

    def __init__(self, names: StreamNames) -> None:
        self._names = names
        self._until_us: NDArray[np.int64] = np.empty(0, np.int64)  # by stream id

    def advance_s(self, decoded: Decoded, verdicts: Verdicts) -> float:
        """Event time that the streams of a batch advanced by being judged, summed; warm-up is not under the budget."""
        until = self._until_us
        if self._names.ids_end > len(until):
            until = np.full(max(self._names.ids_end, 2 * len(until)), UNKNOWN_US, np.int64)
            until[: len(self._until_us)] = self._until_us
            self._until_us = until
        batch = decoded.batch
        warmup = verdicts.disposition == Disposition.WARMUP
        until[batch.stream_id[warmup]] = batch.event_time_us[warmup]
        scored = verdicts.disposition == Disposition.SCORED
        ids, times_us = batch.stream_id[scored], batch.event_time_us[scored]
        # Where an index occurs twice in an assignment, NumPy leaves the last value: a stream's newest reading.
        before_us = until[ids]
        until[ids] = times_us
        _, firsts = np.unique(ids, return_index=True)
        advance_us = until[ids[firsts]] - before_us[firsts]
        return float(advance_us[before_us[firsts] != UNKNOWN_US].clip(0).sum()) / 1e6
