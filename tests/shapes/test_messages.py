"""Every shape of messages: read as it is meant, or refused with a reason; none vanishes without a word."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from detector.cli import registry_wiring, wiring
from detector.codec.messages import Messages
from detector.config import Config
from detector.core.detector import Detector
from detector.core.readings import Disposition, Partition
from tests.shapes.messages import NOW_US, SHAPES, MessageShape


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_a_message_is_read_as_it_is_meant(shape: MessageShape) -> None:
    config = Config.model_validate({"input": yaml.safe_load("{" + shape.input + "}")})
    channels = config.input.channels
    assert channels is not None
    detector = Detector(wiring.load_model(config), wiring.settings(config))
    decoder = registry_wiring.decoder(config, wiring.reading_format(config.input, channels), detector.names)
    value = shape.value if isinstance(shape.value, bytes | None) else json.dumps(shape.value).encode()
    zeros = np.zeros(1, np.int32)
    decoded = decoder.decode(Messages([shape.key], [value], zeros, zeros.astype(np.int64), np.array([NOW_US]), (Partition("in", 0),)))
    batch = decoded.batch
    read = []
    for stream, time_us, row in zip(batch.stream_id.tolist(), batch.event_time_us.tolist(), batch.value.tolist(), strict=True):
        values = {name: number for name, number in zip(channels, row, strict=True) if number == number}
        read.append((detector.names.name(stream), (time_us - NOW_US) / 1e6, values))
    if batch.channel is not None:  # values of one reading, put together
        together: dict[tuple[str, float], dict[str, float]] = {}
        for name, at_s, values in read:
            together.setdefault((name, at_s), {}).update(values)
        read = [(*place, values) for place, values in together.items()]
    is_empty = [not values for _, _, values in read] if batch.channel is None else [False] * len(read)
    assert [one for one, empty in zip(read, is_empty, strict=True) if not empty] == list(shape.readings)
    assert [reject.error for reject in decoded.rejects] == ([shape.error] if shape.error else [])
    assert all(len(reject.reason) > 10 for reject in decoded.rejects)
    assert {text: count for (_, text), count in decoded.texts.items()} == shape.texts
    assert decoded.ignored == shape.ignored
    dispositions = detector.detect(batch).disposition.tolist()
    assert dispositions.count(Disposition.EMPTY) == shape.empty
    assert len(read) + len(decoded.rejects) + decoded.ignored > 0, "it vanished without a word"


def test_there_are_enough() -> None:
    assert len(SHAPES) >= 60
    assert len({shape.name for shape in SHAPES}) == len(SHAPES)
