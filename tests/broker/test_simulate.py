"""`detector simulate` into a topic: what it writes is what the configuration reads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.adapters.kafka.topic_io import TopicReader
from detector.adapters.recordings.reader import read_recording
from detector.cli import main
from detector.cli.wiring import reading_format
from detector.codec.readings import JsonReadings
from detector.config import load_config
from detector.core.readings import StreamNames

pytestmark = pytest.mark.broker
PLANT = ["--machines", "3", "--hours", "0.5", "--seed", "4"]
START = ["--start", "2026-01-02T00:00:00"]
INPUTS: dict[str, dict[str, Any]] = {
    "as deploy/detector.yaml": {"event_time": {"field": "time"}},
    "nested, its own names": {
        "stream": ["at.site", "at.machine"],
        "event_time": {"field": "at.time", "unit": "iso8601"},
        "channels": ["t.value", "p.value", "v", "c"],
    },
    "two channels, Kafka's time": {"channels": ["current", "temperature"]},
    "one value per message": {"long_format": {"channel": "tag", "value": "value"}, "event_time": {"field": "ts", "unit": "s"}},
    "a gateway's arrays": {"records_path": "batch", "array_path": "all", "event_time": {"field": "ts", "unit": "ms"}},
}


@pytest.mark.parametrize("source", ["plant", "recording"])
@pytest.mark.parametrize("described", INPUTS.values(), ids=INPUTS)
def test_what_is_written_is_what_is_read(
    described: dict[str, Any], source: str, kafka: str, make_topic: Callable[..., str], tmp_path: Path
) -> None:
    topic, settings, recording = make_topic("sensors"), tmp_path / "detector.yaml", tmp_path / "plant.parquet"
    settings.write_text(json.dumps({"input": described, "kafka": {"bootstrap.servers": kafka}}))
    assert main(["simulate", "--out", str(recording), *PLANT, *START]) == 0
    played = [*PLANT, *START] if source == "plant" else ["--from", str(recording)]
    assert main(["simulate", *played, "--topic", topic, "--speed", "full", "--config", str(settings)]) == 0

    told = read_recording(recording)
    chosen = [told.channels.index(name) for name in described.get("channels", ()) if name in told.channels] or [0, 1, 2, 3]
    described_as = load_config(settings).input
    names = StreamNames()
    decoder = JsonReadings(reading_format(described_as, described_as.channels or told.channels), names)
    with TopicReader({"bootstrap.servers": kafka}, topic) as reader:
        decoded = [decoder.decode(messages) for messages in reader.batches()]
    assert not any(each.rejects for each in decoded)
    batches = [each.batch for each in decoded]
    value = np.concatenate([batch.value for batch in batches])
    times = np.concatenate([batch.event_time_us for batch in batches])
    streams = [names.name(stream) for batch in batches for stream in batch.stream_id.tolist()]
    expected = told.value[:, chosen].astype(np.float32)
    if "long_format" in described:
        value, expected = value[~np.isnan(value)], expected[~np.isnan(expected)]
        times, streams = times[::4], streams[::4]
    assert np.array_equal(value, expected, equal_nan=True)
    assert np.array_equal(times, told.event_time_us)
    assert streams == [told.streams[stream] for stream in told.stream.tolist()]


def test_what_it_cannot_write_is_said(
    kafka: str, make_topic: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topic, settings = make_topic("sensors"), tmp_path / "detector.yaml"
    registry = {"schema_registry": {"url": "http://127.0.0.1:1"}}
    for described, further, said in (
        (
            {"channels": ["a", "b"]},
            {},
            "the plant has 4 channels (temperature, pressure, vibration, current), input.channels names 2 (a, b)",
        ),
        ({"format": "avro"}, registry, "the configuration reads avro"),
    ):
        settings.write_text(json.dumps({"input": described, "kafka": {"bootstrap.servers": kafka}, **further}))
        assert main(["simulate", "--topic", topic, *PLANT, "--config", str(settings)]) == 2
        assert said in capsys.readouterr().err
