"""`detector schema`: JSON Schemas of the configuration, of readings and of alerts."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from detector.cli.options import ConfigFile, ModelName, overrides


class Subject(StrEnum):
    """What can be described."""

    CONFIG = "config"
    READING = "reading"
    ALERT = "alert"


def schema(
    subject: Annotated[
        Subject, typer.Argument(help="config: the configuration file; reading: a message to be read; alert: a message with an alert.")
    ],
    config: ConfigFile = None,
    model: ModelName = None,
) -> None:
    """Print the JSON Schema of the configuration, of readings (as configured, for the model's channels), or of alerts.

    Example: [bold]detector schema config[/bold]

    Example: [bold]detector schema reading --config detector.yaml[/bold]
    """
    import json

    from detector.config import Config, load_config

    if subject is Subject.CONFIG:
        described = Config.model_json_schema()
    elif subject is Subject.ALERT:
        from detector.codec.alerts import alert_schema

        described = alert_schema()
    else:
        from detector.cli.wiring import load_model, reading_format
        from detector.codec.reading_json_schema import reading_json_schema

        settings = load_config(config, overrides=overrides(model))
        described = reading_json_schema(reading_format(settings.input, load_model(settings).channels))
    typer.echo(json.dumps(described, indent=2))
