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
from detector.core.event_time import NEVER, Time
from detector.core.readings import Partition, StreamNames
from detector.core.states import Column, StreamStates
from detector.errors import StateCorrupted
from tests.codec.loaded_state import ReadBack, read_back

COLUMNS = {
    "h": Column("f4", (2, 3)),
    "time": Column("i8", fill=NEVER),
    "flag": Column("u1"),
    "level": Column("f8", (1,), np.array([np.nan])),
}
INCARNATION, OTHER = b"incarn 1", b"incarn 2"
TIME = Time(5, 6, 7)


def random_states(columns: dict[str, Column] = COLUMNS, streams: int = 5) -> StreamStates:
    """Random bytes in every column, NaN of any kind included."""
    states = StreamStates(columns, StreamNames(), 1_000)
    (slot,) = states.slots_for((Partition("readings", 0),)).tolist()
    states.load(slot, [b"s%d" % k for k in range(streams)], {}, np.zeros(streams, np.int64))
    rng = np.random.default_rng(1)
    for name in columns:
        array = states[name]
        array[...] = np.frombuffer(rng.bytes(array.nbytes), array.dtype).reshape(array.shape)
    return states


def checkpoint(incarnation: bytes = INCARNATION, **changes: Any) -> Checkpoint:
    return replace(Checkpoint(incarnation, "f" * 64, 40, TIME, 50), **changes)


def state_of(states: StreamStates, rows: NDArray[np.int64], incarnation: bytes = INCARNATION, offset: int = 50) -> dict[bytes, bytes]:
    codec = RowCodec(states.columns)
    names = [key_of(states.stream(row).encode()) for row in rows.tolist()]
    encoded = codec.encode(states, rows, incarnation, offset)
    return {CHECKPOINT: encode_checkpoint(checkpoint()), codec.layout_key: codec.layout, **dict(zip(names, encoded, strict=True))}


def test_rows_read_back_bit_for_bit() -> None:
    states, rows = random_states(), np.array([3, 0, 4])
    found = read_back(state_of(states, rows), COLUMNS)
    assert found.offset == {b"s3": 50, b"s0": 50, b"s4": 50}
    for name in found.rows:
        assert found.columns(name) == {column: states[column][int(name[1:])].tobytes() for column in COLUMNS}
    assert found.loaded == LoadedState(checkpoint(), {}, (), frozenset({RowCodec(COLUMNS).layout_id}))


def test_a_row_is_its_header_and_its_columns_and_no_more() -> None:
    codec = RowCodec(COLUMNS)
    assert codec.row_bytes == HEADER.itemsize + 24 + 8 + 1 + 8
    assert [len(row) for row in codec.encode(random_states(), np.arange(3), INCARNATION, 1)] == [codec.row_bytes] * 3
    assert codec.encode(random_states(), np.empty(0, np.int64), INCARNATION, 1) == []
    assert len(codec.empty(INCARNATION, 1)) == HEADER.itemsize == 24
    assert codec.layout_key == LAYOUT + b"%08x" % codec.layout_id
    assert json.loads(codec.layout) == [["h", "<f4", [2, 3]], ["time", "<i8", []], ["flag", "|u1", []], ["level", "<f8", [1]]]


def test_a_row_does_not_change_with_the_state_it_was_taken_from() -> None:
    states = random_states()
    (row,) = RowCodec(COLUMNS).encode(states, np.array([1]), INCARNATION, 1)
    before = bytes(row)
    states["h"][1] = 0
    assert row == before


def test_every_row_stands_for_its_own_offset() -> None:
    states = random_states()
    state = state_of(states, np.array([0]), offset=7) | {
        key: value for key, value in state_of(states, np.array([1, 2]), offset=2**62).items() if key.startswith(STREAM)
    }
    assert read_back(state, COLUMNS).offset == {b"s0": 7, b"s1": 2**62, b"s2": 2**62}


def test_rows_of_other_incarnations_do_not_count_and_those_of_none_say_that_nothing_is_there() -> None:
    states, codec = random_states(), RowCodec(COLUMNS)
    state = state_of(states, np.array([0]))
    (old,) = codec.encode(states, np.array([1]), OTHER, 99)
    state |= {key_of(b"s1"): old, key_of(b"gone"): codec.empty(INCARNATION, 33), key_of(b"long gone"): codec.empty(OTHER, 34)}
    found = read_back(state, COLUMNS)
    assert found.rows.keys() == {b"s0"}
    assert found.loaded.evicted == {b"gone": 33}
    assert set(found.loaded.stale) == {b"s1", b"long gone"}


def test_without_a_checkpoint_no_row_counts() -> None:
    state = state_of(random_states(), np.arange(2), incarnation=bytes(INCARNATION_BYTES))
    del state[CHECKPOINT]
    found = read_back(state, COLUMNS)
    assert (found.loaded.checkpoint, found.rows, found.loaded.evicted, set(found.loaded.stale)) == (None, {}, {}, {b"s0", b"s1"})
    assert not len(found.states)
    assert read_back({}, COLUMNS).loaded == LoadedState(None, {}, (), frozenset())


def test_what_is_neither_row_nor_checkpoint_nor_layout_is_not_looked_at() -> None:
    assert read_back({b"of a later version": b"?"}, COLUMNS).loaded == read_back({}, COLUMNS).loaded


