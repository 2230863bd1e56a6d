"""A configuration for what was found, as commented YAML: it judges what `inspect` says can be judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import yaml

from detector.config import Config, FileInput, LongFormat
from detector.tables import epochs
from detector.tables.recording import ChannelFacts, Understanding

WITHOUT_OFFSET = ", without an offset"
DATE_ORDERS = {"dates, day first": "day_first", "dates, month first": "month_first"}
UNITS = {words: word.removeprefix("epoch_") for word, words in epochs.FORMATS.items() if word.startswith("epoch_")}
COMMENTED_CHANNELS_MAX = 100


Clients: TypeAlias = Mapping[str, Mapping[str, str | None]]
"""Sections of clients' properties: by section their names and values; None stands for a secret."""


@dataclass(frozen=True, slots=True)
class MessageShape:
    """What `input:` says of messages beside time, stream and channels; as `config.Input` has it.

    key  kind of the messages' keys where they name the stream; None: fields do
    """

    key: str | None = None
    key_field: str | None = None
    format: str = "json"
    records_path: str | None = None
    array_path: str | None = None
    long_format: LongFormat | None = None
    join: bool = False


def for_recording(name: str, understood: Understanding, options: FileInput, sentinels: Mapping[float, str]) -> str:
    """A configuration with a section `recording` for one file, and others of its kind.

    options    what was known of it beforehand, and the sentinels
    sentinels  numbers that look like ones for a missing value, and where they stand
    """
    lines = [
        f"# Proposed by `detector inspect {name}`. Judge the recording with it: detector replay {name} --config detector.yaml --out verdicts.parquet",
        "model: universal",
        "recording:",
        *_recording_time(understood, options),
    ]
    if understood.stream_columns:
        lines.append(f"  stream: {_listed(understood.stream_columns)}  # {understood.stream}")
    else:
        lines.append(f"  # stream: [COLUMN]  # {understood.stream}")
    if options.long_format is not None:
        long = options.long_format
        lines.append(f"  long_format: {{channel: {_scalar(long.channel)}, value: {_scalar(long.value)}}}")
    lines += _channels(understood.channels, understood.left)
    if options.missing_values:
        lines.append(_missing_values(options.missing_values, sentinels))
    for key in ("decimal", "separator"):
        if (value := getattr(options, key)) is not None:
            lines.append(f"  {key}: {_scalar(value)}")
    return "\n".join(lines) + "\n"


def for_messages(
    name: str,
    topic: str | None,
    understood: Understanding,
    shape: MessageShape,
    log_time: str | None,
    sentinels: Mapping[float, str],
    clients: Clients | None = None,
) -> str:
    """A configuration with a section `input`.

    name      of what was inspected
    topic     None: the messages are of a file, and stand for those of a topic
    log_time  the column that stands for the log's own time of the message; None: there is none
    sentinels   numbers that look like ones for a missing value, and where they stand
    clients   properties to reach the brokers, and the schema registry
    """
    lines = [f"# Proposed by `detector inspect {name}`. Run it: detector run --config detector.yaml", "model: universal", "input:"]
    lines.append(f"  topics: {_listed([topic])}" if topic is not None else "  topics: []  # name the topic")
    if shape.format != "json":
        lines.append(f"  format: {shape.format}")
    if shape.format != "senml":  # which says by itself where all that stands
        lines += [f"  {name}: {_scalar(path)}" for name in ("records_path", "array_path") if (path := getattr(shape, name)) is not None]
        if shape.long_format is not None:
            lines.append(f"  long_format: {{channel: {_scalar(shape.long_format.channel)}, value: {_scalar(shape.long_format.value)}}}")
        if shape.join:
            lines.append("  join: true  # messages of one stream and time have different channels")
        lines += _message_stream(understood, shape)
        lines += _message_time(understood, log_time)
    lines += _channels(understood.channels, understood.left)
    if sentinels:
        lines.append(_missing_values(list(sentinels), sentinels))
    for section, properties in (clients or {}).items():
        lines.append(f"{section}:")
        for name, value in properties.items():
            variable = f"DETECTOR_{section.upper()}__{name.upper().replace('.', '_')}"
            lines.append(f"  {name}: {_scalar(value)}" if value is not None else f"  # {name}: set {variable} in the environment")
    return "\n".join(lines) + "\n"


def configuration(proposal: str) -> Config:
    """A proposal as the configuration that a command makes of it, but for secrets."""
    return Config.model_validate(yaml.safe_load(proposal))


