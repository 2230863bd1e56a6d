"""`detector topics`: creates and checks the topics of the service, which creates none itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli.options import ConfigFile, Group, Servers, Topics, overrides

if TYPE_CHECKING:
    from detector.config import Config

app = typer.Typer(
    help="Create the topics that the service writes, or see whether all of its topics are as they should be.", no_args_is_help=True
)


@app.command()
def create(
    config: ConfigFile = None,
    group: Group = None,
    bootstrap_servers: Servers = None,
    topic: Topics = None,
    partitions: Annotated[
        int, typer.Option(min=1, help="Partitions of each new topic, but for state topics: those have as many as their input.")
    ] = 4,
    with_input: Annotated[bool, typer.Option("--with-input", help="Also create the input topics that are missing.")] = False,
) -> None:
    """Create the topics of alerts and dead letters, and per input topic one that keeps its streams' state.

    Those that exist stay as they are, but for a state topic whose input has more partitions by now: it gets as many.

    Example: [bold]detector topics create --config detector.yaml[/bold]

    Example: [bold]detector topics create --topic sensors --with-input --partitions 12[/bold]
    """
    from detector.adapters.kafka.topics import Topic, create_topics, output_topics
    from detector.config import load_config

    settings = load_config(config, overrides=overrides(None, group, bootstrap_servers, topic))
    inputs = [Topic(name, partitions) for name in settings.input.topics] if with_input else []
    topics = [*inputs, *output_topics(settings.alerts_topic, settings.dead_letters_topic, partitions)]
    for name, became in create_topics(settings.kafka_properties(), topics, state=settings.state_topics).items():
        typer.echo(f"{name}: {became}")


@app.command()
def check(config: ConfigFile = None, group: Group = None, bootstrap_servers: Servers = None, topic: Topics = None) -> None:
    """See whether the brokers answer, and whether all topics exist and have the settings that they need.

    Example: [bold]detector topics check --config detector.yaml[/bold]
    """
    from detector.config import load_config

    for name, partitions in checked(load_config(config, overrides=overrides(None, group, bootstrap_servers, topic))).items():
        typer.echo(f"{name}: {partitions} partitions" if partitions else f"{name}: missing; `detector run` waits for it")


def checked(settings: Config) -> dict[str, int]:
    """The number of partitions of each topic: input, output and state.

    raises LogUnavailable, ConfigError  as `check_topics` does
    """
    from detector.adapters.kafka.topics import check_topics
    from detector.cli import logs

    logs.configure(settings.log.level, settings.log.format, settings.secrets)
    return check_topics(
        settings.kafka_properties(),
        settings.input.topics,
        (settings.alerts_topic, settings.dead_letters_topic),
        state=settings.state_topics,
        exactly_once=settings.delivery == "exactly_once",
        missing=settings.input.missing,
        on_log=logs.log_client_line,
    )
