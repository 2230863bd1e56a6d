"""Metrics and health; `adapters.http_server` serves them.

A batch is counted in `observe`, once, after its commit. The worker's `ports.WorkerStats` are read at each scrape.
docs/metrics.md lists every metric; a test keeps it complete.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from detector.adapters.prometheus.collectors import AlertmanagerCollector, ServiceCollector, ServiceInfo, WorkerCollector, overdue_s
from detector.adapters.prometheus.stream_gauges import ScoredTime, StreamGauges
from detector.codec.readings import Decoded
from detector.core.batch_result import BatchResult
from detector.core.readings import Disposition, StreamNames
from detector.ports import LATENCY, AlertmanagerStats, Observer, WorkerState, WorkerStats

READINGS_BUCKETS = (1, 10, 100, 1_000, 2_500, 5_000, 10_000, 100_000, 1_000_000)
SECONDS_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# Series that exist from the start: a rate over one that appears with its first alert would miss that alert.
OPENED = (("score", "evidence"), *((kind, kind) for kind in ("timeout", "stuck", "missing")))
UPDATED = (("score", "escalated"),)
CLOSED = (
    *(("score", reason) for reason in ("cleared", "reset", "evicted")),
    *(("timeout", reason) for reason in ("resumed", "evicted")),
    *(("stuck", reason) for reason in ("unstuck", "reset", "evicted")),
    *(("missing", reason) for reason in ("resumed", "reset", "evicted")),
)


class Telemetry(Observer):
    """Counts what became of each batch (a `ports.Observer`) and shows it, together with the worker's stats.

    now_s   the clock that event times are compared with, seconds since the epoch
    alertmanagers  what is sent to each Alertmanager
    """

    def __init__(
        self,
        info: ServiceInfo,
        stats: WorkerStats,
        names: StreamNames,
        now_s: Callable[[], float] = time.time,
        alertmanagers: Sequence[AlertmanagerStats] = (),
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # not annotated there; a process-wide switch of the library: the start of a counter is of no use to anyone here
        self.registry = CollectorRegistry(auto_describe=True)
        self._stats = stats
        self._newest_us = math.nan
        self._scored_time = ScoredTime(names)
        self._streams = StreamGauges(info.watch, info.channels, names)
        self._declare(now_s)
        for collector in (
            WorkerCollector(stats, info.channels),
            AlertmanagerCollector(alertmanagers),
            ServiceCollector(info),
            self._streams,
        ):
            self.registry.register(collector)
        for standard in (ProcessCollector, PlatformCollector, GCCollector):
            standard(registry=self.registry)

    def _declare(self, now_s: Callable[[], float]) -> None:
        registry = self.registry
        self._readings = Counter("detector_readings", "Readings by what became of them.", ["disposition"], registry=registry)
        self._opened = Counter("detector_alerts_opened", "Alerts opened.", ["kind", "reason"], registry=registry)
        self._updated = Counter("detector_alerts_updated", "Open alerts that got worse.", ["kind", "reason"], registry=registry)
        self._closed = Counter("detector_alerts_closed", "Alerts closed.", ["kind", "reason"], registry=registry)
        self._batch_readings = Histogram("detector_batch_readings", "Readings per batch.", buckets=READINGS_BUCKETS, registry=registry)
        self._stage_duration = Histogram(
            "detector_stage_duration_seconds", "Time per batch, by stage.", ["stage"], buckets=SECONDS_BUCKETS, registry=registry
        )
        self._commit_latency = Histogram(
            "detector_batch_commit_latency_seconds",
            "From the fetch of a batch to its commit: alerts are published, offsets committed.",
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        delay = Gauge(
            "detector_event_time_delay_seconds",
            "How far the newest event time of the latest batch lies behind the clock; negative: ahead of it.",
            registry=registry,
        )
        delay.set_function(lambda: now_s() - self._newest_us / 1e6)
        self._scored_event_time = Counter(
            "detector_scored_event_time_seconds", "Event time over which streams were scored, summed over streams.", registry=registry
        )
        self._ignored = Counter(
            "detector_readings_ignored", "Long-format values of channels that the model does not have.", registry=registry
        )
        for disposition in Disposition:
            self._readings.labels(disposition.name.lower())
        for counter, known in ((self._opened, OPENED), (self._updated, UPDATED), (self._closed, CLOSED)):
            for kind, reason in known:
                counter.labels(kind, reason)

    def observe(self, decoded: Decoded, result: BatchResult, seconds: Mapping[str, float]) -> None:
        """Count one batch."""
        batch = decoded.batch
        counts = np.bincount(result.disposition, minlength=max(Disposition) + 1)
        counts[Disposition.INVALID] += sum(reject.readings for reject in decoded.rejects)
        for disposition in Disposition:
            if counts[disposition]:
                self._readings.labels(disposition.name.lower()).inc(int(counts[disposition]))
        self._ignored.inc(decoded.ignored)
        for alert in result.alerts:
            counter = {"opened": self._opened, "updated": self._updated, "closed": self._closed}[alert.status]
            counter.labels(alert.kind, alert.reason).inc()
        self._batch_readings.observe(len(batch))
        for stage, spent_s in seconds.items():
            (self._commit_latency if stage == LATENCY else self._stage_duration.labels(stage)).observe(spent_s)
        valid = result.disposition != Disposition.INVALID
        if valid.any():
            self._newest_us = float(batch.event_time_us[valid].max())
        self._scored_event_time.inc(self._scored_time.advance_s(decoded, result))
        self._streams.observe(decoded, result)

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """Everything, in the format that the header Accept asks for (Prometheus text or OpenMetrics), and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def healthy(self) -> tuple[bool, str]:
        """The worker moves, or has stopped in order. What restarting the process would not cure is not unhealthy."""
        late_s = overdue_s(self._stats)
        return (False, f"the worker should have moved {late_s:.0f} s ago") if late_s > 0 else (True, "healthy")

    def ready(self) -> tuple[bool, str]:
        """The worker judges what comes."""
        state = self._stats.state
        return state is WorkerState.RUNNING, state.value
