"""Rows, checkpoints and layouts: what is written reads back as it was, and what does not is refused."""

from __future__ import annotations

import itertools
import json
import random
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detector.codec.state_loader import LoadedState
from detector.codec.state_serde import (
    CHECKPOINT,
    HEADER,
    INCARNATION_BYTES,
    LAYOUT,
    STREAM,
    Checkpoint,
    RowCodec,
    decode_checkpoint,
    encode_checkpoint,
    key_of,
)
from detector.core.event_time import Time
from detector.core.readings import Partition, StreamNames
from detector.core.state_store import StateStore
from detector.core.stream_state import HEAD, NEVER, Layout, Part, layout_of
from detector.errors import StateCorrupted
from tests.codec.loaded_state import ReadBack, read_back
from tests.core.builders import fields_of

HIDDEN: Part = ("hidden", (2, 3), 0)
LEVEL: Part = ("level", (1,), np.nan)
RANGE: Part = ("low", (2,), np.inf)
LAYOUT_NOW = layout_of([HIDDEN, LEVEL], {})
LAYOUT_THEN = layout_of([RANGE, HIDDEN], {})
"""Lacks the level, has a range, and what both have lies elsewhere."""
INCARNATION, OTHER = b"incarn 1", b"incarn 2"
TIME = Time(5, 6, 7)


def random_store(layout: Layout = LAYOUT_NOW, streams: int = 5) -> StateStore:
    """Random bytes in every record, NaN of any kind included."""
    store = StateStore(layout, StreamNames(), 1_000)
    (slot,) = store.slots_for((Partition("readings", 0),)).tolist()
    records = np.frombuffer(np.random.default_rng(1).bytes(streams * layout.row_bytes), np.uint8).reshape(streams, -1)
    store.load(slot, [b"s%d" % k for k in range(streams)], records, np.zeros(streams, np.int64))
    return store


def checkpoint(incarnation: bytes = INCARNATION, **changes: Any) -> Checkpoint:
    return replace(Checkpoint(incarnation, "f" * 64, 40, TIME, 50), **changes)


def state_of(store: StateStore, rows: NDArray[np.int64], incarnation: bytes = INCARNATION, offset: int = 50) -> dict[bytes, bytes]:
    codec = RowCodec(store.layout)
    names = [key_of(store.stream(row).encode()) for row in rows.tolist()]
    encoded = codec.encode(store, rows, incarnation, offset)
    return {CHECKPOINT: encode_checkpoint(checkpoint()), codec.layout_key: codec.layout, **dict(zip(names, encoded, strict=True))}


def test_rows_read_back_bit_for_bit() -> None:
    store = random_store()
    found = read_back(state_of(store, np.array([3, 0, 4])), LAYOUT_NOW)
    assert found.offset == {b"s3": 50, b"s0": 50, b"s4": 50}
    assert found.records == {b"s%d" % row: store.records[row].tobytes() for row in (3, 0, 4)}
    assert found.loaded == LoadedState(checkpoint(), {}, (), frozenset({RowCodec(LAYOUT_NOW).layout_id}))


def test_a_row_is_its_header_and_its_record_and_no_more() -> None:
    codec = RowCodec(LAYOUT_NOW)
    assert codec.row_bytes == HEADER.itemsize + HEAD.itemsize + 24 + 8
    assert [len(row) for row in codec.encode(random_store(), np.arange(3), INCARNATION, 1)] == [codec.row_bytes] * 3
    assert codec.encode(random_store(), np.empty(0, np.int64), INCARNATION, 1) == []
    assert len(codec.empty(INCARNATION, 1)) == HEADER.itemsize == 24


def test_a_layout_says_where_every_field_lies() -> None:
    codec, at = RowCodec(LAYOUT_NOW), HEAD.itemsize
    assert codec.layout_key == LAYOUT + b"%08x" % codec.layout_id
    layout = json.loads(codec.layout)
    assert layout["record_bytes"] == at + 24 + 8
    assert HEAD.names is not None
    assert [name for name, *_ in layout["fields"]] == [*(f"head.{name}" for name in HEAD.names), "hidden", "level"]
    assert layout["fields"][0] == ["head.event_time_us", "<i8", [], 0]
    assert layout["fields"][-2:] == [["hidden", "<f4", [2, 3], at], ["level", "<f4", [1], at + 24]]


