"""Metrics and health; `adapters.http` serves them.

The batch's own figures are counted in `observe`, once per batch. How the worker is (`ports.Vitals`) is read at each scrape.
docs/metrics.md lists every metric; a test keeps it complete.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

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
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from detector.adapters.watched import JudgedTime, Watched
from detector.codec.formats import ErrorName
from detector.codec.readings import Decoded
from detector.core.readings import Disposition, StreamNames
from detector.core.verdicts import Verdicts
from detector.ports import LATENCY, LOG_CHANGES, MISSED, Observer, Onward, Vitals, WorkerState

READINGS_BUCKETS = (1, 10, 100, 1_000, 2_500, 5_000, 10_000, 100_000, 1_000_000)
SECONDS_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# Series that exist from the start: a rate over one that appears with its first alert would miss that alert.
OPENED = (("score", "evidence"), *((kind, kind) for kind in ("silence", "stuck", "missing")))
UPDATED = (("score", "worse"),)
CLOSED = (
    *(("score", reason) for reason in ("quiet", "accepted", "forgotten")),
    *(("silence", reason) for reason in ("returned", "forgotten")),
    *(("stuck", reason) for reason in ("unstuck", "accepted", "forgotten")),
    *(("missing", reason) for reason in ("resumed", "accepted", "forgotten")),
)
ERRORS = (*get_args(ErrorName), "TooManyStreams")
HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class About:
    """What this process is and was set to.

    group                consumer group
    budget_period_us     event time per acceptable false alert of one stream, microseconds
    streams_max          streams in memory per partition at most
    snapshot_interval_s  every memory that changed is saved after one to two of these; 0: memories are not kept
    watch                streams that get series of their own
    """

    version: str
    group: str
    model: str
    fingerprint: str
    channels: tuple[str, ...]
    budget_period_us: float
    streams_max: int
    snapshot_interval_s: float
    watch: tuple[str, ...] = ()


class Telemetry(Observer):
    """Counts what became of each batch (a `ports.Observer`) and shows it, together with the worker's vitals.

    now_s   the clock that event times are compared with, seconds since the epoch
    onward  how telling each Alertmanager goes
    """

    def __init__(
        self,
        about: About,
        vitals: Vitals,
        names: StreamNames,
        now_s: Callable[[], float] = time.time,
        onward: Sequence[Onward] = (),
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call] # not annotated there; a process-wide switch of the library: the start of a counter is of no use to anyone here
        self.registry = CollectorRegistry(auto_describe=True)
        self._vitals = vitals
        self._newest_us = math.nan
        self._judged_time = JudgedTime(names)
        self._watched = Watched(about.watch, names)
        self._declare(now_s)
        for collector in (
            _VitalsCollector(vitals),
            _OnwardCollector(onward),
            _AboutCollector(about),
            _WatchedCollector(self._watched, about.channels),
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
        self._room_seconds = Histogram(
            "detector_room_seconds", "Time per batch, by room.", ["room"], buckets=SECONDS_BUCKETS, registry=registry
        )
        self._latency = Histogram(
            "detector_latency_seconds",
            "From the fetch of a batch until its decisions were true: alerts out, offsets committed.",
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        delay = Gauge(
            "detector_event_time_delay_seconds",
            "How far the newest event time of the latest batch lies behind the clock; negative: ahead of it.",
            registry=registry,
        )
        delay.set_function(lambda: now_s() - self._newest_us / 1e6)
        self._stream_seconds = Counter(
            "detector_stream_seconds", "Event time over which streams were judged, summed over streams.", registry=registry
        )
        self._ignored = Counter("detector_readings_ignored", "Narrow readings of channels that are not the model's.", registry=registry)
        for disposition in Disposition:
            self._readings.labels(disposition.name.lower())
        for counter, known in ((self._opened, OPENED), (self._updated, UPDATED), (self._closed, CLOSED)):
            for kind, reason in known:
                counter.labels(kind, reason)

    def observe(self, decoded: Decoded, verdicts: Verdicts, seconds: Mapping[str, float]) -> None:
        """Count one batch."""
        batch = decoded.batch
        counts = np.bincount(verdicts.disposition, minlength=len(Disposition))
        counts[Disposition.INVALID] += sum(reject.readings for reject in decoded.rejects)
        for disposition in Disposition:
            if counts[disposition]:
                self._readings.labels(disposition.name.lower()).inc(int(counts[disposition]))
        self._ignored.inc(decoded.ignored)
        for alert in verdicts.alerts:
            counter = {"opened": self._opened, "updated": self._updated, "closed": self._closed}[alert.status]
            counter.labels(alert.kind, alert.reason).inc()
        self._batch_readings.observe(len(batch))
        for room, spent_s in seconds.items():
            (self._latency if room == LATENCY else self._room_seconds.labels(room)).observe(spent_s)
        valid = verdicts.disposition != Disposition.INVALID
        if valid.any():
            self._newest_us = float(batch.event_time_us[valid].max())
        self._stream_seconds.inc(self._judged_time.advance_s(decoded, verdicts))
        self._watched.see(decoded, verdicts)

    def metrics(self, accept: str) -> tuple[bytes, str]:
        """Everything, in the format that the header Accept asks for (Prometheus text or OpenMetrics), and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def healthy(self) -> tuple[bool, str]:
        """The worker moves, or has stopped in order. What restarting the process would not cure is not unhealthy."""
        late_s = _late_s(self._vitals)
        return (False, f"the worker should have moved {late_s:.0f} s ago") if late_s > 0 else (True, "healthy")

    def ready(self) -> tuple[bool, str]:
        """The worker judges what comes."""
        state = self._vitals.state
        return state is WorkerState.RUNNING, state.value


