"""Metrics of single streams: the latest judged reading of the few that are watched, and for how long all were scored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from detector.codec.readings import Decoded
from detector.core.batch_result import BatchResult
from detector.core.readings import Disposition, StreamNames

UNKNOWN_US = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class LatestReading:
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


class StreamGauges(Collector):
    """The latest judged reading of each watched stream as gauges, for as long as this process remembers the stream.

    streams   names of the watched ones
    channels  of the model
    """

    def __init__(self, streams: Sequence[str], channels: tuple[str, ...], names: StreamNames) -> None:
        self._streams, self._channels = streams, channels
        self._names = names
        self._latest: dict[str, LatestReading] = {}

    def observe(self, decoded: Decoded, result: BatchResult) -> None:
        """Keep the last judged reading of the batch, stream by stream."""
        for stream in self._streams:
            stream_id = self._names.get(stream.encode())
            if stream_id is None:
                continue
            positions = np.flatnonzero((decoded.batch.stream_id == stream_id) & np.isfinite(result.score))
            if len(positions):
                at = int(positions[-1])
                self._latest[stream] = LatestReading(
                    score=float(result.score[at]),
                    threshold=float(result.threshold[at]),
                    is_open=at in result.alert,
                    observed=tuple(decoded.batch.value[at].tolist()),
                    expected=tuple(result.expected[at].tolist()),
                    reach=tuple(result.reach[at].tolist()),
                )

    def collect(self) -> Iterable[Metric]:
        def family(name: str, help: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(
                f"detector_stream_{name}", f"Watched stream, latest judged reading: {help}.", labels=["stream", *labels]
            )

        score = family("score", "score; larger is stranger, and what is strange decays slowly in it")
        threshold = family("threshold", "score beyond which it would have opened an alert, or made an open one worse")
        is_open = family("alert_open", "1 while an alert of kind score is open, else 0")
        observed = family("observed", "observed value, engineering units", "channel")
        expected = family("expected", "value that the model expected, engineering units", "channel")
        low = family("expected_low", "lower end of where 99 % of normal readings lie", "channel")
        high = family("expected_high", "upper end of where 99 % of normal readings lie", "channel")
        for stream, latest in list(self._latest.items()):
            if stream.encode() not in self._names:  # it went to another worker, and is shown there
                continue
            score.add_metric([stream], latest.score)
            threshold.add_metric([stream], latest.threshold)
            is_open.add_metric([stream], float(latest.is_open))
            for channel, value, centre, reach in zip(self._channels, latest.observed, latest.expected, latest.reach, strict=True):
                observed.add_metric([stream, channel], value)
                expected.add_metric([stream, channel], centre)
                low.add_metric([stream, channel], centre - reach)
                high.add_metric([stream, channel], centre + reach)
        return score, threshold, is_open, observed, expected, low, high


class ScoredTime:
    """Event time over which streams were scored: what an alert budget counts by."""

    def __init__(self, names: StreamNames) -> None:
        self._names = names
        self._until_us: NDArray[np.int64] = np.empty(0, np.int64)  # by stream id

    def advance_s(self, decoded: Decoded, result: BatchResult) -> float:
        """Event time that the streams of a batch advanced by being scored, summed, seconds; warm-up is not under the budget."""
        until = self._until_us
        if self._names.ids_end > len(until):
            until = np.full(max(self._names.ids_end, 2 * len(until)), UNKNOWN_US, np.int64)
            until[: len(self._until_us)] = self._until_us
            self._until_us = until
        batch = decoded.batch
        warmup = result.disposition == Disposition.WARMUP
        until[batch.stream_id[warmup]] = batch.event_time_us[warmup]
        scored = result.disposition == Disposition.SCORED
        ids, times_us = batch.stream_id[scored], batch.event_time_us[scored]
        # Where an index occurs twice in an assignment, NumPy leaves the last value: a stream's newest reading.
        before_us = until[ids]
        until[ids] = times_us
        _, firsts = np.unique(ids, return_index=True)
        advance_us = until[ids[firsts]] - before_us[firsts]
        return float(advance_us[before_us[firsts] != UNKNOWN_US].clip(0).sum()) / 1e6
