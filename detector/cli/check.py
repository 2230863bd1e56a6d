"""`detector check`: whether the service would run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli import event_time, registry_wiring, topics
from detector.cli.options import Channels, ConfigFile, Group, ModelName, Servers, Topics, overrides, require_topics

if TYPE_CHECKING:
    from detector.config import Config


def check(
    config: ConfigFile = None,
    model: ModelName = None,
    group: Group = None,
    bootstrap_servers: Servers = None,
    topic: Topics = None,
    channels: Channels = None,
    broker: Annotated[
        bool,
        typer.Option(
            "--broker/--no-broker", help="Also ask the brokers for the topics, and the schema registry and Alertmanager, if configured."
        ),
    ] = True,
    sample: Annotated[
        bool, typer.Option("--sample", help="Also read a sample of every topic with the configured decoder, and say what would be judged.")
    ] = False,
    messages: Annotated[int, typer.Option(min=1, max=1_000_000, help="So many messages are in the sample.")] = 5_000,
) -> None:
    """See whether the configuration, the model, the brokers and the schema registry fit together, without running.

    Example: [bold]detector check --config detector.yaml[/bold]

    Example: [bold]detector check --config detector.yaml --sample[/bold]
    """
    from detector.config import load_config

    settings = load_config(config, overrides=overrides(model, group, bootstrap_servers, topic, channels))
    require_topics(settings)
    typer.echo(f"configuration  good: group {settings.group}")

    from detector.adapters.alertmanager.client import Client
    from detector.cli import wiring

    bundle = wiring.load_model(settings)
    wiring.reading_format(settings.input, bundle.channels)
    wiring.alertmanager_encoder(settings, bundle)
    typer.echo(f"model          good: {bundle.name} {bundle.fingerprint[:12]}, channels {', '.join(bundle.channels)}")
    if not broker:
        typer.echo(f"event time     good: {event_time.described(settings)}")
        return

    for name, partitions in topics.checked(settings).items():
        typer.echo(f"topic          good: {name}, {partitions} partitions" if partitions else f"topic          missing: {name}, waited for")
    types = event_time.types(settings)
    typer.echo(f"event time     good: {event_time.described(settings, types)}")
    if named := event_time.by_brokers(types):
        typer.echo(f"event time     note: {event_time.ARRIVAL}: {named}; {event_time.MEANS}; {event_time.FIX}")
    for url in settings.alertmanager.url:
        Client(url, settings.alertmanager).post([])
        typer.echo(f"alertmanager   good: {url} takes alerts")
    for line in registry_wiring.checked(settings):
        typer.echo(f"schema         good: {line}")
    if sample:
        _read_samples(settings, messages)


def _read_samples(settings: Config, messages: int) -> None:
    """raises Exit  of a topic's sample nothing would be judged"""
    from detector.cli.inspect_topic import sample_report

    reports = [sample_report(settings, name, messages) for name in settings.input.topics]
    for report in reports:
        for line in report.lines:
            typer.echo(f"sample         {line}")
    if blind := [report.topic for report in reports if not report.judged]:
        typer.echo(f"error: nothing would be judged of the sample of {', '.join(blind)}", err=True)
        raise typer.Exit(1)
