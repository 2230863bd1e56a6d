"""Every example of docs/messages.md: its messages, read by its configuration, give its readings."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from detector.adapters.recordings.messages import recording_of
from detector.cli import registry_wiring, wiring
from detector.codec.event_time import rfc3339
from detector.codec.messages import Messages
from detector.config import Config
from detector.core.readings import Partition, StreamNames

DOC = Path(__file__).parent.parent / "docs" / "messages.md"
EXAMPLE = re.compile(
    r"^#+ (?P<title>[^\n]+)\n(?P<text>(?:(?!^#)[^\n]*\n)*?)```json\n(?P<messages>.*?)```\n```yaml\n(?P<config>.*?)```\n```text\n(?P<readings>.*?)```",
    re.MULTILINE | re.DOTALL,
)
EXAMPLES = {match["title"]: match for match in EXAMPLE.finditer(DOC.read_text(encoding="utf-8"))}
NOW_US = 1_772_500_000_000_000


def test_all_examples_are_found() -> None:
    assert len(EXAMPLES) == DOC.read_text(encoding="utf-8").count("```json")
    assert len(EXAMPLES) >= 13


@pytest.mark.parametrize("title", EXAMPLES)
def test_the_example_is_read_as_it_says(title: str) -> None:
    example = EXAMPLES[title]
    values = example["messages"].splitlines()
    assert all(json.loads(value) for value in values)
    key = match[1] if (match := re.search(r"Key: `([^`]+)`", example["text"])) else "key"
    config = Config.model_validate(yaml.safe_load(example["config"]))
    assert config.input.channels is not None
    names, count = StreamNames(), len(values)
    decoder = registry_wiring.decoder(config, wiring.reading_format(config.input, config.input.channels), names)
    messages = Messages(
        [key.encode()] * count,
        [value.encode() for value in values],
        np.zeros(count, np.int32),
        np.arange(count),
        np.full(count, NOW_US),
        (Partition("sensors", 0),),
    )
    decoded = decoder.decode(messages)
    assert not decoded.rejects
    found = recording_of([decoded], names, config.input.channels, None, "")
    read = []
    for stream, time_us, value in zip(found.stream.tolist(), found.event_time_us.tolist(), found.value.tolist(), strict=True):
        channels = " ".join(f"{name}={number:g}" for name, number in zip(found.channels, value, strict=True) if number == number)
        read.append(f"{found.streams[stream]} {rfc3339(time_us).replace('.000000Z', 'Z')} {channels}")
    assert read == example["readings"].splitlines()
