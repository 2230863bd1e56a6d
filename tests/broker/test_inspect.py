"""`detector inspect --topic` on topics of a real Kafka: the configuration that it proposes, used as it is, judges all that they hold."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from detector.adapters.kafka.topic_io import TopicReader, TopicWriter
from detector.adapters.kafka.topics import create_topics, output_topics
from detector.cli import main, registry_wiring, wiring
from detector.config import load_config
from detector.core.detector import Detector
from detector.core.readings import Disposition
from tests.broker.members import MakeTopic
from tests.broker.registry import Registry

pytestmark = pytest.mark.broker
START_MS = 1_790_000_000_000
COUNT = 600
draw = random.Random(3)
NOISE = [round(draw.gauss(20, 1), 3) for _ in range(COUNT)]

Value = Callable[[int], Any]


@dataclass(frozen=True)
class Form:
    """Messages of a topic: key and value by number; and what is judged of all of them."""

    key: Callable[[int], bytes | None]
    value: Value
    streams: list[str]
    channels: list[str]
    readings: int
    partitions: int = 3


def ms(place: int) -> int:
    return START_MS + place * 1_000


def iso(place: int) -> str:
    return str(np.datetime64(ms(place), "ms")) + "Z"


MACHINES = [f"press-{number}" for number in range(4)]
FORMS = {
    "named fields, the key names the stream": Form(
        lambda k: MACHINES[k % 4].encode(),
        lambda k: {"time": ms(k), "temp": NOISE[k], "rpm": k % 7, "running": k % 2 == 0, "state": "RUN", "id": f"r{k}"},
        MACHINES,
        ["temp", "rpm", "running"],
        COUNT,
    ),
    "nested fields, no keys": Form(
        lambda k: None,
        lambda k: {"payload": {"machine": {"id": MACHINES[k % 4]}, "values": {"temp": NOISE[k], "rpm": k % 7}}, "ts": iso(k)},
        MACHINES,
        ["payload.values.temp", "payload.values.rpm"],
        COUNT,
        partitions=1,
    ),
    "long format, a gateway's key": Form(
        lambda k: b"gateway-1",
        lambda k: {"device": MACHINES[k % 4], "metric": ("hum", "temp")[k // 4 % 2], "value": NOISE[k], "timestamp": ms(k // 8)},
        MACHINES,
        ["hum", "temp"],
        COUNT // 2,
    ),
    "a gateway's arrays": Form(
        lambda k: b"gateway-1",
        lambda k: {"gateway": 1, "readings": [{"device": name, "ts": ms(k), "v": {"a": NOISE[k], "b": k % 5}} for name in MACHINES]},
        MACHINES,
        ["v.a", "v.b"],
        4 * COUNT,
    ),
    "JSON inside text": Form(
        lambda k: MACHINES[k % 4].encode(),
        lambda k: {"type": "telemetry", "data": json.dumps({"ts": ms(k), "a": NOISE[k], "b": k % 5})},
        MACHINES,
        ["data.a", "data.b"],
        COUNT,
    ),
    "times that only a person reads": Form(
        lambda k: MACHINES[k % 4].encode(),
        lambda k: {"Zeit": f"{13 + k // 1440}.03.2026 {k // 60 % 24:02d}:{k % 60:02d}", "temp": NOISE[k]},
        MACHINES,
        ["temp"],
        COUNT,
    ),
    "a message per measurement, as Telegraf writes them": Form(
        lambda k: MACHINES[k // 2 % 4].encode(),
        lambda k: {
            "name": ("temp", "power")[k % 2],
            "tags": {"host": MACHINES[k // 2 % 4]},
            "fields": {("oven", "kw")[k % 2]: NOISE[k]},
            "timestamp": ms(k // 8) // 1_000,
        },
        MACHINES,
        ["fields.oven", "fields.kw"],
        COUNT // 2,
    ),
    "no time in messages, keys of the LongSerializer": Form(
        lambda k: (k % 4).to_bytes(8, "big"),
        lambda k: {"temp": NOISE[k], "rpm": k % 7},
        ["0", "1", "2", "3"],
        ["temp", "rpm"],
        COUNT,
    ),
    "JSON keys with fields": Form(
        lambda k: json.dumps({"site": "a", "machine": MACHINES[k % 4]}).encode(),
        lambda k: {"time": ms(k), "temp": NOISE[k], "gone": None, "state": "unavailable" if k % 90 == 0 else 5.5},
        MACHINES,
        ["temp", "state"],
        COUNT,
    ),
}


KEY_SCHEMA = {
    "type": "record",
    "name": "Key",
    "fields": [{"name": "site", "type": "int"}, {"name": "machine", "type": "string"}],
}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(tmp_path)
    registry.start()
    yield registry
    registry.stop()


def judged(config: Path) -> tuple[list[str], int, list[str]]:
    """Streams, readings that are judged, and what becomes of others, if a configuration judges all that its topic holds."""
    settings = load_config(config)
    model = wiring.load_model(settings)
    detector = Detector(model, wiring.settings(settings))
    decoder = registry_wiring.decoder(settings, wiring.reading_format(settings.input, model.channels), detector.names)
    whole, others, streams = 0, [], set()
    with TopicReader(settings.kafka_properties(), settings.input.topics[0]) as reader:
        for messages in reader.batches():
            decoded = decoder.decode(messages)
            others += [reject.reason for reject in decoded.rejects]
            found = detector.detect(decoded.batch)
            streams |= {detector.names.name(each) for each in decoded.batch.stream_id.tolist()}
            names = [Disposition(each).name for each in found.disposition.tolist()]
            whole += sum(name in ("SCORED", "WARMUP") for name in names)
            others += [name for name in names if name not in ("SCORED", "WARMUP", "PARTIAL")]
    return sorted(streams), whole, others


@pytest.mark.parametrize("form", FORMS)
def test_the_proposed_configuration_judges_all(
    form: str, kafka: str, make_topic: MakeTopic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    want = FORMS[form]
    topic, config = make_topic("in", want.partitions), tmp_path / "detector.yaml"
    with TopicWriter({"bootstrap.servers": kafka}, topic) as writer:
        for number in range(COUNT):
            writer.write(want.key(number), json.dumps(want.value(number)).encode(), (START_MS + number * 1_000) * 1_000)
    command = ["inspect", "--topic", topic, "--bootstrap-servers", kafka, "--write", str(config)]
    assert main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [channel["name"] for channel in said["read"]["channels"]] == want.channels
    assert not said["not_judged"]
    assert judged(config) == (want.streams, want.readings, [])


def test_records_in_avro_are_read_by_the_registry(
    kafka: str, make_topic: MakeTopic, registry: Registry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic, config = make_topic("in", 2), tmp_path / "detector.yaml"
    schema = {
        "type": "record",
        "name": "Reading",
        "fields": [
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "temp", "type": "double"},
            {"name": "rpm", "type": ["null", "int"]},
        ],
    }
    client = SchemaRegistryClient({"url": registry.url})
    write, write_key = AvroSerializer(client, json.dumps(schema)), AvroSerializer(client, json.dumps(KEY_SCHEMA))
    with TopicWriter({"bootstrap.servers": kafka}, topic) as writer:
        for number in range(COUNT):
            value = write({"at": ms(number), "temp": NOISE[number], "rpm": number % 5}, SerializationContext(topic, MessageField.VALUE))
            key = write_key({"site": 1, "machine": MACHINES[number % 4]}, SerializationContext(topic, MessageField.KEY))
            writer.write(key, value, ms(number) * 1_000)
    command = ["inspect", "--topic", topic, "--bootstrap-servers", kafka]
    assert main(command) == 2  # nothing says where the schemas are
    assert "schema_registry: {url:" in capsys.readouterr().err
    base = tmp_path / "base.yaml"
    base.write_text(f"schema_registry: {{url: '{registry.url}'}}\n", encoding="utf-8")
    assert main([*command, "--config", str(base), "--write", str(config)]) == 0
    said = capsys.readouterr().out
    assert "Avro in Confluent's wire format" in said
    assert "records in Confluent's frame, by field 'machine'" in said
    assert "key: framed" in config.read_text(encoding="utf-8")
    assert judged(config) == (MACHINES, COUNT, [])


def test_check_reads_a_sample_with_the_configured_decoder(
    kafka: str, make_topic: MakeTopic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic, config = make_topic("in"), tmp_path / "detector.yaml"
    with TopicWriter({"bootstrap.servers": kafka}, topic) as writer:
        for number in range(50):
            writer.write(b"a", b"no JSON" if number < 10 else json.dumps({"ts": ms(number), "temp": number}).encode())
    text = f"group: {topic}\ninput: {{topics: [{topic}], event_time: {{field: ts}}, channels: [CHANNEL]}}\nkafka: {{bootstrap.servers: '{kafka}'}}\n"
    config.write_text(text.replace("CHANNEL", "temp"), encoding="utf-8")
    settings = load_config(config)
    create_topics(
        settings.kafka_properties(), output_topics(settings.alerts_topic, settings.dead_letters_topic), state=settings.state_topics
    )
    assert main(["check", "--config", str(config), "--sample"]) == 0
    said = capsys.readouterr().out
    assert "50 messages, 50 readings, 40 of them would be judged" in said
    assert "channel temp: in 100% of the readings" in said
    assert "not judged 10: MalformedJson" in said
    config.write_text(text.replace("CHANNEL", "Temp"), encoding="utf-8")
    assert main(["check", "--config", str(config), "--sample"]) == 1
    refused = capsys.readouterr()
    assert "channel Temp: in 0% of the readings; did you mean temp?" in refused.out
    assert "nothing would be judged" in refused.err


def test_a_topic_without_json_is_refused_with_what_can_be_read(
    kafka: str, make_topic: MakeTopic, capsys: pytest.CaptureFixture[str]
) -> None:
    topic = make_topic("in")
    with TopicWriter({"bootstrap.servers": kafka}, topic) as writer:
        for number in range(20):
            writer.write(b"a", f"{number};21,5".encode())
    assert main(["inspect", "--topic", topic, "--bootstrap-servers", kafka]) == 1
    said = capsys.readouterr().err
    assert "holds no JSON objects, but lines such as '0;21,5'" in said
    assert "fix: readings are JSON objects" in said


def test_an_empty_topic_and_one_that_is_not_there(kafka: str, make_topic: MakeTopic, capsys: pytest.CaptureFixture[str]) -> None:
    topic = make_topic("empty")
    assert main(["inspect", "--topic", topic, "--bootstrap-servers", kafka]) == 1
    assert f"topic {topic} holds no messages" in capsys.readouterr().err
    assert main(["inspect", "--topic", topic[:-1], "--bootstrap-servers", kafka]) == 2
    assert f"did you mean {topic}?" in capsys.readouterr().err
