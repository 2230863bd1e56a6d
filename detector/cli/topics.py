"""`detector topics`: what the service writes to must exist; it creates nothing itself."""

from __future__ import annotations

from typing import Annotated

import typer

from detector.cli.options import ConfigFile, Group, Servers, Topics, overrides

app = typer.Typer(help="Create the topics that the service writes, or see whether all of its topics exist.", no_args_is_help=True)


@app.command()
def create(
    config: ConfigFile = None,
    group: Group = None,
    bootstrap_servers: Servers = None,
    topic: Topics = None,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of each new topic.")] = 4,
    with_input: Annotated[bool, typer.Option("--with-input", help="Also create the input topics that are missing.")] = False,
) -> None:
    """Create the topics of alerts and dead letters; those that exist stay as they are.

    Example: [bold]detector topics create --config detector.yaml[/bold]

    Example: [bold]detector topics create --topic sensors --with-input --partitions 12[/bold]
    """
    from detector.adapters.kafka_topics import Topic, create_topics, output_topics
    from detector.config import load_config

    settings = load_config(config, overrides=overrides(None, group, bootstrap_servers, topic))
    inputs = [Topic(name, partitions) for name in settings.input.topics] if with_input else []
    topics = [*inputs, *output_topics(settings.alerts_topic, settings.dead_letters_topic, partitions)]
    for name, new in create_topics(settings.kafka_properties(), topics).items():
        typer.echo(f"{name}: {'created' if new else 'is there already'}")


@app.command()
def check(config: ConfigFile = None, group: Group = None, bootstrap_servers: Servers = None, topic: Topics = None) -> None:
    """See whether the brokers answer and all topics exist, those that are read and those that are written.

    Example: [bold]detector topics check --config detector.yaml[/bold]
    """
    from detector.adapters.kafka_topics import check_topics
    from detector.config import load_config

    settings = load_config(config, overrides=overrides(None, group, bootstrap_servers, topic))
    writes = (settings.alerts_topic, settings.dead_letters_topic)
    for name, partitions in check_topics(settings.kafka_properties(), settings.input.topics, writes).items():
        typer.echo(f"{name}: {partitions} partitions")
