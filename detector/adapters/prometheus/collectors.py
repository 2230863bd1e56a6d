"""Figures that are read at each scrape: the worker's, those of the senders to Alertmanager, and what does not change while the process lives."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from detector.codec.reading_format import ErrorName
from detector.ports import LOG_CHANGES, MISSED, AlertmanagerStats, WorkerState, WorkerStats

ERRORS = (*get_args(ErrorName), "TooManyStreams")


@dataclass(frozen=True, slots=True)
class ServiceInfo:
    """What this process is and was set to.

    group                consumer group
    budget_period_us     event time per acceptable false alert of one stream, microseconds
    streams_max          streams in memory per partition at most
    flush_interval_s     state that changed is saved within one to two of these; 0: state is not saved
    watch                streams that get series of their own
    """

    version: str
    group: str
    model: str
    fingerprint: str
    channels: tuple[str, ...]
    budget_period_us: float
    streams_max: int
    flush_interval_s: float
    watch: tuple[str, ...] = ()


def overdue_s(stats: WorkerStats) -> float:
    """How long ago the worker should have moved; not above 0 if it is well, or has stopped in order."""
    return 0.0 if stats.state is WorkerState.STOPPED else time.monotonic() - stats.alive_until_s


class WorkerCollector(Collector):
    """The worker's figures. channels: of the model"""

    def __init__(self, stats: WorkerStats, channels: Sequence[str]) -> None:
        self._stats = stats
        self._channels = channels

    def collect(self) -> Iterable[Metric]:
        stats = self._stats
        yield CounterMetricFamily("detector_messages_polled", "Messages polled.", stats.messages)
        yield CounterMetricFamily("detector_readings_polled", "Readings polled, whatever became of them.", stats.readings)
        yield CounterMetricFamily("detector_readings_unaccounted", "Readings without a disposition; a bug.", stats.unaccounted)
        dead = CounterMetricFamily("detector_dead_letters", "Dead letters written, by the kind of error.", labels=["error"])
        for error, count in {**dict.fromkeys(ERRORS, 0), **stats.dead_letters}.items():
            dead.add_metric([error], count)
        yield dead
        yield CounterMetricFamily("detector_commits", "Commits that succeeded.", stats.commits)
        yield CounterMetricFamily(
            "detector_commits_aborted", "Commits that failed, after which all state was restored.", stats.commits_aborted
        )
        yield CounterMetricFamily(
            "detector_log_unavailable_errors", "Calls that the log, or the schema registry, could not answer.", stats.log_unavailable
        )
        yield GaugeMetricFamily("detector_backoff_seconds", "Length of the pause in progress; 0 if none.", stats.backoff_s)
        yield GaugeMetricFamily("detector_partitions_assigned", "Partitions that this worker reads.", stats.partitions)
        yield GaugeMetricFamily(
            "detector_input_topics_missing", "Input topics that cannot be judged now, or not whole.", len(stats.topics_missing)
        )
        lag = GaugeMetricFamily(
            "detector_consumer_lag_messages",
            "Messages between the read position and the end of the partition.",
            labels=["topic", "partition"],
        )
        for partition, messages in stats.lag.items():
            lag.add_metric([partition.topic, str(partition.number)], messages)
        yield lag
        present = GaugeMetricFamily(
            "detector_channel_present_ratio",
            "Share of the last thousand readings, or more, that have a value of the channel.",
            labels=["channel"],
        )
        for channel, share in zip(self._channels, stats.channels_present, strict=False):  # none before there were so many readings
            present.add_metric([channel], share)
        yield present
        yield GaugeMetricFamily("detector_streams", "Streams in memory.", stats.streams)
        yield GaugeMetricFamily("detector_alerts_open", "Alerts open now.", stats.alerts_open)
        yield from self._state()
        state = GaugeMetricFamily("detector_worker_state", "1 for the state that the worker is in, 0 for the others.", labels=["state"])
        for each in WorkerState:
            state.add_metric([each.value], float(stats.state is each))
        yield state
        yield GaugeMetricFamily(
            "detector_worker_healthy", "1 while the worker moves; 0 when it is stuck, as /-/healthy says.", float(overdue_s(stats) <= 0)
        )

    def _state(self) -> Iterable[Metric]:
        """How state is saved and restored."""
        stats = self._stats
        yield GaugeMetricFamily("detector_state_rows_unsaved", "Rows of state that changed since they were saved.", stats.rows_unsaved)
        yield GaugeMetricFamily("detector_state_unsaved_age_seconds", "Age of the oldest unsaved change; 0 if none.", stats.unsaved_s)
        yield CounterMetricFamily("detector_state_rows_saved", "Rows of state saved.", stats.rows_saved)
        yield CounterMetricFamily("detector_state_written_bytes", "Bytes of state written.", stats.state_bytes)
        yield GaugeMetricFamily("detector_restore_duration_seconds", "How long the latest restore took.", stats.restored_s)
        yield CounterMetricFamily("detector_messages_replayed", "Messages read again to restore state.", stats.messages_replayed)
        missed = CounterMetricFamily(
            "detector_messages_missed", "Messages that were never judged, or are not in the state.", labels=["reason"]
        )
        changes = CounterMetricFamily("detector_log_changes", "Partitions that started cold because their log changed.", labels=["reason"])
        for family, reasons, counts in ((missed, MISSED, stats.messages_missed), (changes, LOG_CHANGES, stats.log_changes)):
            for reason, count in {**dict.fromkeys(reasons, 0), **counts}.items():
                family.add_metric([reason], count)
            yield family


class AlertmanagerCollector(Collector):
    """What was sent to each Alertmanager; no series without one."""

    def __init__(self, alertmanagers: Sequence[AlertmanagerStats]) -> None:
        self._alertmanagers = alertmanagers

    def collect(self) -> Iterable[Metric]:
        sent = CounterMetricFamily("detector_alertmanager_alerts_sent", "Alerts that it accepted, each time counted.", labels=["url"])
        dropped = CounterMetricFamily("detector_alertmanager_alerts_dropped", "Alerts that it will not be sent.", labels=["url"])
        failures = CounterMetricFamily("detector_alertmanager_request_failures", "Requests that it did not accept.", labels=["url"])
        queued = GaugeMetricFamily("detector_alertmanager_queue_length", "Alerts that are to be sent to it.", labels=["url"])
        for each in self._alertmanagers:
            sent.add_metric([each.url], each.sent)
            dropped.add_metric([each.url], each.dropped)
            failures.add_metric([each.url], each.failures)
            queued.add_metric([each.url], each.queued)
        yield from (sent, dropped, failures, queued)


class ServiceCollector(Collector):
    """What does not change while the process lives."""

    def __init__(self, info: ServiceInfo) -> None:
        self._info = info

    def collect(self) -> Iterable[Metric]:
        info = self._info
        labels = {"version": info.version, "group": info.group, "model": info.model, "fingerprint": info.fingerprint}
        build = GaugeMetricFamily("detector_build_info", "Always 1; the labels say what runs, and for which group.", labels=list(labels))
        build.add_metric(list(labels.values()), 1)
        yield build
        yield GaugeMetricFamily(
            "detector_alert_budget_period_seconds",
            "Event time of one stream per false alert that alerts.budget accepts.",
            info.budget_period_us / 1e6,
        )
        yield GaugeMetricFamily("detector_streams_max_per_partition", "Streams in memory at most, per partition.", info.streams_max)
        yield GaugeMetricFamily(
            "detector_state_flush_interval_seconds", "state.flush_interval_s; 0: state is not saved.", info.flush_interval_s
        )
