"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import typer

from detector.errors import ConfigError

if TYPE_CHECKING:
    from detector.config import Config

ConfigFile: TypeAlias = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file (YAML). Without it the defaults and the environment count.")
]
ModelName: TypeAlias = Annotated[str | None, typer.Option("--model", help="A bundle's folder, or the name of one that ships.")]
Group: TypeAlias = Annotated[str | None, typer.Option("--group", help="Consumer group; output topics are named after it.")]
Servers: TypeAlias = Annotated[str | None, typer.Option("--bootstrap-servers", help="Kafka brokers, as host:port,host:port.")]
Topics: TypeAlias = Annotated[list[str] | None, typer.Option("--topic", help="Topic to read; may be given several times.")]
Channels: TypeAlias = Annotated[
    str | None, typer.Option("--channels", help="Fields of the messages that are channels, as a,b,c; the universal model needs them.")
]

TimeColumn: TypeAlias = Annotated[
    str | None, typer.Option("--time", help="Time column, if its name does not tell; of date and clock apart both, as Date,Time.")
]
TimeFormat: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--time-format",
        help="How times are written, where the file does not decide: day_first, month_first; epoch_s, epoch_ms, epoch_us, epoch_ns; excel; "
        "elapsed_s, elapsed_ms, elapsed_min, elapsed_h, elapsed_d; or as strptime has it, '%d/%m/%Y %H:%M'.",
    ),
]
Zone: TypeAlias = Annotated[
    str | None, typer.Option("--zone", help="Time zone of times without an offset, as Europe/Berlin; UTC without it.")
]
Every: TypeAlias = Annotated[
    float | None, typer.Option("--every", help="The file has no time: a stream's rows are so many seconds apart.", min=1e-6)
]
StreamColumn: TypeAlias = Annotated[str | None, typer.Option("--stream", help="Stream column, if its name does not tell; several as a,b.")]
ChannelColumns: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--channels", help="Columns of the channels, as a,b,c; in the order of a model that has its own. Without it all columns of numbers."
    ),
]
MissingValues: TypeAlias = Annotated[
    str | None, typer.Option("--missing", help="Numbers and texts that stand for a missing value, as -200,9999.")
]
DecimalMark: TypeAlias = Annotated[
    Literal[".", ","] | None, typer.Option("--decimal", help="The decimal mark, where the file does not decide.")
]
Strict: TypeAlias = Annotated[bool, typer.Option("--strict", help="Exit code 1 where more than 1 % of the readings are not judged.")]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print what was read, and what came of it, as one JSON object.")]


def names_in(given: str | None) -> tuple[str, ...] | None:
    """The names in `a,b,c`; None where nothing is given."""
    return None if given is None else tuple(name.strip() for name in given.split(","))


def overrides(
    model: str | None = None,
    group: str | None = None,
    bootstrap_servers: str | None = None,
    topics: list[str] | None = None,
    channels: str | None = None,
) -> dict[str, Any]:
    """The options of the command line as `overrides` of `config.load_config`."""
    given = {
        "model": model,
        "group": group,
        "kafka/bootstrap.servers": bootstrap_servers,
        "input/topics": tuple(topics or ()) or None,
        "input/channels": names_in(channels),
    }
    return {name: value for name, value in given.items() if value is not None}


def require_topics(config: Config) -> None:
    """raises ConfigError  there is nothing to read"""
    if not config.input.topics:
        raise ConfigError("no topic to read", fix="name one: 'input: {topics: [sensors]}' in the configuration, or --topic sensors")
