"""Readings in Confluent's wire format: written by its own serializers with a real registry, judged by the real service on a real Kafka."""

from __future__ import annotations

import base64
import json
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer, JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import timestamp_pb2, wrappers_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from detector.adapters.kafka.schema_registry import SchemaRegistry
from detector.adapters.kafka.topic_io import TopicReader, TopicWriter
from detector.adapters.recordings.reader import read_recording
from detector.cli import main
from detector.cli.registry_wiring import Framing, checked, framing
from detector.codec.alerts import alert_schema
from detector.codec.confluent_wire_format import frame
from detector.codec.messages import Messages
from detector.codec.reading_format import ReadingFormat
from detector.config import Config
from detector.core.readings import Partition, StreamNames
from tests.broker.registry import Registry
from tests.broker.service import Service, alerts_on, essence
from tests.chaos.proxy import Mode, Proxies

pytestmark = pytest.mark.broker
Serialize = Callable[[dict[str, Any]], bytes]
STOPPED_S_MAX = 5.0
BUDGET = "20 per stream per day"


@pytest.fixture
def network(registry: Registry) -> Iterator[Proxies]:
    """The network between the service and the registry."""
    network = Proxies(1)
    network.lead_to([registry.port])
    yield network
    network.close()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(tmp_path)
    registry.start()
    yield registry
    registry.stop()


