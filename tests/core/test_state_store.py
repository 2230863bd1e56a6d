"""The arena: rows that belong to one stream of one partition each, whatever comes and goes."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.readings import Partition, ReadingBatch, StreamNames
from detector.core.states import ROWS_AT_FIRST, Column, StreamStates

PARTITIONS = tuple(Partition("t", k) for k in range(3))
COLUMNS = {"token": Column("i8", fill=-1), "memory": Column("f4", (2, 3)), "level": Column("f8", (2,), np.array([1.0, np.nan]))}


def arena(streams_max: int = 1_000_000) -> tuple[StreamStates, StreamNames]:
    names = StreamNames()
    return StreamStates(COLUMNS, names, streams_max), names


def batch_of(names: StreamNames, streams: list[tuple[int, str]]) -> ReadingBatch:
    """Readings of (partition, stream), without content."""
    n = len(streams)
    ids = np.array([names[stream.encode()] for _, stream in streams], np.int32)
    partition = np.array([number for number, _ in streams], np.int32)
    zero = np.zeros(n, np.int64)
    return ReadingBatch(ids, zero, np.zeros((n, 1), np.float32), partition, zero, zero.astype(np.int32), PARTITIONS)


def test_new_rows_are_filled_and_stay_with_their_streams() -> None:
    states, names = arena()
    rows = states.rows_for(batch_of(names, [(0, "a"), (0, "b"), (0, "a")]))
    assert rows[0] == rows[2] != rows[1]
    assert states["token"][rows].tolist() == [-1, -1, -1]
    assert states["memory"][rows[0]].shape == (2, 3)
    assert np.array_equal(states["level"][rows[1]], [1.0, np.nan], equal_nan=True)
    assert states.rows_for(batch_of(names, [(0, "b"), (0, "a")])).tolist() == [rows[1], rows[0]]
    assert [states.stream(int(row)) for row in rows] == ["a", "b", "a"]
    assert len(states) == 2


def test_it_grows_by_doubling_and_keeps_what_it_holds() -> None:
    states, names = arena()
    many = 2 * ROWS_AT_FIRST + 1
    first = states.rows_for(batch_of(names, [(0, f"s{k}") for k in range(ROWS_AT_FIRST)]))
    assert len(states["token"]) == ROWS_AT_FIRST
    states["token"][first] = np.arange(ROWS_AT_FIRST)
    states["memory"][first] = np.arange(ROWS_AT_FIRST)[:, None, None]
    rows = states.rows_for(batch_of(names, [(0, f"s{k}") for k in range(many)]))
    assert len(states["token"]) == 4 * ROWS_AT_FIRST
    assert sorted(rows.tolist()) == list(range(many))
    assert states["token"][rows].tolist() == [*range(ROWS_AT_FIRST), *[-1] * (many - ROWS_AT_FIRST)]
    assert (states["memory"][rows[:ROWS_AT_FIRST]] == np.arange(ROWS_AT_FIRST)[:, None, None]).all()
    assert np.isnan(states["level"][rows][:, 1]).all()


def test_forgotten_rows_are_empty_and_used_again() -> None:
    states, names = arena()
    rows = states.rows_for(batch_of(names, [(0, "a"), (0, "b"), (0, "c")]))
    states["token"][rows] = [1, 2, 3]
    states.forget(rows[:2])
    assert len(states) == 1
    assert b"a" not in names
    assert not states.is_known(0)
    again = states.rows_for(batch_of(names, [(0, "d"), (0, "e"), (0, "c"), (0, "f")]))
    assert set(again[:2].tolist()) == set(rows[:2].tolist())
    assert states["token"][again].tolist() == [-1, -1, 3, -1]
    assert [states.stream(int(row)) for row in again] == ["d", "e", "c", "f"]


def test_a_name_in_two_partitions_has_two_rows_and_is_kept_until_both_are_gone() -> None:
    states, names = arena()
    rows = states.rows_for(batch_of(names, [(0, "a"), (1, "a"), (0, "a"), (1, "b")]))
    assert rows[0] == rows[2] != rows[1]
    states["token"][rows] = [10, 11, 10, 12]
    states.forget_partitions(PARTITIONS[:1])
    assert b"a" in names
    assert states["token"][states.rows_for(batch_of(names, [(1, "a"), (1, "b")]))].tolist() == [11, 12]
    states.forget_partitions(PARTITIONS)
    assert not names
    assert len(states) == 0


def test_reset_leaves_the_stream_and_the_columns_named() -> None:
    states, names = arena()
    rows = states.rows_for(batch_of(names, [(0, "a"), (0, "b")]))
    states["token"][rows], states["memory"][rows] = 5, 6
    states.reset(rows[:1], but=("token",))
    assert states["token"][rows].tolist() == [5, 5]
    assert (states["memory"][rows[0]] == 0).all()
    assert (states["memory"][rows[1]] == 6).all()
    assert states.stream(int(rows[0])) == "a"


def test_a_partition_takes_so_many_streams_and_no_more() -> None:
    states, names = arena(streams_max=2)
    rows = states.rows_for(batch_of(names, [(0, "a"), (0, "b"), (0, "c"), (0, "a"), (1, "c"), (0, "c")]))
    assert (rows < 0).tolist() == [False, False, True, False, False, True]
    assert rows[3] == rows[0]
    states.forget(rows[:1])
    assert states.rows_for(batch_of(names, [(0, "c")]))[0] >= 0


def test_rows_of_a_partition() -> None:
    states, names = arena()
    rows = states.rows_for(batch_of(names, [(0, "a"), (2, "a"), (0, "b"), (1, "c")]))
    slots = states.slots_for(PARTITIONS)
    assert states.rows_in(int(slots[0])).tolist() == sorted(rows[[0, 2]].tolist())
    assert states.rows_in(int(slots[2])).tolist() == [rows[1]]
    assert states.slots_for(PARTITIONS[::-1]).tolist() == slots[::-1].tolist()


READ = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcdef")), max_size=8)


@given(st.lists(st.one_of(READ, st.integers(0, 2)), max_size=20), st.integers(1, 6))
@settings(max_examples=150, deadline=None)
def test_memories_are_never_mixed_up(story: list[Any], streams_max: int) -> None:
    """Against a dictionary: every (partition, stream) finds what it wrote last; a forgotten one finds nothing."""
    states, names = arena(streams_max)
    truth: dict[tuple[int, str], int] = {}
    token = 0
    for move in story:
        if isinstance(move, int):
            states.forget_partitions(PARTITIONS[move : move + 1])
            truth = {key: held for key, held in truth.items() if key[0] != move}
        else:
            rows = states.rows_for(batch_of(names, move))
            for key, row in zip(move, rows.tolist(), strict=True):
                if key not in truth:
                    is_full = sum(other == key[0] for other, _ in truth) >= streams_max
                    assert (row < 0) == is_full
                    if is_full:
                        continue
                    truth[key] = -1
                assert states["token"][row] == truth[key]
                assert states.stream(row) == key[1]
                token += 1
                states["token"][row] = truth[key] = token
            names.release(k for k in range(names.ids_end) if not states.is_known(k))
        assert len(states) == len(truth)
        assert set(names) == {stream.encode() for _, stream in truth}


def test_loaded_rows_are_found_and_hold_what_was_saved() -> None:
    states, names = arena()
    (own,) = states.rows_for(batch_of(names, [(0, "here")]))
    slot = int(states.slots_for(PARTITIONS[1:2])[0])
    states.load(slot, [b"a", b"b"], {"token": np.array([7, 8]), "memory": np.ones((2, 2, 3), np.float32)}, np.array([40, 41]))
    rows = states.rows_for(batch_of(names, [(1, "b"), (1, "a"), (0, "here"), (0, "a")]))
    assert states["token"][rows].tolist() == [8, 7, -1, -1]
    assert states["memory"][rows[:2]].tolist() == np.ones((2, 2, 3)).tolist()
    assert np.array_equal(states["level"][rows[0]], [1.0, np.nan], equal_nan=True)  # not given: as a new stream has it
    assert states.stands_for[rows].tolist() == [41, 40, 0, 0]
    assert rows[2] == own
    assert (states.row(slot, b"a"), states.row(slot, b"c"), states.row(slot, b"here")) == (rows[1], None, None)


def test_more_rows_than_there_is_room_for_are_loaded() -> None:
    states, names = arena()
    (slot,) = states.slots_for(PARTITIONS[:1]).tolist()
    many = 2 * ROWS_AT_FIRST + 1
    states.load(slot, [b"s%d" % k for k in range(many)], {"token": np.arange(many)}, np.arange(many) + 5)
    rows = states.rows_for(batch_of(names, [(0, f"s{k}") for k in range(many)]))
    assert states["token"][rows].tolist() == list(range(many))
    assert states.stands_for[rows].tolist() == list(range(5, many + 5))
    assert len(states) == many


def test_what_is_known_of_a_row_leaves_with_its_stream_and_grows_with_the_arena() -> None:
    states, names = arena()
    (row,) = states.rows_for(batch_of(names, [(0, "a")]))
    states.stands_for[row], states.changed_in[row] = 9, 4
    states.rows_for(batch_of(names, [(1, f"s{k}") for k in range(ROWS_AT_FIRST)]))
    assert (states.stands_for[row], states.changed_in[row]) == (9, 4)
    assert states.stands_for.sum() == 9
    assert states.changed_in.sum() == 4
    states.reset(np.array([row]))
    assert states.changed_in[row] == 4  # an emptied row still has to be saved
    states.forget(np.array([row]))
    assert (states.stands_for[row], states.changed_in[row]) == (0, 0)
    assert states.slots_of(np.array([row])).tolist() == [-1]
    assert states.rows_for(batch_of(names, [(2, "z")]))[0] == row
    assert states.stands_for[row] == 0