def _late_s(vitals: Vitals) -> float:
    """How long ago the worker should have moved; not above 0 if it is well, or has stopped in order."""
    return 0.0 if vitals.state is WorkerState.STOPPED else time.monotonic() - vitals.alive_until_s


class _VitalsCollector(Collector):
    """The worker's vitals as metrics, read at each scrape."""

    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals

    def collect(self) -> Iterable[Metric]:
        vitals = self._vitals
        yield CounterMetricFamily("detector_messages_polled", "Messages polled.", vitals.messages)
        yield CounterMetricFamily("detector_readings_polled", "Readings polled, whatever became of them.", vitals.readings)
        yield CounterMetricFamily("detector_readings_unaccounted", "Readings without a disposition; a bug.", vitals.unaccounted)
        dead = CounterMetricFamily("detector_dead_letters", "Dead letters written, by the kind of error.", labels=["error"])
        for error, count in {**dict.fromkeys(ERRORS, 0), **vitals.dead_letters}.items():
            dead.add_metric([error], count)
        yield dead
        yield CounterMetricFamily("detector_commits", "Batches that became true.", vitals.commits)
        yield CounterMetricFamily("detector_commits_aborted", "Commits after which memories were restored.", vitals.commits_aborted)
        yield CounterMetricFamily(
            "detector_log_unavailable", "Calls that the log, or the schema registry, could not answer.", vitals.log_unavailable
        )
        yield GaugeMetricFamily("detector_backoff_seconds", "Length of the pause in progress; 0 if none.", vitals.backoff_s)
        yield GaugeMetricFamily("detector_partitions_assigned", "Partitions that this worker reads.", vitals.partitions)
        yield GaugeMetricFamily(
            "detector_input_topics_missing", "Input topics that cannot be judged now, or not whole.", len(vitals.topics_missing)
        )
        lag = GaugeMetricFamily("detector_lag_messages", "Messages not yet read.", labels=["topic", "partition"])
        for partition, messages in vitals.lag.items():
            lag.add_metric([partition.topic, str(partition.number)], messages)
        yield lag
        yield GaugeMetricFamily("detector_streams", "Streams in memory.", vitals.streams)
        yield GaugeMetricFamily("detector_alerts_open", "Alerts open now.", vitals.alerts_open)
        yield from self._memories()
        state = GaugeMetricFamily("detector_worker_state", "1 for the state that the worker is in, 0 for the others.", labels=["state"])
        for each in WorkerState:
            state.add_metric([each.value], float(vitals.state is each))
        yield state
        yield GaugeMetricFamily(
            "detector_worker_healthy", "1 while the worker moves; 0 when it is stuck, as /-/healthy says.", float(_late_s(vitals) <= 0)
        )

    def _memories(self) -> Iterable[Metric]:
        """What it takes that memories outlive the process."""
        vitals = self._vitals
        yield GaugeMetricFamily("detector_snapshot_memories_unsaved", "Memories that changed since they were saved.", vitals.rows_unsaved)
        yield GaugeMetricFamily("detector_snapshot_unsaved_age_seconds", "Age of the oldest unsaved change; 0 if none.", vitals.unsaved_s)
        yield CounterMetricFamily("detector_snapshot_memories_saved", "Memories saved.", vitals.rows_saved)
        yield CounterMetricFamily("detector_snapshot_bytes", "Bytes of state written.", vitals.state_bytes)
        yield GaugeMetricFamily("detector_restore_seconds", "How long the latest restore took.", vitals.restored_s)
        yield CounterMetricFamily("detector_messages_replayed", "Messages read again to restore memories.", vitals.messages_replayed)
        missed = CounterMetricFamily("detector_messages_missed", "Messages that were never judged, or not remembered.", labels=["reason"])
        changes = CounterMetricFamily("detector_log_changes", "Partitions that began anew, in another log.", labels=["reason"])
        for family, reasons, counts in ((missed, MISSED, vitals.messages_missed), (changes, LOG_CHANGES, vitals.log_changes)):
            for reason, count in {**dict.fromkeys(reasons, 0), **counts}.items():
                family.add_metric([reason], count)
            yield family


