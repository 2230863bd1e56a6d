"""`detector run`: the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detector.cli.options import Channels, ConfigFile, Group, ModelName, Servers, Topics, overrides, require_topics

if TYPE_CHECKING:
    from detector.config import Config
    from detector.core.detector import Detector
    from detector.core.model import Model


def run(
    config: ConfigFile = None,
    model: ModelName = None,
    group: Group = None,
    bootstrap_servers: Servers = None,
    topic: Topics = None,
    channels: Channels = None,
) -> None:
    """Read sensor readings from Kafka and publish alerts, until stopped by SIGTERM or Ctrl-C.

    Example: [bold]detector run --config detector.yaml[/bold]

    Without a model of your own the universal one judges, from the first minutes of a stream on; it has to be told the channels:

    Example: [bold]detector run --bootstrap-servers localhost:9092 --topic sensors --channels temperature,rpm[/bold]
    """
    from detector.cli import logs
    from detector.config import load_config

    settings = load_config(config, overrides=overrides(model, group, bootstrap_servers, topic, channels))
    logs.configure(settings.log.level, settings.log.format, settings.secrets)
    require_topics(settings)
    serve(settings)


def serve(config: Config) -> None:
    """Run the service in this process, on its main thread, until a signal stops it."""
    import faulthandler
    import logging
    import sys
    from threading import Event

    from rich.console import Console

    from detector import __version__

    Console().print(f"[bold]detector {__version__}[/bold]")  # at once: what comes now takes seconds to import

    from detector.adapters.http_server import HttpServer
    from detector.adapters.kafka.log import KafkaLog
    from detector.adapters.prometheus.metrics import Telemetry
    from detector.cli import event_time, logs, registry_wiring, wiring
    from detector.core.detector import Detector
    from detector.ports import WorkerStats
    from detector.service.signals import stop_on_signals

    faulthandler.enable(sys.__stderr__ or 2)  # a crash inside librdkafka says where it was called
    model = wiring.load_model(config)
    written = wiring.reading_format(config.input, model.channels)
    detector = Detector(model, wiring.settings(config))
    _prepare(detector)
    framing = registry_wiring.framing(config, written, detector.names)
    log = KafkaLog(
        config.input.topics,
        config.group,
        config.alerts_topic,
        config.dead_letters_topic,
        config.kafka_properties(),
        delivery=config.delivery,
        state_topics=config.state_topics,
        with_log_time=True,
        on_log=logs.log_client_line,
    )
    stats = WorkerStats()
    stop = Event()
    try:
        log.check(missing=config.input.missing)
        detector.prepare()  # what was compiled is loaded while the group lets this worker in
        types = event_time.types(config)
        alertmanagers = wiring.alertmanagers(config, model, stats)
        telemetry = Telemetry(wiring.service_info(config, model, __version__), stats, detector.names, alertmanagers=alertmanagers.stats)
        http = HttpServer(config.http.host, config.http.port, telemetry)
    except BaseException:
        log.close()
        raise
    try:
        _introduce(config, model, http.port, event_time.described(config, types))
        if named := event_time.by_brokers(types):
            logging.getLogger(__name__).warning(
                event_time.ARRIVAL, extra={"topics": named, "means": event_time.MEANS, "fix": event_time.FIX}
            )
        observers, interval_s = [telemetry, alertmanagers], config.state.flush_interval_s
        worker = wiring.worker(log, written, detector, config, observers, stats, flush_interval_s=interval_s, **framing)
        wiring.relax_garbage_collection()
        with stop_on_signals(stop, config.service.drain_timeout_s):
            worker.run(stop)
    finally:
        alertmanagers.close()
        http.close()


def _prepare(detector: Detector) -> None:
    """Compile before the group waits for this worker."""
    import logging

    from detector.core import compiled, walk

    if compiled.is_kept(walk.judge_batch):
        return
    logger = logging.getLogger(__name__)
    if compiled.cache_folder is None:
        logger.warning(
            "no folder can be written: what is compiled at the start is not kept, and each start takes longer",
            extra={"fix": "name one that can be written in NUMBA_CACHE_DIR"},
        )
    else:
        logger.info("compiling: the first start on a machine takes half a minute of one core")
    detector.prepare()


def _introduce(config: Config, model: Model, port: int, event_time: str) -> None:
    """Print what is read, written and run: the rest of one screen on standard output."""
    from rich.console import Console
    from rich.table import Table

    servers = config.kafka_properties()
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold")
    facts.add_column(overflow="fold")
    host = "localhost" if config.http.host in ("0.0.0.0", "::") else config.http.host  # noqa: S104 - compared, not bound
    host = f"[{host}]" if ":" in host else host
    interval_s = config.state.flush_interval_s
    for name, fact in (
        ("reads", f"{', '.join(config.input.topics)}  at {servers.get('bootstrap.servers') or servers.get('metadata.broker.list')}"),
        ("as group", config.group),
        ("writes", f"{config.alerts_topic}, {config.dead_letters_topic}  ({config.delivery.replace('_', ' ')})"),
        (
            "saves",
            f"{', '.join(config.state_topics.values())}  (every {interval_s:g} s)" if interval_s else "no state: every start is cold",
        ),
        *((("notifies", ", ".join(config.alertmanager.url)),) if config.alertmanager.url else ()),
        ("model", f"{model.name}  {model.fingerprint[:12]}"),
        ("channels", ", ".join(config.input.channels or model.channels)),
        ("event time", event_time),
        ("budget", f"{config.alerts.budget} (false alerts)"),
        ("metrics", f"http://{host}:{port}/metrics"),
    ):
        facts.add_row(name, fact)
    Console().print(facts)