def test_a_row_does_not_change_with_the_state_it_was_taken_from() -> None:
    store = random_store()
    (row,) = RowCodec(LAYOUT_NOW).encode(store, np.array([1]), INCARNATION, 1)
    before = bytes(row)
    store.records[1] = 0
    assert row == before


def test_every_row_stands_for_its_own_offset() -> None:
    store = random_store()
    state = state_of(store, np.array([0]), offset=7) | {
        key: value for key, value in state_of(store, np.array([1, 2]), offset=2**62).items() if key.startswith(STREAM)
    }
    assert read_back(state, LAYOUT_NOW).offset == {b"s0": 7, b"s1": 2**62, b"s2": 2**62}


def test_rows_of_other_incarnations_do_not_count_and_those_of_none_say_that_nothing_is_there() -> None:
    store, codec = random_store(), RowCodec(LAYOUT_NOW)
    state = state_of(store, np.array([0]))
    (old,) = codec.encode(store, np.array([1]), OTHER, 99)
    state |= {key_of(b"s1"): old, key_of(b"gone"): codec.empty(INCARNATION, 33), key_of(b"long gone"): codec.empty(OTHER, 34)}
    found = read_back(state, LAYOUT_NOW)
    assert found.records.keys() == {b"s0"}
    assert found.loaded.evicted == {b"gone": 33}
    assert set(found.loaded.stale) == {b"s1", b"long gone"}


def test_without_a_checkpoint_no_row_counts() -> None:
    state = state_of(random_store(), np.arange(2), incarnation=bytes(INCARNATION_BYTES))
    del state[CHECKPOINT]
    found = read_back(state, LAYOUT_NOW)
    assert (found.loaded.checkpoint, found.records, found.loaded.evicted, set(found.loaded.stale)) == (None, {}, {}, {b"s0", b"s1"})
    assert read_back({}, LAYOUT_NOW).loaded == LoadedState(None, {}, (), frozenset())


def test_what_is_neither_row_nor_checkpoint_nor_layout_is_not_looked_at() -> None:
    assert read_back({b"of a later version": b"?"}, LAYOUT_NOW).loaded == read_back({}, LAYOUT_NOW).loaded


def test_rows_of_two_layouts() -> None:
    """A field that a row's layout lacks is as in a new stream; one that is unknown today is left out."""
    now, then = random_store(LAYOUT_NOW), random_store(LAYOUT_THEN)
    state = state_of(then, np.array([1])) | state_of(now, np.array([0, 3]))
    found = read_back(state, LAYOUT_NOW)
    assert found.records.keys() == {b"s0", b"s1", b"s3"}
    assert found.records[b"s3"] == now.records[3].tobytes()
    assert read_back(state, LAYOUT_THEN).records[b"s1"] == then.records[1].tobytes()
    mapped, saved = (fields_of(layout, record) for layout, record in ((LAYOUT_NOW, found.records[b"s1"]), (LAYOUT_THEN, then.records[1])))
    assert np.isnan(mapped.pop("level"))
    assert saved.pop("low").shape == (2,)
    assert mapped.keys() == saved.keys()
    assert {name: np.asarray(value).tobytes() for name, value in mapped.items()} == {n: np.asarray(v).tobytes() for n, v in saved.items()}
    assert found.loaded.layouts == {RowCodec(LAYOUT_NOW).layout_id, RowCodec(LAYOUT_THEN).layout_id}


def test_a_field_of_another_shape_or_type_is_as_in_a_new_stream() -> None:
    wider = random_store(layout_of([("hidden", (2, 4), 0), LEVEL], {}))
    state = state_of(wider, np.array([1]))
    key, codec = b"stream/s1", RowCodec(wider.layout)
    found = fields_of(LAYOUT_NOW, read_back(state, LAYOUT_NOW).records[b"s1"])
    assert found["level"] == fields_of(wider.layout, wider.records[1].tobytes())["level"]
    assert not found["hidden"].any()
    layout = codec.layout.replace(b'["level", "<f4"', b'["level", "<i4"')
    header = np.frombuffer(state[key][: HEADER.itemsize], HEADER).copy()
    header["layout"] = zlib.crc32(layout)
    retyped = {CHECKPOINT: state[CHECKPOINT], LAYOUT: layout, key: header.tobytes() + state[key][HEADER.itemsize :]}
    assert np.isnan(fields_of(LAYOUT_NOW, read_back(retyped, LAYOUT_NOW).records[b"s1"])["level"])