class _OnwardCollector(Collector):
    """How telling each Alertmanager goes, read at each scrape; no series without one."""

    def __init__(self, onward: Sequence[Onward]) -> None:
        self._onward = onward

    def collect(self) -> Iterable[Metric]:
        sent = CounterMetricFamily("detector_alertmanager_alerts_sent", "Alerts that it took, each time counted.", labels=["url"])
        dropped = CounterMetricFamily("detector_alertmanager_alerts_dropped", "Alerts that it will not hear of.", labels=["url"])
        failures = CounterMetricFamily("detector_alertmanager_request_failures", "Requests that it did not take.", labels=["url"])
        held = GaugeMetricFamily("detector_alertmanager_alerts_held", "Alerts that it is to know of.", labels=["url"])
        for each in self._onward:
            sent.add_metric([each.url], each.sent)
            dropped.add_metric([each.url], each.dropped)
            failures.add_metric([each.url], each.failures)
            held.add_metric([each.url], each.held)
        yield from (sent, dropped, failures, held)


class _AboutCollector(Collector):
    """What does not change while the process lives."""

    def __init__(self, about: About) -> None:
        self._about = about

    def collect(self) -> Iterable[Metric]:
        about = self._about
        labels = {"version": about.version, "group": about.group, "model": about.model, "fingerprint": about.fingerprint}
        build = GaugeMetricFamily("detector_build_info", "Always 1; the labels say what runs, and for which group.", labels=list(labels))
        build.add_metric(list(labels.values()), 1)
        yield build
        yield GaugeMetricFamily(
            "detector_budget_alerts_per_stream_hour",
            "False alerts per stream and hour that alerts.budget accepts.",
            HOUR_US / about.budget_period_us,
        )
        yield GaugeMetricFamily("detector_streams_max", "Streams in memory at most, per partition.", about.streams_max)
        yield GaugeMetricFamily(
            "detector_snapshot_interval_seconds", "snapshot.interval_s; 0: memories are not kept.", about.snapshot_interval_s
        )


class _WatchedCollector(Collector):
    """The streams under `metrics.watch`, by name."""

    def __init__(self, watched: Watched, channels: tuple[str, ...]) -> None:
        self._watched = watched
        self._channels = channels

    def collect(self) -> Iterable[Metric]:
        def family(name: str, help: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(
                f"detector_stream_{name}", f"Watched stream, latest judged reading: {help}.", labels=["stream", *labels]
            )

        score = family("score", "score; larger is stranger, and what is strange lingers in it")
        threshold = family("threshold", "score beyond which it would have opened an alert, or made an open one worse")
        is_open = family("alert_open", "1 while an alert of kind score is open, else 0")
        observed = family("observed", "observed value, engineering units", "channel")
        expected = family("expected", "value that the model expected, engineering units", "channel")
        low = family("expected_low", "lower end of where 99 % of normal readings lie", "channel")
        high = family("expected_high", "upper end of where 99 % of normal readings lie", "channel")
        for stream, look in self._watched.looks():
            score.add_metric([stream], look.score)
            threshold.add_metric([stream], look.threshold)
            is_open.add_metric([stream], float(look.is_open))
            for channel, value, centre, reach in zip(self._channels, look.observed, look.expected, look.reach, strict=True):
                observed.add_metric([stream, channel], value)
                expected.add_metric([stream, channel], centre)
                low.add_metric([stream, channel], centre - reach)
                high.add_metric([stream, channel], centre + reach)
        return score, threshold, is_open, observed, expected, low, high
