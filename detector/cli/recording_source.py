"""What a recording holds: the same for every command that reads one, `replay`, `train`, `explain` and `simulate --from`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detector.errors import ConfigError, DataError

if TYPE_CHECKING:
    from detector.codec.reading_format import ReadingFormat
    from detector.config import Config, FileInput, Input
    from detector.tables.recording import Recording, Understanding
    from detector.tables.table import Table


@dataclass(frozen=True, slots=True)
class Source:
    """A recording as readings, or as messages that a configured decoder reads.

    recording      of messages too, where whole readings are asked for; None: messages alone
    lines, format  messages in the order of their event times, and how they are decoded; None: a table
    """

    path: Path
    channels: tuple[str, ...]
    understanding: Understanding
    recording: Recording | None = None
    lines: Sequence[bytes] | None = None
    format: ReadingFormat | None = None


def file_options(
    config: Config,
    *,
    time: str | None = None,
    time_format: str | None = None,
    zone: str | None = None,
    every: float | None = None,
    stream: str | None = None,
    channels: str | None = None,
    missing: str | None = None,
    decimal: str | None = None,
) -> FileInput:
    """The options of the command line over the configuration's section `recording`.

    raises ConfigError  two that exclude each other
    """
    from pydantic import ValidationError

    from detector.cli.options import names_in
    from detector.config import FileInput

    given: dict[str, Any] = {
        "time": names_in(time),
        "time_format": time_format,
        "zone": zone,
        "every_s": every,
        "stream": names_in(stream),
        "channels": names_in(channels),
        "missing_values": names_in(missing),
        "decimal": decimal,
    }
    try:
        return FileInput.model_validate(
            {**config.recording.model_dump(), **{name: value for name, value in given.items() if value is not None}}
        )
    except ValidationError as error:
        raise ConfigError("; ".join(str(detail["msg"]).removeprefix("Value error, ") for detail in error.errors())) from None


def is_input_configured(input: Input) -> bool:
    """Whether the configuration says how messages are read."""
    from detector.config import Input

    unset = {"topics": (), "missing": "wait"}
    return input.model_copy(update=unset) != Input()


def open_source(
    config: Config, path: Path, options: FileInput, channels: Sequence[str] | None = None, *, keeps_messages: bool = False
) -> Source:
    """What a recording holds.

    JSON messages are a table of their fields, unless the configuration says under `input:` how they are read.

    channels        of the model, in its order; None: those that the options or the configuration name, or all that there are
    keeps_messages  JSON messages stay as they are, whether or not the configuration says how they are read

    raises DataError, ConfigError  it cannot be read as it is
    """
    from detector.adapters.recordings.files import is_json
    from detector.adapters.recordings.reader import read_recording
    from detector.cli.progress import working

    with working(f"reading {path.name}"):
        if is_json(path) and (keeps_messages or is_input_configured(config.input)):
            return _messages(config.input, path, options, channels)
        recording = read_recording(path, options, channels=channels)
    return Source(path, recording.channels, recording.understanding, recording)


def as_recording(source: Source) -> Recording:
    """The whole readings of a source."""
    from detector.adapters.recordings.messages import as_messages, recording_of
    from detector.cli.wiring import value_decoder
    from detector.core.readings import StreamNames

    if source.recording is not None:
        return source.recording
    assert source.lines is not None
    assert source.format is not None
    names = StreamNames()
    decoded = value_decoder(source.format, names).decode(as_messages(source.lines, source.path.name, source.path.name))
    if not len(decoded.batch):
        first = decoded.rejects[0].reason if decoded.rejects else "they are of other channels"
        raise DataError(
            f"{source.path.name}: none of {len(source.lines):,} messages can be read: {first}", fix="see `input:` in the configuration"
        )
    recording = recording_of([decoded], names, source.channels, source.lines, source.understanding.file)
    return replace(
        recording, understanding=replace(recording.understanding, lines=source.understanding.lines, order=source.understanding.order)
    )


def _messages(input: Input, path: Path, options: FileInput, channels: Sequence[str] | None) -> Source:
    from detector.adapters.recordings.json_lines import read_lines
    from detector.adapters.recordings.messages import as_messages, in_order
    from detector.cli.wiring import reading_format, value_decoder
    from detector.core.readings import StreamNames
    from detector.tables.json_table import table_of
    from detector.tables.recording import Understanding
    from detector.tables.understanding import understand

    lines, blank = read_lines(path)
    table = table_of(lines, options, path.name).table
    shape = _with_options(input, table, options, path.name)
    names = tuple(channels or shape.channels or understand(table, options, path.name).channels)
    written = reading_format(shape, names)
    decoded = value_decoder(written, StreamNames()).decode(as_messages(lines, path.name, path.name))
    ordered = in_order(lines, decoded)
    is_senml = shape.format == "senml"
    understanding = Understanding(
        file="SenML messages" if is_senml else "JSON messages, read as `input:` says",
        time_columns=() if shape.event_time.field is None else (shape.event_time.field,),
        time="as the records say" if is_senml else shape.event_time.unit,
        stream_columns=shape.stream or (),
        stream="as the records say" if is_senml else "as `input:` says" if shape.stream else "no field names any: the file's name does",
        left={} if is_senml else {name: "a field that is not asked for" for name in table.columns if name not in _asked_for(written)},
        order=ordered.order,
        lines={"blank": blank} if blank else {},
    )
    bounded = replace(written, earliest_us=ordered.earliest_us, latest_us=ordered.latest_us)
    return Source(path, names, understanding, lines=ordered.lines, format=bounded)


def _asked_for(written: ReadingFormat) -> set[str | None]:
    """The fields that are read."""
    paths = {written.event_time, *written.stream, written.array_path, written.records_path, written.channel_path, written.value_path}
    return paths | set(written.channels)


def _with_options(input: Input, table: Table, options: FileInput, where: str) -> Input:
    """`input:` with what the command line says, and with the field of the event time, which messages in a file need."""
    from detector.tables import epochs
    from detector.tables.times import find_times

    if options.time is not None and len(options.time) > 1:
        raise ConfigError("messages have one field of the event time", fix="name one with --time")
    changed: dict[str, Any] = {}
    if options.stream is not None:
        changed["stream"] = options.stream
    if options.channels is not None:
        changed["channels"] = options.channels
    if options.time is not None:
        changed["event_time"] = input.event_time.model_copy(update={"field": options.time[0]})
    elif input.event_time.field is None and input.format != "senml":
        try:
            found = find_times(table, where)
        except DataError as error:
            fix = "name the field with --time, or input.event_time.field in the configuration"
            raise DataError(f"messages in a file have no time of Kafka's, and {error}", fix=fix) from None
        units = {words: name.removeprefix("epoch_") for name, words in epochs.FORMATS.items() if name.startswith("epoch_")}
        unit = units.get(found.format, "auto")
        changed["event_time"] = input.event_time.model_copy(
            update={"field": found.columns[0], "unit": unit, "ties": input.event_time.ties or "offset"}
        )
    return input.model_copy(update=changed)
