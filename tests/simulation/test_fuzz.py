"""Invariants 4 and 8 for the whole service: each bad message is one dead letter, the others are judged as if it had not come."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from detector.codec.messages import Headers
from detector.codec.reading_format import STREAM_BYTES_MAX
from detector.codec.readings import ReadingFormat
from detector.core.readings import Disposition
from tests.core.builders import SECOND_US, START_US, model_of, normal_values, settings_of
from tests.simulation.messages import Sent
from tests.simulation.service import Plant, undisturbed

MODEL = model_of(channels=2, hidden=32)
SETTINGS = settings_of(warmup_readings=35, reset_baseline_after_us=20 * SECOND_US)
# A mutated event time may be a good one, far away: it must not make other streams silent or forgotten, as it should otherwise.
TIMELESS = settings_of(warmup_readings=35, reset_baseline_after_us=20 * SECOND_US, timeout_intervals=0.0, idle_ttl_us=10**17)
MESSAGE_BYTES_MAX = 50_000
BY_FIELD = ReadingFormat(MODEL.channels, stream=("s",), event_time="t", message_bytes_max=MESSAGE_BYTES_MAX)
BY_KEY = ReadingFormat(MODEL.channels, event_time="t", message_bytes_max=MESSAGE_BYTES_MAX)
PARTITIONS = 2
REASONS = ("topic", "partition", "offset", "exception.class.name", "exception.message")

VALID = {"s": "p0/s0", "t": START_US + 50 * SECOND_US, "channel0": 21.5, "channel1": -3e2}
TEXT = json.dumps(VALID).encode()
DEPTH = 5_000


class Bad(NamedTuple):
    """A value that cannot be read, the name of the error, and what its reason must name."""

    value: bytes | None
    error: str
    field: str


def with_(**fields: Any) -> bytes:
    """The valid message with other fields; None leaves one out."""
    return json.dumps({name: entry for name, entry in (VALID | fields).items() if entry is not None}).encode()


def bad(error: str, field: str, values: st.SearchStrategy[bytes | None]) -> st.SearchStrategy[Bad]:
    return st.builds(Bad, values, st.just(error), st.just(field))


CHANNEL = st.sampled_from(MODEL.channels)
NOT_NUMBERS: st.SearchStrategy[Any] = st.lists(st.integers(), max_size=2) | st.dictionaries(st.text(max_size=2), st.integers(), max_size=2)
ODD: st.SearchStrategy[Any] = st.booleans() | st.lists(st.integers(), max_size=2) | st.just({"a": 1})


def in_channel(error: str, entries: st.SearchStrategy[Any]) -> st.SearchStrategy[Bad]:
    return st.builds(lambda name, entry: Bad(with_(**{name: entry}), error, name), CHANNEL, entries)


BADS = st.one_of(
    bad("NullValue", "value", st.none()),
    bad("EmptyValue", "value", st.just(b"")),
    bad("TooLarge", "value", st.integers(MESSAGE_BYTES_MAX + 1, 2 * MESSAGE_BYTES_MAX).map(lambda size: TEXT.ljust(size))),
    bad("NotUtf8", "value", st.integers(0, len(TEXT)).map(lambda at: TEXT[:at] + b"\xff" + TEXT[at:])),
    bad("MalformedJson", "value", st.integers(1, len(TEXT) - 1).map(lambda end: TEXT[:end])),
    bad("MalformedJson", "value", st.sampled_from([b"no json", b"{'t': 1}", TEXT + b"}", TEXT + TEXT, b"<r/>", b"\x00\x00\x00\x00\x01"])),
    bad("WrongType", "value", st.sampled_from([b"7", b'"text"', b"true", b"null", b"[]", b"[" + TEXT + b"]"])),
    bad("TooDeep", "value", st.sampled_from([b"[", b'{"a":']).map(lambda open_: TEXT[:-1] + b', "x": ' + open_ * DEPTH)),
    in_channel("WrongType", NOT_NUMBERS),
    bad("MalformedJson", "channel0", st.sampled_from([b"nan", b"-inf"]).map(lambda name: TEXT[:-1] + b', "channel0": ' + name + b"}")),
    in_channel("OutOfRange", st.sampled_from([1e39, -3.5e38, 10**39, 10**400, "1e39", 1.7e308])),
    bad("MissingEventTime", "t", st.just(with_(t=None))),
    bad("OutOfRange", "t", st.sampled_from([0, -1, 5.5, 10**20, 10**40]).map(lambda time: with_(t=time))),
    bad("WrongType", "t", ODD.map(lambda time: with_(t=time))),
    bad("MissingStream", "s", st.sampled_from([with_(s=None), with_(s="")])),
    bad("WrongType", "s", (ODD | st.just(1.5)).map(lambda name: with_(s=name))),
    bad("TooLarge", "s", st.just(with_(s="ü" * STREAM_BYTES_MAX))),
    st.builds(
        lambda name: Bad(TEXT[:-1] + b', "%s": ["warm"]}' % name.encode(), "WrongType", name), CHANNEL
    ),  # a repeated key: the last counts
)
KEYS = st.none() | st.binary(max_size=8)
HEADERS = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=2)
BATCHES = st.sampled_from([25, 10_000])


@cache
def good() -> list[Sent]:
    """Readings of four streams in two partitions, one of which goes astray for a while; stream both as key and as field."""
    sent = []
    values = [normal_values(80, 2, seed=k) for k in range(4)]
    values[1][42:50] += 500
    for second in range(80):
        for k in range(4):
            name = f"p{k % 2}/s{k}"
            value = {"s": name, "t": START_US + second * SECOND_US, **dict(zip(MODEL.channels, values[k][second].tolist(), strict=True))}
            sent.append(Sent(k % PARTITIONS, name.encode(), json.dumps(value).encode()))
    return sent


@cache
def without(format: ReadingFormat) -> Plant:
    """What the service makes of the good messages alone."""
    return undisturbed(MODEL, SETTINGS if format is BY_FIELD else TIMELESS, format, good(), PARTITIONS)


def mixed(others: Sequence[tuple[int, Sent]]) -> list[Sent]:
    """The good messages with others among them, each before the good one of this number."""
    sent = list(good())
    for place, message in sorted(others, key=lambda other: other[0], reverse=True):
        sent.insert(place, message)
    return sent


def told(plant: Plant, sent: Sequence[Sent]) -> list[Any]:
    """BatchResult and alerts of the good messages, bit for bit, but for offsets and the ids that follow from them."""
    ours = {id(message) for message in good()}
    found: list[Any] = []
    for partition, rows in sorted(plant.results().items()):
        offsets = {offset for offset, message in enumerate(of_partition(sent, partition.number)) if id(message) in ours}
        found += [(partition, *row[1:-1], row[-1] is None) for row in rows if row[0] in offsets]
        for message in plant.alerts().get(partition.number, ()):
            alert = json.loads(message.value or b"")
            if alert.pop("input")["offset"] in offsets:
                del alert["id"]
                found.append(json.dumps(alert))
    return found


def of_partition(sent: Sequence[Sent], partition: int) -> list[Sent]:
    return [message for message in sent if message.partition == partition]


def reason(headers: Headers) -> dict[str, str]:
    """What the service says of a dead letter."""
    assert [name for name, _ in headers] == ["__connect.errors." + name for name in REASONS]
    return dict(zip(REASONS, ((value or b"").decode() for _, value in headers), strict=True))


PLACED = st.tuples(st.integers(0, len(good())), BADS, KEYS, HEADERS, st.integers(0, PARTITIONS - 1))


@given(placed=st.lists(PLACED, min_size=1, max_size=12), batch_messages_max=BATCHES)
@settings(max_examples=25, deadline=None)
def test_each_bad_message_is_one_dead_letter_and_the_others_are_judged_as_without_it(placed: list[Any], batch_messages_max: int) -> None:
    why = {}
    others = []
    for place, what, key, headers, partition in placed:
        message = Sent(partition, key, what.value, headers)
        why[id(message)] = what
        others.append((place, message))
    sent = mixed(others)
    plant = Plant(MODEL, SETTINGS, BY_FIELD, sent, PARTITIONS)
    member = plant.join(batch_messages_max)
    plant.run(random.Random(0))

    for number in range(PARTITIONS):
        messages = of_partition(sent, number)
        dead_letters = plant.dead_letters().get(number, [])
        expected = [(offset, message) for offset, message in enumerate(messages) if id(message) in why]
        assert [(dead_letter.key, dead_letter.value) for dead_letter in dead_letters] == [
            (message.key, message.value) for _, message in expected
        ]
        for dead_letter, (offset, message) in zip(dead_letters, expected, strict=True):
            count = len(message.headers)
            assert list(dead_letter.headers[:count]) == list(message.headers)
            said = reason(dead_letter.headers[count:])
            assert (said["topic"], said["partition"], said["offset"]) == ("readings", str(number), str(offset))
            what = why[id(message)]
            assert said["exception.class.name"] == what.error
            assert said["exception.message"].startswith(what.field + ": ")
    assert told(plant, sent) == told(without(BY_FIELD), good())
    assert member.is_conserved
    assert member.outcomes.dispositions[Disposition.INVALID] == len(others)
    assert member.worker.stats.messages == member.worker.stats.readings == len(sent)
    assert sum(member.worker.stats.dead_letters.values()) == len(others)


LEAVES: st.SearchStrategy[Any] = (
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4) | st.sampled_from([1e39, 10**400, "3.2", "nan", START_US])
)
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*VALID, "x"]), inner), max_leaves=6
)
CHANGED = st.builds(
    lambda fields: json.dumps(VALID | fields).encode(), st.dictionaries(st.sampled_from([*VALID, "x"]), ANYTHING, max_size=3)
)
SPOILED = st.builds(
    lambda text, at, cut, byte: text[: at % len(text)] + byte + text[at % len(text) + cut :],
    CHANGED,
    st.integers(0, 200),
    st.integers(0, 3),
    st.binary(max_size=2),
)
REPEATED = st.builds(lambda first, second: first[:-1] + b"," + second[1:], CHANGED, CHANGED)
VALUES = st.none() | st.binary(max_size=6) | st.builds(lambda value: json.dumps(value).encode(), ANYTHING) | CHANGED | SPOILED | REPEATED


@given(
    placed=st.lists(st.tuples(st.integers(0, len(good())), VALUES, st.integers(0, 1)), min_size=1, max_size=12), batch_messages_max=BATCHES
)
@settings(max_examples=25, deadline=None)
def test_whatever_comes_is_judged_or_a_dead_letter(placed: list[tuple[int, Any, int]], batch_messages_max: int) -> None:
    sent = mixed([(place, Sent(partition, b"fuzz", value)) for place, value, partition in placed])
    plant = Plant(MODEL, TIMELESS, BY_KEY, sent, PARTITIONS)
    member = plant.join(batch_messages_max)
    plant.run(random.Random(0))

    for partition in plant.broker.partitions:
        messages = of_partition(sent, partition.number)
        dead_letters = plant.dead_letters().get(partition.number, [])
        offsets = [int(reason(dead_letter.headers)["offset"]) for dead_letter in dead_letters]
        assert [(dead_letter.key, dead_letter.value) for dead_letter in dead_letters] == [
            (messages[offset].key, messages[offset].value) for offset in offsets
        ]
        judged = [row[0] for row in member.outcomes.rows[partition]]
        assert sorted(judged + offsets) == list(range(len(messages)))
    assert told(plant, sent) == told(without(BY_KEY), good())
    assert member.is_conserved
    assert member.worker.stats.messages == member.worker.stats.readings == len(sent)


def test_the_good_messages_open_and_close_an_alert() -> None:
    """Or the tests above would prove little."""
    for plant in (without(BY_FIELD), without(BY_KEY)):
        statuses = [json.loads(message.value or b"")["status"] for messages in plant.alerts().values() for message in messages]
        assert {"opened", "closed"} <= set(statuses)
        assert not plant.dead_letters()
