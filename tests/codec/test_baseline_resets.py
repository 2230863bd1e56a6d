"""A message without a value is bad, unless it is marked as an acceptance and names a stream."""

from __future__ import annotations

import numpy as np

from detector.codec.baseline_resets import HEADER, baseline_reset, with_baseline_resets
from detector.codec.confluent_wire_format import WireFormatReadings, json_reader
from detector.codec.messages import Messages
from detector.codec.readings import Decoded, JsonReadings, ReadingFormat
from detector.core.baseline_reset import BaselineReset
from detector.core.readings import Partition, StreamNames

FORMAT = ReadingFormat(("rpm",), stream=("s",), records_path="items")
PARTITION = Partition("sensors", 3)
ITEMS = b'{"items": [{"s": "a", "rpm": 1}, {"s": "b", "rpm": 2}]}'
MARK = ((HEADER, b""),)


def decoded(*sent: tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]) -> Decoded:
    count = len(sent)
    messages = Messages(
        [key for key, _, _ in sent],
        [value for _, value, _ in sent],
        np.zeros(count, np.int32),
        np.arange(50, 50 + count),
        np.zeros(count, np.int64),
        (PARTITION,),
        lambda position: sent[position][2],
    )
    return with_baseline_resets(JsonReadings(FORMAT, StreamNames()).decode(messages), messages)


def test_it_stands_between_the_readings_of_other_messages() -> None:
    message = baseline_reset("plant/pumpe ü")
    assert message.value is None
    assert message.key is not None
    found = decoded((None, ITEMS, ()), (message.key, None, tuple(MARK)), (None, ITEMS, ()), (b"z", None, (("from", b"x"), *MARK)))
    assert found.baseline_resets == (BaselineReset("plant/pumpe ü".encode(), PARTITION, 51, 2), BaselineReset(b"z", PARTITION, 53, 4))
    assert found.rejects == ()
    assert len(found.batch) == 4


def test_without_the_mark_a_value_or_a_key_it_is_something_else() -> None:
    found = decoded((b"a", None, ()), (None, None, MARK), (b"", None, MARK), (b"a", ITEMS, MARK))
    assert found.baseline_resets == ()
    assert [(reject.position, reject.error) for reject in found.rejects] == [(0, "NullValue"), (1, "NullValue"), (2, "NullValue")]
    assert len(found.batch) == 2


def test_framed_records_have_no_part_in_it() -> None:
    def nothing_to_fetch(ids: object) -> dict[int, None]:
        raise AssertionError("a message without a value names no schema")

    messages = Messages([b"a"], [None], np.zeros(1, np.int32), np.array([7]), np.zeros(1, np.int64), (PARTITION,), lambda _: MARK)
    readings = WireFormatReadings(FORMAT, StreamNames(), "JSON", nothing_to_fetch, json_reader)
    assert with_baseline_resets(readings.decode(messages), messages).baseline_resets == (BaselineReset(b"a", PARTITION, 7, 0),)
