"""`detector accept`: what a stream does now is normal."""

from __future__ import annotations

from typing import Annotated

import typer

from detector.cli.options import ConfigFile, Group, Servers, Topics, overrides, require_topics


def accept(
    stream: Annotated[str, typer.Argument(help="The stream, as its alert names it.")],
    config: ConfigFile = None,
    group: Group = None,
    bootstrap_servers: Servers = None,
    topic: Topics = None,
    partition: Annotated[
        int | None, typer.Option(min=0, help="Only to this partition: `input.partition` of the alert. Without it to all.")
    ] = None,
) -> None:
    """Accept what a stream's open alert is about as its new normal, without waiting for alerts.accept_after_s.

    A message without a value, the stream as its key, is written to the input topic: all services that read it close their open alert of
    the stream there (kind score, stuck or missing), and judge by the new level from then on; a replay does the same. Where no alert is open, and
    for a stream that is silent, it changes nothing.

    Example: [bold]detector accept plant1/pump07 --config detector.yaml[/bold]
    """
    from detector.adapters.kafka_io import TopicWriter
    from detector.adapters.kafka_topics import check_topics
    from detector.cli import logs
    from detector.codec.acceptances import acceptance
    from detector.codec.formats import STREAM_BYTES_MAX
    from detector.config import load_config
    from detector.errors import ConfigError

    settings = load_config(config, overrides=overrides(None, group, bootstrap_servers, topic))
    logs.configure(settings.log.level, settings.log.format, settings.secrets)
    require_topics(settings)
    message = acceptance(stream)
    if not 0 < len(message.key or b"") <= STREAM_BYTES_MAX:
        raise ConfigError(f"a stream's name has 1 to {STREAM_BYTES_MAX} bytes", fix="write it as the alert does")
    properties = settings.kafka_properties()
    for name, count in check_topics(properties, (), settings.input.topics, say=logs.say).items():
        if partition is not None and partition >= count:
            raise ConfigError(f"{name} has no partition {partition}, only 0 to {count - 1}", fix="name the alert's `input.partition`")
        numbers = range(count) if partition is None else (partition,)
        with TopicWriter(properties, name, say=logs.say) as writer:
            for number in numbers:
                writer.write(message.key, message.value, headers=message.headers, partition=number)
        where = f"all {count} partitions" if partition is None else f"partition {partition}"
        typer.echo(f"{name}: told {where} that {stream} is as it should be")
