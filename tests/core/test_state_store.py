"""The state store: rows that belong to one stream of one partition each, whatever comes and goes."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.readings import Partition, ReadingBatch, StreamNames
from detector.core.state_store import FREE, ROWS_AT_FIRST, StateStore
from detector.core.stream_state import NEVER, layout_of

PARTITIONS = tuple(Partition("t", k) for k in range(3))
LAYOUT = layout_of([("hidden", (2, 3), 0), ("level", (2,), np.array([1.0, np.nan], np.float32))], {"seen": -1})
"""What a row holds is told by its field `seen`, -1 in a new one, and its hidden state."""


def store_of(max_per_partition: int = 1_000_000) -> tuple[StateStore, StreamNames]:
    names = StreamNames()
    return StateStore(LAYOUT, names, max_per_partition), names


def hidden(store: StateStore, rows: Any) -> Any:
    """Hidden state of rows, a copy, f4[R, 2, 3]."""
    start = int(LAYOUT.offsets["hidden"][0])
    return store.floats[rows, start : start + 6].reshape(-1, 2, 3)


def saved(count: int) -> Any:
    """As many records of new streams, one after the other: u1[R, row_bytes]."""
    return np.tile(LAYOUT.new.view(np.uint8), (count, 1))


def batch_of(names: StreamNames, streams: list[tuple[int, str]]) -> ReadingBatch:
    """Readings of (partition, stream), without content."""
    n = len(streams)
    ids = np.array([names[stream.encode()] for _, stream in streams], np.int32)
    partition = np.array([number for number, _ in streams], np.int32)
    zero = np.zeros(n, np.int64)
    return ReadingBatch(ids, zero, np.zeros((n, 1), np.float32), partition, zero, zero.astype(np.int32), PARTITIONS)


def test_new_rows_are_filled_and_stay_with_their_streams() -> None:
    store, names = store_of()
    rows = store.rows_for(batch_of(names, [(0, "a"), (0, "b"), (0, "a")]))
    assert rows[0] == rows[2] != rows[1]
    assert store.records[rows].tobytes() == saved(3).tobytes()
    assert store.heads["seen"][rows].tolist() == [-1, -1, -1]
    assert store.heads["event_time_us"][rows].tolist() == [NEVER] * 3
    assert store.rows_for(batch_of(names, [(0, "b"), (0, "a")])).tolist() == [rows[1], rows[0]]
    assert [store.stream(int(row)) for row in rows] == ["a", "b", "a"]
    assert [store.partition(int(row)) for row in rows] == [PARTITIONS[0]] * 3
    assert len(store) == 2


def test_heads_and_floats_are_views_of_the_records() -> None:
    store, names = store_of()
    (row,) = store.rows_for(batch_of(names, [(0, "a")]))
    start = int(LAYOUT.offsets["level"][0])
    store.heads["cusum"][row] = 0.75
    store.floats[row, start] = 8
    assert store.heads[row]["cusum"] == 0.75
    assert store.records[row, 4 * start : 4 * start + 4].tobytes() == np.float32(8).tobytes()
    assert np.shares_memory(store.heads, store.records)
    assert np.shares_memory(store.floats, store.records)


def test_it_grows_and_keeps_what_it_holds() -> None:
    """Only rows that are used are as a new stream's; the memory behind them is the operating system's until then."""
    store, names = store_of()
    many = 2 * ROWS_AT_FIRST + 1
    first = store.rows_for(batch_of(names, [(0, f"s{k}") for k in range(ROWS_AT_FIRST)]))
    assert len(store.records) == ROWS_AT_FIRST
    store.heads["seen"][first] = np.arange(ROWS_AT_FIRST)
    start = int(LAYOUT.offsets["hidden"][0])
    store.floats[first, start : start + 6] = np.arange(ROWS_AT_FIRST)[:, None]
    rows = store.rows_for(batch_of(names, [(0, f"s{k}") for k in range(many)]))
    assert many <= len(store.records) <= 1.25 * many
    assert sorted(rows.tolist()) == list(range(many))
    assert store.heads["seen"][rows].tolist() == [*range(ROWS_AT_FIRST), *[-1] * (many - ROWS_AT_FIRST)]
    assert (hidden(store, rows[:ROWS_AT_FIRST]) == np.arange(ROWS_AT_FIRST)[:, None, None]).all()
    assert store.records[rows[ROWS_AT_FIRST:]].tobytes() == saved(many - ROWS_AT_FIRST).tobytes()
    assert (store.slots_of(np.arange(many, len(store.records))) == FREE).all()


def test_freed_rows_are_as_new_and_used_again() -> None:
    store, names = store_of()
    rows = store.rows_for(batch_of(names, [(0, "a"), (0, "b"), (0, "c")]))
    store.heads["seen"][rows] = [1, 2, 3]
    store.free(rows[:2])
    assert len(store) == 1
    assert b"a" not in names
    assert not store.is_known(0)
    again = store.rows_for(batch_of(names, [(0, "d"), (0, "e"), (0, "c"), (0, "f")]))
    assert set(again[:2].tolist()) == set(rows[:2].tolist())
    assert store.heads["seen"][again].tolist() == [-1, -1, 3, -1]
    assert [store.stream(int(row)) for row in again] == ["d", "e", "c", "f"]


def test_a_name_in_two_partitions_has_two_rows_and_is_kept_until_both_are_gone() -> None:
    store, names = store_of()
    rows = store.rows_for(batch_of(names, [(0, "a"), (1, "a"), (0, "a"), (1, "b")]))
    assert rows[0] == rows[2] != rows[1]
    store.heads["seen"][rows] = [10, 11, 10, 12]
    store.free_partitions(PARTITIONS[:1])
    assert b"a" in names
    assert store.heads["seen"][store.rows_for(batch_of(names, [(1, "a"), (1, "b")]))].tolist() == [11, 12]
    store.free_partitions(PARTITIONS)
    assert not names
    assert len(store) == 0


def test_a_partition_takes_so_many_streams_and_no_more() -> None:
    store, names = store_of(max_per_partition=2)
    rows = store.rows_for(batch_of(names, [(0, "a"), (0, "b"), (0, "c"), (0, "a"), (1, "c"), (0, "c")]))
    assert (rows == FREE).tolist() == [False, False, True, False, False, True]
    assert rows[3] == rows[0]
    store.free(rows[:1])
    assert store.rows_for(batch_of(names, [(0, "c")]))[0] >= 0


def test_rows_of_a_partition() -> None:
    store, names = store_of()
    rows = store.rows_for(batch_of(names, [(0, "a"), (2, "a"), (0, "b"), (1, "c")]))
    slots = store.slots_for(PARTITIONS)
    assert store.rows_in(int(slots[0])).tolist() == sorted(rows[[0, 2]].tolist())
    assert store.rows_in(int(slots[2])).tolist() == [rows[1]]
    assert store.slots_for(PARTITIONS[::-1]).tolist() == slots[::-1].tolist()


READ = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcdef")), max_size=8)


@given(st.lists(st.one_of(READ, st.integers(0, 2)), max_size=20), st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_records_are_never_mixed_up(story: list[Any], max_per_partition: int) -> None:
    """Against a dictionary: every (partition, stream) finds what it wrote last; a freed one finds nothing."""
    store, names = store_of(max_per_partition)
    truth: dict[tuple[int, str], int] = {}
    token = 0
    for move in story:
        if isinstance(move, int):
            store.free_partitions(PARTITIONS[move : move + 1])
            truth = {key: held for key, held in truth.items() if key[0] != move}
        else:
            rows = store.rows_for(batch_of(names, move))
            for key, row in zip(move, rows.tolist(), strict=True):
                if key not in truth:
                    is_full = sum(other == key[0] for other, _ in truth) >= max_per_partition
                    assert (row == FREE) == is_full
                    if is_full:
                        continue
                    truth[key] = -1
                assert store.heads["seen"][row] == truth[key]
                assert store.stream(row) == key[1]
                token += 1
                store.heads["seen"][row] = truth[key] = token
            names.release(k for k in range(names.ids_end) if not store.is_known(k))
        assert len(store) == len(truth)
        assert set(names) == {stream.encode() for _, stream in truth}


def test_loaded_rows_are_found_and_hold_what_was_saved() -> None:
    store, names = store_of()
    (own,) = store.rows_for(batch_of(names, [(0, "here")]))
    slot = int(store.slots_for(PARTITIONS[1:2])[0])
    records = saved(2)
    records.view(np.float32)[:, int(LAYOUT.offsets["hidden"][0])] = [7, 8]
    loaded = store.load(slot, [b"a", b"b"], records, np.array([40, 41]))
    rows = store.rows_for(batch_of(names, [(1, "b"), (1, "a"), (0, "here"), (0, "a")]))
    assert loaded.tolist() == [rows[1], rows[0]]
    assert store.records[loaded].tobytes() == records.tobytes()
    assert hidden(store, rows)[:, 0, 0].tolist() == [8, 7, 0, 0]
    assert store.stands_for[rows].tolist() == [41, 40, 0, 0]
    assert rows[2] == own
    assert (store.row(slot, b"a"), store.row(slot, b"c"), store.row(slot, b"here")) == (rows[1], None, None)
    records.view(np.float32)[:, int(LAYOUT.offsets["hidden"][0])] = [5, 6]
    assert store.load(slot, [b"b", b"c"], records, np.array([50, 51]))[0] == rows[0]  # written over
    assert hidden(store, rows[:1])[0, 0, 0] == 5
    assert len(store) == 5


def test_more_rows_than_there_is_room_for_are_loaded() -> None:
    store, names = store_of()
    (slot,) = store.slots_for(PARTITIONS[:1]).tolist()
    many = 2 * ROWS_AT_FIRST + 1
    records = saved(many)
    records.view(np.float32)[:, int(LAYOUT.offsets["level"][0])] = np.arange(many)
    loaded = store.load(slot, [b"s%d" % k for k in range(many)], records, np.arange(many) + 5)
    rows = store.rows_for(batch_of(names, [(0, f"s{k}") for k in range(many)]))
    assert rows.tolist() == loaded.tolist()
    assert store.records[rows].tobytes() == records.tobytes()
    assert store.stands_for[rows].tolist() == list(range(5, many + 5))
    assert len(store) == many


def test_one_record_may_be_loaded_for_many_streams() -> None:
    store, _ = store_of()
    (slot,) = store.slots_for(PARTITIONS[:1]).tolist()
    rows = store.load(slot, [b"a", b"b"], LAYOUT.new.view(np.uint8), np.array([9, 9]))
    assert store.records[rows].tobytes() == saved(2).tobytes()


def test_what_is_known_of_a_row_leaves_with_its_stream_and_grows_with_the_store() -> None:
    store, names = store_of()
    (row,) = store.rows_for(batch_of(names, [(0, "a")]))
    store.stands_for[row], store.changed_in[row] = 9, 4
    store.rows_for(batch_of(names, [(1, f"s{k}") for k in range(ROWS_AT_FIRST)]))
    assert (store.stands_for[row], store.changed_in[row]) == (9, 4)
    assert store.stands_for.sum() == 9
    assert store.changed_in.sum() == 4
    store.free(np.array([row]))
    assert (store.stands_for[row], store.changed_in[row]) == (0, 0)
    assert store.slots_of(np.array([row])).tolist() == [FREE]
    assert store.rows_for(batch_of(names, [(2, "z")]))[0] == row
    assert store.stands_for[row] == 0


def test_names_that_are_still_needed_outlive_their_rows() -> None:
    store, names = store_of()
    rows = store.rows_for(batch_of(names, [(0, "a"), (0, "b")]))
    store.free(rows, needed={names[b"a"]})
    assert set(names) == {b"a"}


def test_rows_with_a_field_set() -> None:
    store, names = store_of()
    rows = store.rows_for(batch_of(names, [(0, "a"), (1, "b"), (0, "c")]))
    store.heads["stuck_open"][rows[[2, 0]]] = 1
    assert store.rows_with("stuck_open").tolist() == sorted(rows[[0, 2]].tolist())
    store.free(rows[:1])
    assert store.rows_with("stuck_open").tolist() == [rows[2]]