@pytest.mark.parametrize("parts", [[("hidden", (2, 4), 0), LEVEL], [("hidden", (3, 2), 0), LEVEL], [LEVEL, HIDDEN], [HIDDEN]])
def test_another_shape_or_order_is_another_layout(parts: list[Part]) -> None:
    assert RowCodec(layout_of(parts, {})).layout_id != RowCodec(LAYOUT_NOW).layout_id
    assert RowCodec(layout_of([HIDDEN, LEVEL], {"readings": 7})).layout_id == RowCodec(LAYOUT_NOW).layout_id


TIMES = st.builds(Time, st.one_of(st.just(NEVER), st.integers(0, 2**62)), st.integers(0, 2**62), st.integers(0, 2**62))


@given(
    st.binary(min_size=INCARNATION_BYTES, max_size=INCARNATION_BYTES),
    st.text("0123456789abcdef", max_size=64),
    st.integers(0, 2**62),
    TIMES,
    st.integers(0, 2**62),
)
def test_a_checkpoint_reads_back(incarnation: bytes, fingerprint: str, offset: int, time: Time, next_offset: int) -> None:
    written = Checkpoint(incarnation, fingerprint, min(offset, next_offset), time, next_offset)
    assert decode_checkpoint(encode_checkpoint(written)) == written


def test_a_checkpoint_is_for_people_as_well() -> None:
    assert json.loads(encode_checkpoint(checkpoint(time=Time()))) == {
        "version": 1,
        "incarnation": INCARNATION.hex(),
        "fingerprint": "f" * 64,
        "log_id": "",
        "offset": 40,
        "watermark_us": None,
        "clock_us": 0,
        "gap_us": 0,
        "next_offset": 50,
    }


def spoiled(**changes: Any) -> bytes:
    return json.dumps(json.loads(encode_checkpoint(checkpoint())) | changes).encode()


NO_CHECKPOINTS = [b"", b"?", b"\xff\xfe", b"null", b"[]", b"7", b'{"version": 1}']
WRONG: list[dict[str, Any]] = [
    *({"incarnation": incarnation} for incarnation in (5, "xy", "00", "00" * 9)),
    *({"offset": offset} for offset in ("x", None, 1e999, -1, 51)),
    *({"clock_us": clock_us} for clock_us in ("x", 2**63)),
    {"watermark_us": 2**70},
    {"next_offset": 2**63},
]


@pytest.mark.parametrize("value", [*NO_CHECKPOINTS, *(spoiled(**changes) for changes in WRONG)])
def test_what_is_no_checkpoint_is_refused(value: bytes) -> None:
    with pytest.raises(StateCorrupted, match="checkpoint") as caught:
        read_back({CHECKPOINT: value}, LAYOUT_NOW)
    assert "delete the records" in caught.value.fix


def test_a_checkpoint_or_row_of_a_later_version_is_not_guessed_at() -> None:
    with pytest.raises(StateCorrupted, match="version 2") as caught:
        decode_checkpoint(spoiled(version=2))
    assert "newer" in caught.value.fix
    state = state_of(random_store(), np.arange(2))
    state[b"stream/s0"] = b"\x03" + state[b"stream/s0"][1:]
    with pytest.raises(StateCorrupted, match="version 3"):
        read_back(state, LAYOUT_NOW)


def damaged(kind: str) -> dict[bytes, bytes]:
    state = state_of(random_store(), np.arange(3))
    (layout_key,) = (key for key in state if key.startswith(LAYOUT))
    match kind:
        case "cut":
            state[b"stream/s1"] = state[b"stream/s1"][:-1]
        case "long":
            state[b"stream/s1"] += b"\0"
        case "shorter than its header":
            state[b"stream/s1"] = state[b"stream/s1"][: HEADER.itemsize - 1]
        case "nothing":
            state[b"stream/s1"] = b""
        case "without layout":
            del state[layout_key]
        case "damaged layout":
            state[layout_key] = state[layout_key].replace(b"level", b"lever")
        case "name":
            state[b"stream/\xff"] = state.pop(b"stream/s1")
    return state


@pytest.mark.parametrize("kind", ["cut", "long", "shorter than its header", "nothing", "without layout", "damaged layout", "name"])
def test_rows_that_do_not_read_back_are_refused(kind: str) -> None:
    with pytest.raises(StateCorrupted) as caught:
        read_back(damaged(kind), LAYOUT_NOW)
    assert "delete the records" in caught.value.fix


