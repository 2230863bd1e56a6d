"""Builds the parts from a configuration. It imports heavy packages: commands import it inside their functions."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Sequence

from detector.adapters.alertmanager.sender import Alertmanagers
from detector.adapters.bundle import for_channels, load_bundle, read_bundle
from detector.adapters.prometheus.collectors import ServiceInfo
from detector.codec.alertmanager import AlertmanagerEncoder
from detector.codec.alerts import AlertEncoder
from detector.codec.readings import JsonReadings, ReadingFormat
from detector.codec.senml import SenmlReadings
from detector.config import Config, Input
from detector.core.detector import Detector
from detector.core.model import Model
from detector.core.readings import StreamNames
from detector.core.rules import Settings
from detector.errors import BundleError
from detector.inspection.sizing import Estimate, estimate
from detector.ports import Log, Observer, WorkerStats
from detector.service.state_manager import StateManager
from detector.service.worker import Decoder, Worker

SECOND_US = 1_000_000
YOUNG_OBJECTS_MAX = 200_000


def settings(config: Config) -> Settings:
    """The configuration as core takes it."""
    reset_baseline_after_s = config.alerts.reset_baseline_after_s
    return Settings(
        budget_period_us=config.alerts.budget_period_us,
        warmup_readings=config.alerts.warmup_readings,
        reset_baseline_after_us=None if reset_baseline_after_s is None else reset_baseline_after_s * SECOND_US,
        timeout_intervals=config.alerts.timeout_intervals,
        stuck_run_factor=config.alerts.stuck_run_factor,
        idle_ttl_us=int(config.streams.idle_ttl_s * SECOND_US),
        max_per_partition=config.streams.max_per_partition,
        keeps_ties=config.input.event_time.keeps_ties,
    )


def load_model(config: Config, channels: Sequence[str] | None = None) -> Model:
    """The configured model; `channels` are for a universal one, without them those of the configuration.

    raises BundleError, ConfigError  as `load_bundle`
    """
    return load_bundle(config.model, channels or config.input.channels)


def reading_format(input: Input, channels: tuple[str, ...]) -> ReadingFormat:
    """How readings are written, for a model of these channels.

    raises BundleError  the configured channels cannot be the model's
    """
    paths = input.channels or channels
    if len(paths) != len(channels):
        raise BundleError(
            f"the model has {len(channels)} channels ({', '.join(channels)}), input.channels names {len(paths)} ({', '.join(paths)})",
            fix="name one path per channel of the model, in its order, or choose another model",
        )
    if paths != channels and Counter(paths) == Counter(channels):
        raise BundleError(
            f"input.channels names the model's channels in another order: {', '.join(paths)}",
            fix=f"write them in the model's order: {', '.join(channels)}",
        )
    event_time = input.event_time
    return ReadingFormat(
        channels=paths,
        stream=input.stream or (),
        event_time=event_time.field,
        event_time_unit=event_time.unit,
        future_us_max=int(event_time.future_s_max * SECOND_US),
        past_us_max=int(event_time.past_s_max * SECOND_US),
        array_path=input.array_path,
        records_path=input.records_path,
        channel_path=input.long_format.channel if input.long_format else None,
        value_path=input.long_format.value if input.long_format else None,
        missing_values=input.missing_values,
        joins=input.join,
        is_senml=input.format == "senml",
        message_bytes_max=input.message_bytes_max,
    )


def estimated(config: Config, streams: int, readings_hz: float, channels: tuple[str, ...]) -> Estimate:
    """What the configured model would take to judge them."""
    stored = read_bundle(config.model).model
    model = stored if isinstance(stored, Model) else for_channels(stored, channels)
    is_universal = not isinstance(stored, Model)
    return estimate(streams, readings_hz, len(model.channels), model.layout().row_bytes, is_universal=is_universal)


def value_decoder(written: ReadingFormat, names: StreamNames) -> Decoder:
    """Reads messages whose key, if it counts, is the stream's name: those of a recording, or of a topic with plain keys."""
    return SenmlReadings(written, names) if written.is_senml else JsonReadings(written, names)


def worker(
    log: Log,
    written: ReadingFormat,
    detector: Detector,
    config: Config,
    observers: Sequence[Observer],
    stats: WorkerStats | None = None,
    *,
    flush_interval_s: float = 0.0,
    decoder: Decoder | None = None,
    alert_frame: bytes = b"",
) -> Worker:
    """A worker that reads readings in the format `written` from a log. flush_interval_s: 0: its state is not saved.

    decoder, alert_frame   of a topic's messages, and of alerts in Confluent's wire format (`cli.registry_wiring`); a recording's without them
    """
    model = detector.model
    decoder = decoder or value_decoder(written, detector.names)
    encoder = AlertEncoder(model.name, model.fingerprint, f"/detector/{config.group}", alert_frame)
    state_manager = StateManager(detector, flush_interval_s)
    return Worker(log, decoder, detector, encoder, state_manager, settings=config.service, observers=observers, stats=stats)


def alertmanager_encoder(config: Config, model: Model) -> AlertmanagerEncoder:
    """Writes alerts for Alertmanager.

    raises ConfigError  a label that cannot be used
    """
    return AlertmanagerEncoder(config.group, config.alerts_topic, model.name, model.fingerprint, config.alertmanager.labels)


def alertmanagers(config: Config, model: Model, stats: WorkerStats) -> Alertmanagers:
    """Sends alerts to the configured Alertmanagers; there may be none.

    raises ConfigError  a setting that cannot be used
    """
    encoder = alertmanager_encoder(config, model)
    return Alertmanagers(config.alertmanager, encoder, stats, behind_messages=config.service.batch_messages_max)


def service_info(config: Config, model: Model, version: str) -> ServiceInfo:
    """The facts about this process that the metrics show."""
    return ServiceInfo(
        version=version,
        group=config.group,
        model=model.name,
        fingerprint=model.fingerprint,
        channels=model.channels,
        budget_period_us=config.alerts.budget_period_us,
        streams_max=config.streams.max_per_partition,
        flush_interval_s=config.state.flush_interval_s,
        watch=config.metrics.watch,
    )


def relax_garbage_collection() -> None:
    """Collect cycles less often, and never among what lives as long as the process.

    A batch of messages is ten thousand young objects without a cycle; at Python's default the collector looks through them after
    every few hundred, which doubles the time of fetching.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX)