def test_rows_of_two_layouts() -> None:
    new = {name: column for name, column in COLUMNS.items() if name != "flag"} | {"more": Column("i4", (2,))}
    one, two = random_states(), random_states(new)
    state = state_of(two, np.array([1])) | state_of(one, np.array([0, 3]))
    found, then = read_back(state, COLUMNS), read_back(state, new)
    assert found.rows.keys() == {b"s0", b"s1", b"s3"}
    assert found.columns(b"s3") == {column: one[column][3].tobytes() for column in COLUMNS}
    assert found.columns(b"s1") == {column: two[column][1].tobytes() for column in COLUMNS if column != "flag"} | {"flag": bytes(1)}
    assert then.columns(b"s1") == {column: two[column][1].tobytes() for column in new}
    assert found.loaded.layouts == {RowCodec(COLUMNS).layout_id, RowCodec(new).layout_id}


@pytest.mark.parametrize("column", [Column("f4", (2, 4)), Column("f8", (2, 3)), Column("i4", (2, 3))])
def test_another_shape_or_type_is_another_layout(column: Column) -> None:
    assert RowCodec(COLUMNS | {"h": column}).layout_id != RowCodec(COLUMNS).layout_id
    assert RowCodec(dict(COLUMNS)).layout_id == RowCodec(COLUMNS).layout_id
    assert RowCodec(dict(reversed(COLUMNS.items()))).layout_id != RowCodec(COLUMNS).layout_id


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
        read_back({CHECKPOINT: value}, COLUMNS)
    assert "delete the records" in caught.value.fix


def test_a_checkpoint_or_row_of_a_later_version_is_not_guessed_at() -> None:
    with pytest.raises(StateCorrupted, match="version 2") as caught:
        decode_checkpoint(spoiled(version=2))
    assert "newer" in caught.value.fix
    state = state_of(random_states(), np.arange(2))
    state[b"stream/s0"] = b"\x03" + state[b"stream/s0"][1:]
    with pytest.raises(StateCorrupted, match="version 3"):
        read_back(state, COLUMNS)


def damaged(kind: str) -> dict[bytes, bytes]:
    state = state_of(random_states(), np.arange(3))
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
            state[layout_key] = state[layout_key].replace(b"flag", b"flog")
        case "name":
            state[b"stream/\xff"] = state.pop(b"stream/s1")
    return state


@pytest.mark.parametrize("kind", ["cut", "long", "shorter than its header", "nothing", "without layout", "damaged layout", "name"])
def test_rows_that_do_not_read_back_are_refused(kind: str) -> None:
    with pytest.raises(StateCorrupted) as caught:
        read_back(damaged(kind), COLUMNS)
    assert "delete the records" in caught.value.fix


def test_a_layout_is_known_by_its_content() -> None:
    """Not by its key: what a compacted topic holds under it may be another's."""
    state = state_of(random_states(), np.arange(2))
    (key,) = (key for key in state if key.startswith(LAYOUT))
    state[LAYOUT + b"00000000"] = state.pop(key)
    found = read_back(state, COLUMNS)
    assert found.loaded.layouts == {zlib.crc32(RowCodec(COLUMNS).layout)}
    assert len(found.rows) == 2


# -- in pieces ----------------------------------------------------------------------------------------------------------


def test_a_damaged_row_that_was_written_over_or_deleted_is_no_harm() -> None:
    """As a person does it who heeds the advice: before compaction the damaged record is there still."""
    state = state_of(random_states(), np.arange(3))
    spoilt = {b"stream/s1": b"", b"stream/s2": state[b"stream/s2"][:-1], b"stream/\xff": b"?"}
    found = ReadBack([spoilt, {**state, b"stream/s1": None, b"stream/\xff": None}], COLUMNS)
    assert found.rows.keys() == {b"s0", b"s2"}
    with pytest.raises(StateCorrupted):
        ReadBack([state, spoilt], COLUMNS)


def test_a_damaged_row_of_an_incarnation_that_does_not_count_is_deleted_with_the_others() -> None:
    state = state_of(random_states(), np.arange(3))
    state[b"stream/s1"] = state_of(random_states(), np.array([1]), OTHER)[b"stream/s1"][:-1]
    found = read_back(state, COLUMNS)
    assert found.rows.keys() == {b"s0", b"s2"}
    assert found.loaded.stale == (b"s1",)


def records() -> list[tuple[bytes, bytes | None]]:
    """As two incarnations and two layouts may have left them: rows, rows of none, damaged ones, deletions. The first two are checkpoints."""
    other = {name: column for name, column in COLUMNS.items() if name != "flag"} | {"more": Column("i4", (2,))}
    pool: list[tuple[bytes, bytes | None]] = [
        (CHECKPOINT, encode_checkpoint(checkpoint(incarnation))) for incarnation in (INCARNATION, OTHER)
    ]
    for number, columns in enumerate((COLUMNS, other)):
        states, codec = random_states(columns), RowCodec(columns)
        pool.append((codec.layout_key, codec.layout))
        for incarnation in (INCARNATION, OTHER):
            pool += [(key_of(b"s%d" % k), codec.empty(incarnation, 60 + k)) for k in range(3)]
            pool += [(key_of(b"s%d" % k), row) for k, row in enumerate(codec.encode(states, np.arange(3), incarnation, 70 + number))]
    pool += [(key, value[:-1]) for key, value in dict(pool).items() if key.startswith(STREAM) and value]
    pool += [(key, None) for key in dict(pool) if not key.startswith(LAYOUT)]  # which nobody deletes
    return pool


POOL = records()
LAYOUTS = [entry for entry in POOL if entry[0].startswith(LAYOUT) and entry[1]]


def outcome(pieces: Iterable[Mapping[bytes, bytes | None]]) -> Any:
    """All that state says, or that it is damaged."""
    try:
        found = ReadBack(pieces, COLUMNS)
    except StateCorrupted:
        return "damaged"
    assert len(found.states) == len(found.rows) + len(found.loaded.evicted)
    saved = replace(found.loaded, stale=tuple(sorted(found.loaded.stale)))
    return saved, found.offset, {name: found.columns(name) for name in found.rows}


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