def test_a_layout_is_known_by_its_content() -> None:
    """Not by its key: what a compacted topic holds under it may be another's."""
    state = state_of(random_store(), np.arange(2))
    (key,) = (key for key in state if key.startswith(LAYOUT))
    state[LAYOUT + b"00000000"] = state.pop(key)
    found = read_back(state, LAYOUT_NOW)
    assert found.loaded.layouts == {zlib.crc32(RowCodec(LAYOUT_NOW).layout)}
    assert len(found.records) == 2


# -- in pieces ----------------------------------------------------------------------------------------------------------


def test_a_damaged_row_that_was_written_over_or_deleted_is_no_harm() -> None:
    """As a person does it who heeds the advice: before compaction the damaged record is there still."""
    state = state_of(random_store(), np.arange(3))
    spoilt = {b"stream/s1": b"", b"stream/s2": state[b"stream/s2"][:-1], b"stream/\xff": b"?"}
    found = ReadBack([spoilt, {**state, b"stream/s1": None, b"stream/\xff": None}], LAYOUT_NOW)
    assert found.records.keys() == {b"s0", b"s2"}
    with pytest.raises(StateCorrupted):
        ReadBack([state, spoilt], LAYOUT_NOW)


def test_a_damaged_row_of_an_incarnation_that_does_not_count_is_deleted_with_the_others() -> None:
    state = state_of(random_store(), np.arange(3))
    state[b"stream/s1"] = state_of(random_store(), np.array([1]), OTHER)[b"stream/s1"][:-1]
    found = read_back(state, LAYOUT_NOW)
    assert found.records.keys() == {b"s0", b"s2"}
    assert found.loaded.stale == (b"s1",)


def records() -> list[tuple[bytes, bytes | None]]:
    """As two incarnations and two layouts may have left them: rows, rows of none, damaged ones, deletions. The first two are checkpoints."""
    pool: list[tuple[bytes, bytes | None]] = [
        (CHECKPOINT, encode_checkpoint(checkpoint(incarnation))) for incarnation in (INCARNATION, OTHER)
    ]
    for number, layout in enumerate((LAYOUT_NOW, LAYOUT_THEN)):
        store, codec = random_store(layout), RowCodec(layout)
        pool.append((codec.layout_key, codec.layout))
        for incarnation in (INCARNATION, OTHER):
            pool += [(key_of(b"s%d" % k), codec.empty(incarnation, 60 + k)) for k in range(3)]
            pool += [(key_of(b"s%d" % k), row) for k, row in enumerate(codec.encode(store, np.arange(3), incarnation, 70 + number))]
    pool += [(key, value[:-1]) for key, value in dict(pool).items() if key.startswith(STREAM) and value]
    pool += [(key, None) for key in dict(pool) if not key.startswith(LAYOUT)]  # which nobody deletes
    return pool


POOL = records()
LAYOUTS = [entry for entry in POOL if entry[0].startswith(LAYOUT) and entry[1]]


def outcome(pieces: Iterable[Mapping[bytes, bytes | None]]) -> Any:
    """All that state says, or that it is damaged."""
    try:
        found = ReadBack(pieces, LAYOUT_NOW)
    except StateCorrupted:
        return "damaged"
    saved = replace(found.loaded, stale=tuple(sorted(found.loaded.stale)))
    return saved, found.offset, found.records


@pytest.mark.parametrize(("known", "late"), [(LAYOUTS, []), (LAYOUTS[:1], LAYOUTS[1:]), (LAYOUTS[:1], []), ([], LAYOUTS)])
@pytest.mark.parametrize("marked", POOL[:2], ids=["old", "new"])
def test_however_it_is_cut_the_last_of_each_key_counts(known: list[Any], late: list[Any], marked: Any) -> None:
    """Read in pieces it is what its compacted end is, read at once."""
    rng = random.Random(1)
    found: Any
    for _ in range(60):
        history = [*known, *rng.choices(POOL, k=rng.randint(3, 25)), *late, marked]
        ends = [0, *sorted(rng.choices(range(len(history)), k=rng.randint(0, 12))), len(history)]
        last = {key: value for key, value in dict(history).items() if value is not None}
        found = outcome(dict(history[start:end]) for start, end in itertools.pairwise(ends))
        assert found == outcome([last])
        if found != "damaged":
            saved, offset, _ = found
            assert {*offset, *saved.evicted, *saved.stale} == {key.removeprefix(STREAM) for key in last if key.startswith(STREAM)}