def avro(channels: dict[str, Any], name: str = "Reading") -> str:
    """An Avro schema of readings with these channels."""
    fields: list[dict[str, Any]] = [{"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}}]
    fields += [{"name": channel, "type": kind, "default": None} for channel, kind in channels.items()]
    return json.dumps({"type": "record", "name": name, "namespace": "plant", "fields": fields})


def proto(channels: dict[str, str]) -> str:
    """A .proto file of readings with these channels."""
    fields = "".join(f"  {kind} {channel} = {number};\n" for number, (channel, kind) in enumerate(channels.items(), 2))
    imports = "".join(f'import "google/protobuf/{name}.proto";\n' for name in ("timestamp", "wrappers"))
    return f'syntax = "proto3";\npackage plant;\n{imports}message Reading {{\n  google.protobuf.Timestamp at = 1;\n{fields}}}\n'


def serializer(client: SchemaRegistryClient, kind: str, topic: str, channels: list[str]) -> Serialize:
    """Confluent's own serializer of readings with these channels, until the next one is made; registers their schema."""
    client.set_compatibility(f"{topic}-value", "NONE")
    context = SerializationContext(topic, MessageField.VALUE)
    if kind == "avro":
        write_avro = AvroSerializer(client, avro({channel: ["null", "double"] for channel in channels}))
        return lambda reading: bytes(write_avro(reading, context) or b"")
    if kind == "json_schema":
        properties = {"at": {"type": "integer"}} | {channel: {"type": ["number", "null"]} for channel in channels}
        schema = {"title": "Reading", "type": "object", "properties": properties}
        write_json = JSONSerializer(json.dumps(schema), client)
        return lambda reading: bytes(write_json(reading, context) or b"")
    schema_id = client.register_schema(f"{topic}-value", Schema(proto(dict.fromkeys(channels, "optional double")), "PROTOBUF"))
    client = SchemaRegistryClient(client.config())  # type: ignore[no-untyped-call]  # the other takes the text that it has registered for the descriptor
    message = message_class(client, schema_id)
    write_protobuf = ProtobufSerializer(message, client, {"auto.register.schemas": False, "use.latest.version": True})

    def write(reading: dict[str, Any]) -> bytes:
        made = message(**{name: value for name, value in reading.items() if name != "at" and value is not None})
        made.at.FromMicroseconds(reading["at"])
        return bytes(write_protobuf(made, context) or b"")

    return write


def message_class(client: SchemaRegistryClient, schema_id: int) -> Any:
    file = FileDescriptorProto.FromString(base64.b64decode(client.get_schema(schema_id, fmt="serialized").schema_str or ""))
    pool = DescriptorPool()
    for known in (timestamp_pb2, wrappers_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("plant.Reading"))


@pytest.fixture(scope="module")
def expected(small_bundle: Path, plant_recording: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The alerts of the recording, without Kafka and without schemas."""
    folder = tmp_path_factory.mktemp("expected")
    (folder / "detector.yaml").write_text(json.dumps({"model": str(small_bundle), "alerts": {"budget": BUDGET}}))
    files = ["--out", str(folder / "v.parquet"), "--alerts", str(folder / "alerts.jsonl")]
    assert main(["replay", str(plant_recording), *files, "--config", str(folder / "detector.yaml")]) == 0
    return [json.loads(line) for line in (folder / "alerts.jsonl").read_text().splitlines()]


def configuration(tmp_path: Path, kafka: str, url: str, topic: str, bundle: Path, input: str, output: str = "json") -> Path:
    path = tmp_path / "detector.yaml"
    path.write_text(
        json.dumps(
            {
                "group": f"plant-{uuid.uuid4().hex[:8]}",
                "model": str(bundle),
                "input": {"topics": [topic], "event_time": {"field": "at"}, "format": input},
                "output": {"format": output},
                "schema_registry": {"url": url, "basic.auth.user.info": "me:correct-horse"},
                "kafka": {"bootstrap.servers": kafka},
                "alerts": {"budget": BUDGET},
            }
        )
    )
    return path


@pytest.mark.parametrize(("kind", "output"), [("avro", "json"), ("protobuf", "json_schema"), ("json_schema", "json_schema")])
def test_alerts_are_those_of_the_recording_in_every_format(
    kind: str,
    output: str,
    kafka: str,
    registry: Registry,
    make_topic: Callable[..., str],
    start: Callable[[list[str]], Service],
    small_bundle: Path,
    plant_recording: Path,
    expected: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    """Half of it is written with a schema that has got a channel more."""
    topic = make_topic("sensors")
    client = SchemaRegistryClient({"url": registry.url})
    path = configuration(tmp_path, kafka, registry.url, topic, small_bundle, kind, output)
    options = ["--config", str(path)]
    group = json.loads(path.read_text())["group"]
    assert main(["topics", "create", *options]) == 0
    recording = read_recording(plant_recording)
    channels = list(recording.channels)
    halves = ((channels, range(len(recording) // 2)), ([*channels, "humidity"], range(len(recording) // 2, len(recording))))
    with TopicWriter({"bootstrap.servers": kafka}, topic) as writer:
        for known, places in halves:
            write = serializer(client, kind, topic, known)
            for place in places:
                values = [None if value != value else value for value in recording.value[place].tolist()]
                reading = dict(zip(known, [*values, 40.0], strict=False))
                stream = recording.streams[recording.stream[place]].encode()
                writer.write(stream, write({"at": int(recording.event_time_us[place]), **reading}))
    assert main(["check", *options]) == 0

    service = start(options)
    service.wait_for(lambda: service.metrics()["detector_messages_polled_total"] == len(recording))
    assert service.metrics().get("detector_dead_letters_total", 0) == 0
    assert service.end(signal.SIGTERM) == 0
    assert "horse" not in service.log.read_text() + service.screen

    if output == "json":
        told = alerts_on(kafka, f"{group}.alerts")
    else:
        subject = client.get_latest_version(f"{group}.alerts-value")
        read: Any = JSONDeserializer(None, schema_registry_client=client)
        with TopicReader({"bootstrap.servers": kafka}, f"{group}.alerts") as reader:
            framed = [value or b"" for batch in reader.batches() for value in batch.value]
        assert {value[:5] for value in framed} == {frame(subject.schema_id or 0)}
        assert json.loads(subject.schema.schema_str or "") == alert_schema()
        context = SerializationContext(f"{group}.alerts", MessageField.VALUE)
        told = [read(value, context) for value in framed]
        assert main(["check", *options]) == 0
    assert told, "the faults of the recording should open alerts"
    assert sorted(map(essence, told)) == sorted(map(essence, expected))


def test_it_waits_for_a_registry_that_went_away(
    kafka: str,
    registry: Registry,
    network: Proxies,
    make_topic: Callable[..., str],
    start: Callable[[list[str]], Service],
    small_bundle: Path,
    tmp_path: Path,
) -> None:
    """Nothing that was read meanwhile is lost, or judged twice, or taken for bad data; what is bad becomes a dead letter."""
    topic = make_topic("sensors")
    path = configuration(tmp_path, kafka, f"http://127.0.0.1:{network.ports[0]}", topic, small_bundle, "avro")
    options = ["--config", str(path)]
    group = json.loads(path.read_text())["group"]
    assert main(["topics", "create", *options]) == 0

    def registered() -> tuple[Serialize, Serialize]:
        client = SchemaRegistryClient({"url": registry.url})
        both = serializer(client, "avro", topic, ["temperature"]), serializer(client, "avro", topic, ["temperature", "pressure"])
        for write in both:
            write({"at": 0})  # which registers the schema
        return both

    old, new = registered()
    now_us = int(time.time() * 1e6)

    def send(*values: bytes) -> None:
        with TopicWriter({"bootstrap.servers": kafka}, topic) as writer:
            for value in values:
                writer.write(b"pump", value)

    send(*(old({"at": now_us + place, "temperature": 1.0}) for place in range(10)))
    bad = [frame(99) + b"rest", b"not framed", frame(1) + b"\xff\xff", b'{"temperature": 1}']
    send(*bad, old({"at": now_us + 10, "temperature": 1.0}))
    service = start(options)
    service.wait_for(lambda: service.metrics()["detector_messages_polled_total"] == 15)
    assert service.metrics()["detector_dead_letters_total"] == 4

    ahead = [new({"at": now_us + place, "temperature": 1.0, "pressure": 2.0}) for place in range(20, 30)]
    registry.stop()
    network.set(0, Mode.CUT)
    send(old({"at": now_us + 15, "temperature": 1.0}))  # a schema that is known needs no registry
    service.wait_for(lambda: service.metrics()["detector_messages_polled_total"] == 16)
    send(*ahead)
    service.wait_for(lambda: service.metrics()["detector_log_unavailable_errors_total"] >= 3)
    assert {service.get("/-/ready")[0] for _ in range(20)} == {503}
    assert service.get("/-/healthy")[0] == 200
    begin = time.monotonic()
    assert service.end(signal.SIGTERM) == 0  # while it waits
    assert time.monotonic() - begin < STOPPED_S_MAX
    (first, *_) = [line for line in service.lines() if line["event"] == "log unavailable"]
    assert f"the schema registry at http://127.0.0.1:{network.ports[0]} is unavailable, asking for schema 2" in first["reason"]
    assert "check that the registry runs" in first["fix"]

    again = start(options)
    again.wait_for(lambda: again.metrics()["detector_log_unavailable_errors_total"] >= 3)
    assert again.metrics()["detector_messages_polled_total"] == 0
    registry.start()
    registered()
    network.set(0, Mode.PASS)
    again.wait_for(lambda: again.metrics()["detector_messages_polled_total"] == 10)
    again.wait_for(lambda: again.get("/-/ready")[0] == 200)
    assert again.metrics().get("detector_dead_letters_total", 0) == 0
    assert again.metrics()["detector_streams"] == 1
    assert again.end(signal.SIGTERM) == 0
    for log in (service.log, again.log):
        assert "Traceback" not in log.read_text()
        assert "horse" not in log.read_text()

    with TopicReader({"bootstrap.servers": kafka}, f"{group}.dead-letters") as reader:
        dead_letters = [(value, dict(batch.headers(place))) for batch in reader.batches() for place, value in enumerate(batch.value)]
    assert [value for value, _ in dead_letters] == bad
    errors = [(headers["__connect.errors.exception.class.name"] or b"").decode() for _, headers in dead_letters]
    assert errors == ["UnknownSchema", "NotFramed", "MalformedRecord", "NotFramed"]


def batch_of(values: list[bytes]) -> Messages:
    count = len(values)
    return Messages([b"k"] * count, values, np.zeros(count, np.int32), np.arange(count), np.full(count, -1), (Partition("t", 0),))


def framing_of(registry: Registry, input: str, channels: tuple[str, ...]) -> Framing:
    config = Config.model_validate(
        {"input": {"format": input}, "schema_registry": {"url": registry.url}, "kafka": {"bootstrap.servers": "nowhere"}}
    )
    return framing(config, ReadingFormat(channels, event_time="at"), StreamNames())


@pytest.mark.parametrize("kind", ["avro", "protobuf", "json_schema"])
def test_a_channel_comes_and_another_goes(kind: str, registry: Registry) -> None:
    client = SchemaRegistryClient({"url": registry.url})
    write = partial(serializer, client, kind, "t")
    reading = {"at": 1_793_527_200_123_456, "a": 1.0, "b": 2.0, "c": 3.0}
    values = []
    for channels in (["a", "b"], ["a", "b", "c"], ["a", "c"]):
        values.append(write(channels)({name: reading[name] for name in ("at", *channels)}))
    decoded = framing_of(registry, kind, ("a", "b"))["decoder"].decode(batch_of(values))
    assert np.array_equal(decoded.batch.value, np.array([[1, 2], [1, 2], [1, np.nan]], np.float32), equal_nan=True)
    assert decoded.batch.event_time_us.tolist() == [reading["at"]] * 3
    assert len({value[:5] for value in values}) == 3


def test_schemas_refer_to_others_in_the_registry(registry: Registry) -> None:
    client = SchemaRegistryClient({"url": registry.url})
    client.register_schema(
        "value", Schema('{"type": "record", "name": "Value", "namespace": "plant", "fields": [{"name": "si", "type": "double"}]}')
    )
    whole = Schema(avro({"a": "plant.Value"}).replace(', "default": null', ""), "AVRO", [SchemaReference("plant.Value", "value", 1)])
    context = SerializationContext("t", MessageField.VALUE)
    value = AvroSerializer(client, whole)({"at": 1_793_527_200_123_456, "a": {"si": 4.5}}, context)
    assert framing_of(registry, "avro", ("a.si",))["decoder"].decode(batch_of([value or b""])).batch.value.tolist() == [[4.5]]
    read: Any = AvroDeserializer(client)(value, context)
    assert read["a"] == {"si": 4.5}  # Confluent's reads the same

    common = 'syntax = "proto3";\npackage plant;\nmessage Value { double si = 1; }\n'
    client.register_schema("common.proto", Schema(common, "PROTOBUF"))
    text = proto({"a": "Value"}).replace("message", 'import "common.proto";\nmessage')
    schema_id = client.register_schema("p-value", Schema(text, "PROTOBUF", [SchemaReference("common.proto", "common.proto", 1)]))
    record = b"\0" + b"\x0a\x06\x08\xa0\x9b\x9c\xd7\x06" + b"\x12\x09\x09" + np.float64(4.5).tobytes()
    assert framing_of(registry, "protobuf", ("a.si",))["decoder"].decode(batch_of([frame(schema_id) + record])).batch.value.tolist() == [
        [4.5]
    ]


def test_the_schema_of_alerts_keeps_its_id(registry: Registry) -> None:
    ids = [SchemaRegistry({"url": registry.url}).id_of("g.alerts-value", json.dumps(alert_schema())) for _ in range(3)]
    assert len(set(ids)) == 1


def test_a_subject_of_another_type_is_told(registry: Registry, kafka: str, make_topic: Callable[..., str], small_bundle: Path, tmp_path: Path,
                                          capfd: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    topic = make_topic("sensors")
    path = configuration(tmp_path, kafka, registry.url, topic, small_bundle, "protobuf")
    assert main(["topics", "create", "--config", str(path)]) == 0
    assert main(["check", "--config", str(path)]) == 0
    assert f"the registry answers; it knows no {topic}-value yet" in capfd.readouterr().out
    serializer(SchemaRegistryClient({"url": registry.url}), "avro", topic, ["a"])({"at": 0, "a": 1.0})
    assert main(["check", "--config", str(path)]) == 2
    assert f"the newest schema of {topic}-value is of type AVRO, the configuration says PROTOBUF" in capfd.readouterr().err
    registry.stop()
    assert main(["check", "--config", str(path)]) == 1
    told = capfd.readouterr().err
    assert "is unavailable" in told
    assert "fix: check that the registry runs" in told


def test_messages_without_schemas_beside_alerts_with_one_are_checked_too(registry: Registry) -> None:
    config = Config.model_validate(
        {
            "input": {"topics": ("sensors",), "format": "senml", "channels": ("temp",)},
            "output": {"format": "json_schema"},
            "schema_registry": {"url": registry.url},
        }
    )
    assert list(checked(config)) == ["the registry answers; it knows no detector.alerts-value yet"]