def time_problem(understood: Understanding) -> str:
    """Why the time that was found cannot be that of messages; empty: it can."""
    if len(understood.time_columns) > 1:
        return f"{' and '.join(understood.time_columns)} together are the time; messages need one field with both"
    words = understood.time.removesuffix(WITHOUT_OFFSET)
    if words in UNITS or words in ("dates, year first", "timestamps"):
        return ""
    return f"{', '.join(understood.time_columns)} holds {words}; messages need ISO 8601 or a number since 1970"


def sentinels_of(channels: Sequence[ChannelFacts]) -> dict[float, str]:
    """Numbers that look like ones for a missing value, and where they stand."""
    found: dict[float, list[str]] = {}
    for channel in channels:
        if channel.sentinel is not None:
            number, count = channel.sentinel
            found.setdefault(number, []).append(f"{channel.name} {count:,} times")
    return {number: f"{number:g} looks like a missing value: it stands in {', '.join(where[:5])}" for number, where in found.items()}


def _missing_values(values: Sequence[object], sentinels: Mapping[float, str]) -> str:
    why = f"  # {'; '.join(sentinels.values())}; take out what is a value" if sentinels else ""
    given = [int(value) if isinstance(value, float) and value.is_integer() else value for value in values]
    return f"  missing_values: {_listed(given)}{why}"


def _recording_time(understood: Understanding, options: FileInput) -> Iterator[str]:
    if options.every_s is not None:
        yield f"  every_s: {options.every_s:g}"
        return
    words = understood.time.removesuffix(WITHOUT_OFFSET)
    yield f"  time: {_listed(understood.time_columns)}  # {words}"
    by_words = {**DATE_ORDERS, **{words: word for word, words in epochs.FORMATS.items()}}
    written = options.time_format or by_words.get(words)
    if written is not None:
        yield f"  time_format: {_scalar(written)}"
    if options.zone is not None:
        yield f"  zone: {_scalar(options.zone)}"
    elif understood.time.endswith(WITHOUT_OFFSET):
        yield "  # zone: Europe/Berlin  # of the clock that wrote these times; without it UTC"


def _message_stream(understood: Understanding, shape: MessageShape) -> Iterator[str]:
    if shape.key is None:
        if understood.stream_columns:
            yield f"  stream: {_listed(understood.stream_columns)}  # {understood.stream}"
        else:
            yield f"  # stream: [FIELD]  # {understood.stream}"
        return
    if shape.key != "utf8":
        yield f"  key: {shape.key}  # the message's key names the stream"
    else:
        yield "  # the message's key names the stream"
    if shape.key_field is not None:
        yield f"  key_field: {_scalar(shape.key_field)}"


def _message_time(understood: Understanding, log_time: str | None) -> Iterator[str]:
    columns = understood.time_columns
    if not columns or columns == (log_time,):
        yield "  # event_time: {field: FIELD}  # Kafka's own time of the message counts"
        return
    unit = UNITS.get(understood.time, "iso8601")
    yield f"  event_time: {{field: {_scalar(columns[0])}, unit: {unit}}}"


def _channels(channels: Sequence[ChannelFacts], left: Mapping[str, str]) -> Iterator[str]:
    if len(channels) > COMMENTED_CHANNELS_MAX:
        yield f"  channels: {_listed([channel.name for channel in channels])}"
    else:
        yield "  channels:"
        for channel in channels:
            yield f"    - {_scalar(channel.name)}  # {described(channel)}"
    for name, reason in list(left.items())[:COMMENTED_CHANNELS_MAX]:
        yield f"    # {' '.join(name.split())}: {' '.join(reason.split())}"


def described(channel: ChannelFacts) -> str:
    """What a channel holds, in words."""
    unit = f" {channel.unit}" if channel.unit else ""
    what = f"{channel.kind}, {channel.least:g} to {channel.most:g}{unit}" if channel.least == channel.least else "no values"
    if channel.kind == "constant" and channel.least == channel.least:
        what = f"constant, {channel.least:g}{unit}"
    missing = f"; missing in {channel.missing:,}" if channel.missing else ""
    return what + missing


def _scalar(value: object) -> str:
    """A value as YAML, that may stand in a list too."""
    return str(yaml.safe_dump([value], default_flow_style=True, width=float("inf"), allow_unicode=True)).strip()[1:-1]


def _listed(values: Sequence[object]) -> str:
    return f"[{', '.join(map(_scalar, values))}]"
