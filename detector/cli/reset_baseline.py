"""`detector reset-baseline`: the present level of a stream becomes its baseline."""

from __future__ import annotations

from typing import Annotated

import typer

from detector.cli.options import ConfigFile, Group, Servers, Topics, overrides, require_topics


def reset_baseline(
    stream: Annotated[str, typer.Argument(help="The stream, as its alert names it.")],
    config: ConfigFile = None,
    group: Group = None,
    bootstrap_servers: Servers = None,
    topic: Topics = None,
    partition: Annotated[
        int | None, typer.Option(min=0, help="Only to this partition: `input.partition` of the alert. Without it to all partitions.")
    ] = None,
) -> None:
    """Close a stream's open alert and take its present level as the new normal, without waiting for alerts.reset_baseline_after_s.

    It writes a message without a value, with the stream as its key, to the input topic. All services that read the topic close their open alert of
    the stream there (kind score, stuck or missing), and judge by the new baseline from then on; a replay does the same. It changes nothing if no alert
    is open, or only one of kind timeout.

    Example: [bold]detector reset-baseline plant1/pump07 --config detector.yaml[/bold]
    """
    from detector.adapters.kafka.topic_io import TopicWriter
    from detector.adapters.kafka.topics import check_topics
    from detector.cli import logs
    from detector.codec.baseline_resets import baseline_reset
    from detector.codec.reading_format import STREAM_BYTES_MAX
    from detector.config import load_config
    from detector.errors import ConfigError

    settings = load_config(config, overrides=overrides(None, group, bootstrap_servers, topic))
    logs.configure(settings.log.level, settings.log.format, settings.secrets)
    require_topics(settings)
    message = baseline_reset(stream)
    if not 0 < len(message.key or b"") <= STREAM_BYTES_MAX:
        raise ConfigError(f"a stream's name has 1 to {STREAM_BYTES_MAX} bytes", fix="write it as the alert does")
    properties = settings.kafka_properties()
    for name, count in check_topics(properties, (), settings.input.topics, on_log=logs.log_client_line).items():
        if partition is not None and partition >= count:
            raise ConfigError(f"{name} has no partition {partition}, only 0 to {count - 1}", fix="name the alert's `input.partition`")
        numbers = range(count) if partition is None else (partition,)
        with TopicWriter(properties, name, on_log=logs.log_client_line) as writer:
            for number in numbers:
                writer.write(message.key, message.value, headers=message.headers, partition=number)
        where = f"all {count} partitions" if partition is None else f"partition {partition}"
        typer.echo(f"{name}: wrote a baseline reset of {stream} to {where}")
