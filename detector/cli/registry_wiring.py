"""Wires the schema registry: readings and alerts in Confluent's wire format (extra `schema`)."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, TypedDict

from detector.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from detector.adapters.kafka.schema_registry import SchemaRegistry
    from detector.codec.confluent_wire_format import MakeReader, SchemaType
    from detector.codec.reading_format import ReadingFormat
    from detector.config import Config
    from detector.core.readings import StreamNames
    from detector.service.worker import Decoder

SCHEMA_TYPES: dict[str, SchemaType] = {"avro": "AVRO", "protobuf": "PROTOBUF", "json_schema": "JSON"}


def needs_registry(config: Config) -> bool:
    """Whether anything that is read or written is in Confluent's wire format."""
    return config.input.format in SCHEMA_TYPES or config.input.key == "framed" or config.output.format != "json"


def open_registry(config: Config) -> SchemaRegistry | None:
    """The configured registry; None if the configuration needs none. It is not asked yet.

    raises ConfigError  its properties are wrong, or what it needs is not installed
    """
    if not needs_registry(config):
        return None
    try:
        import fastavro  # noqa: F401 - only to see that it is installed, and the next one too
        import google.protobuf  # noqa: F401

        from detector.adapters.kafka.schema_registry import SchemaRegistry
    except ImportError as error:
        raise ConfigError(
            f"readings or alerts in Confluent's wire format need packages that are not installed ({error.name})",
            fix="pip install 'detector[schema]'",
        ) from None
    return SchemaRegistry(config.registry_properties())


class Framing(TypedDict, total=False):
    """The arguments of `wiring.worker` that say how messages are read, and how alerts are framed."""

    decoder: Decoder
    alert_frame: bytes


def framing(config: Config, written: ReadingFormat, names: StreamNames) -> Framing:
    """The configured decoder, and the frame of alerts where they have one.

    The id of the alerts' schema is looked up once: an alert that is repeated after a crash must be the same byte for byte.

    raises ConfigError     as `open_registry`
    raises LogUnavailable  the registry cannot be asked for the schema of alerts
    """
    registry = open_registry(config)
    found: Framing = {"decoder": _decoder(config, written, names, registry)}
    if config.output.format != "json":
        from detector.codec.alerts import alert_schema
        from detector.codec.confluent_wire_format import frame

        assert registry is not None
        found["alert_frame"] = frame(registry.id_of(f"{config.alerts_topic}-value", json.dumps(alert_schema(), sort_keys=True)))
    return found


def decoder(config: Config, written: ReadingFormat, names: StreamNames) -> Decoder:
    """Reads messages of a topic as the configuration says.

    raises ConfigError  as `open_registry`
    """
    return _decoder(config, written, names, open_registry(config))


def _decoder(config: Config, written: ReadingFormat, names: StreamNames, registry: SchemaRegistry | None) -> Decoder:
    from detector.cli.wiring import value_decoder
    from detector.codec.confluent_wire_format import RecordReaders, WireFormatReadings
    from detector.codec.keys import KeyedReadings, KeyReader

    readings: Decoder = value_decoder(written, names)
    if (schema_type := SCHEMA_TYPES.get(config.input.format)) is not None:
        assert registry is not None
        readings = WireFormatReadings(written, names, schema_type, registry.fetch, _make_reader(schema_type, written))
    if config.input.stream:
        return readings
    readers = None
    if config.input.key == "framed":
        assert registry is not None
        makers = {schema_type: _make_reader(schema_type, None) for schema_type in SCHEMA_TYPES.values()}
        readers = RecordReaders(registry.fetch, makers, "input.key")
    return KeyedReadings(readings, KeyReader(config.input.key, config.input.key_field, readers))


def unframed(config: Config, values: Sequence[bytes | None]) -> tuple[str, list[bytes | None]]:
    """Records in Confluent's frame as the equal JSON, with all their fields, and the `input.format` that says so.

    What cannot be read stays as it is.

    raises ConfigError     the configuration names no registry; the schemas are of several types
    raises LogUnavailable  the registry cannot be asked
    """
    from detector.codec.confluent_wire_format import FRAME_BYTES
    from detector.codec.reading_format import Unreadable

    heads = {value[:FRAME_BYTES] for value in values if value and len(value) > FRAME_BYTES and value[0] == 0}
    ids = {int.from_bytes(head[1:], "big"): head for head in heads}
    shown = ", ".join(map(str, sorted(ids)[:5]))
    if not config.schema_registry:
        raise ConfigError(
            f"records are in Confluent's frame, of schema {shown}, and no schema registry is configured",
            fix="write 'schema_registry: {url: http://host:8081}' in a file and name it with --config",
        )
    registry = open_registry(config.model_copy(update={"input": config.input.model_copy(update={"format": "avro"})}))
    assert registry is not None
    schemas = {schema_id: schema for schema_id, schema in registry.fetch(ids).items() if schema is not None}
    registry.close()
    formats = {each: kind for each, kind in SCHEMA_TYPES.items() if any(schema.type == kind for schema in schemas.values())}
    if len(formats) != 1:
        found = ", ".join(f"{schema_id} is {schema.type}" for schema_id, schema in schemas.items()) or "it knows none of them"
        raise ConfigError(f"messages have schemas {shown}; of these {found}", fix="a topic that is read has schemas of one type")
    ((name, schema_type),) = formats.items()
    make = _make_reader(schema_type, None)
    readers = {ids[schema_id]: make(schema, schema_id) for schema_id, schema in schemas.items()}
    texts: list[bytes | None] = []
    for value in values:
        read = readers.get((value or b"")[:FRAME_BYTES])
        try:
            texts.append(read(value) if read is not None and value else value)
        except Unreadable:
            texts.append(value)
    return name, texts


def _make_reader(schema_type: SchemaType, written: ReadingFormat | None) -> MakeReader:
    """Makes a reader of the records of one schema. written: which fields are read; None: all"""
    match schema_type:
        case "AVRO":
            from detector.codec.avro import avro_reader

            return avro_reader
        case "PROTOBUF":
            from detector.codec.protobuf import protobuf_reader

            return partial(protobuf_reader, written)
        case "JSON":
            from detector.codec.confluent_wire_format import json_reader

            return json_reader


def checked(config: Config) -> Iterator[str]:
    """Asks the registry; a line for each subject that it should know.

    raises LogUnavailable, ConfigError
    """
    registry = open_registry(config)
    if registry is None:
        return
    if (kind := SCHEMA_TYPES.get(config.input.format)) is not None:
        for topic in config.input.topics:
            yield _subject(registry, f"{topic}-value", kind)
    if config.output.format != "json":
        yield _subject(registry, f"{config.alerts_topic}-value", "JSON")
    registry.close()


def _subject(registry: SchemaRegistry, subject: str, kind: str) -> str:
    found = registry.latest(subject)
    if found is None:
        return f"the registry answers; it knows no {subject} yet"
    schema_id, found_kind = found
    if found_kind != kind:
        raise ConfigError(
            f"the newest schema of {subject} is of type {found_kind}, the configuration says {kind}",
            fix="set input.format or output.format to what is registered",
        )
    return f"{subject}, id {schema_id}"
