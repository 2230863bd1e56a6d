"""`detector check`: would it run?"""

from __future__ import annotations

from typing import Annotated

import typer

from detector.cli.options import ConfigFile, Group, ModelName, Servers, Topics, overrides, require_topics


def check(
    config: ConfigFile = None,
    model: ModelName = None,
    group: Group = None,
    bootstrap_servers: Servers = None,
    topic: Topics = None,
    broker: Annotated[bool, typer.Option("--broker/--no-broker", help="Also ask the brokers for the topics.")] = True,
) -> None:
    """See whether the configuration, the model and the brokers fit together, without running.

    Example: [bold]detector check --config detector.yaml[/bold]
    """
    from detector.config import load_config

    settings = load_config(config, overrides=overrides(model, group, bootstrap_servers, topic))
    require_topics(settings)
    typer.echo(f"configuration  good: group {settings.group}")

    from detector.adapters.bundle import load_bundle
    from detector.cli import wiring

    bundle = load_bundle(settings.model)
    wiring.reading_format(settings.input, bundle.channels)
    typer.echo(f"model          good: {bundle.name} {bundle.fingerprint[:12]}, channels {', '.join(bundle.channels)}")
    if not broker:
        return

    from detector.adapters.kafka_topics import check_topics

    writes = (settings.alerts_topic, settings.dead_letters_topic)
    for name, partitions in check_topics(settings.kafka_properties(), settings.input.topics, writes).items():
        typer.echo(f"topic          good: {name}, {partitions} partitions")
