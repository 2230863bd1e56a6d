"""One partition's changes: generations, the order of saving, rows and streams that come and go, tombstones."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.codec.state_serde import CHECKPOINT, RowCodec, decode_checkpoint
from detector.core.batch_result import EvictedStream
from detector.core.event_time import Time
from detector.core.readings import Partition
from detector.core.stream_state import NEVER
from detector.service.dirty_tracker import DirtyTracker
from tests.codec.loaded_state import read_back
from tests.core.builders import fields_of
from tests.service.builders import Judge

PARTITIONS = (Partition("sensors", 0), Partition("sensors", 1))
INCARNATION = b"incarn 1"
LAYOUT = Judge().store.layout
NEW = LAYOUT.new.view(np.uint8)


@dataclass
class Site:
    """A state with two partitions and their trackers. A batch is one message: it touches streams, and frees others."""

    judge: Any = field(default_factory=Judge)

    def __post_init__(self) -> None:
        judge = self.judge
        judge.store.slots_for(PARTITIONS)
        judge.clocks.grow(2)
        self.codec = RowCodec(judge.store.layout)
        self.numbers = itertools.count(1)
        self.trackers = [self.tracker(slot) for slot in range(2)]
        self.state: list[dict[bytes, bytes]] = [{}, {}]
        self.story: list[list[tuple[str, str]]] = [[], []]  # per partition: touched, freed, by offset
        self.now_s = 0.0

    def tracker(self, slot: int, offset: int = 0) -> DirtyTracker:
        return DirtyTracker(slot, INCARNATION, "f", "", offset, offset, self.numbers)

    def batch(self, touched: str = "", freed: str = "", slot: int = 0) -> None:
        """Each letter a stream; its trace is the offset after it was touched."""
        store, tracker = self.judge.store, self.trackers[slot]
        before = self.judge.clocks[slot]
        self.now_s += 1
        self.judge.clocks[slot] = Time(tracker.next_offset, tracker.next_offset, 1)
        for name in touched:
            if store.row(slot, name.encode()) is None:
                store.load(slot, [name.encode()], NEW, np.zeros(1, np.int64))
            row = store.row(slot, name.encode())
            self.judge.traces[row] = store.heads["event_time_us"][row] = tracker.next_offset + 1
        changed = np.array([store.row(slot, name.encode()) for name in touched], np.int64)
        gone = [store.row(slot, name.encode()) for name in freed]
        evicted = [EvictedStream(slot, store.stream(row).encode(), int(store.changed_in[row])) for row in gone]
        store.free(np.array(gone, np.int64))
        left = np.unique(changed[store.slots_of(changed) >= 0])
        tracker.mark_dirty(self.judge, left[store.changed_in[left] == 0], evicted, before, self.now_s)
        tracker.next_offset += 1
        self.story[slot].append((touched, freed))

    def save(self, rows_max: int, slot: int = 0) -> list[str]:
        """What it wrote, in order: a letter a row, `-` before it a row of none, `x` before it a tombstone."""
        tracker, told = self.trackers[slot], []
        saved = tracker.encode_slice(self.judge, self.codec, rows_max)
        tracker.append_checkpoint(self.judge, saved, self.now_s)
        for key, value in saved.items():
            if key.startswith(b"stream/"):
                kind = "x" if value is None else "" if len(value) == self.codec.row_bytes else "-"
                told.append(kind + key.removeprefix(b"stream/").decode())
            if value is None:
                self.state[slot].pop(key, None)
            else:
                self.state[slot][key] = value
        return told

    def checkpoint_offset(self, slot: int = 0) -> int:
        return decode_checkpoint(self.state[slot][CHECKPOINT]).offset


def test_rows_are_saved_in_the_order_in_which_they_were_first_changed() -> None:
    site = Site()
    for touched in ("ab", "bc", "ad", "e"):
        site.batch(touched)
    assert site.trackers[0].unsaved == 5
    assert (site.save(1), site.checkpoint_offset()) == (["a"], 0)
    assert (site.save(1), site.checkpoint_offset()) == (["b"], 1)
    assert (site.save(2), site.checkpoint_offset()) == (["c", "d"], 3)
    assert (site.save(9), site.checkpoint_offset()) == (["e"], 4)
    assert site.save(9) == []
    assert site.trackers[0].unsaved == 0


def test_a_row_that_changes_again_keeps_its_place_and_one_that_was_saved_has_a_new_one() -> None:
    site = Site()
    site.batch("ab")
    assert site.save(1) == ["a"]
    site.batch("ab")
    assert (site.save(1), site.checkpoint_offset()) == (["b"], 1)
    assert (site.save(1), site.checkpoint_offset()) == (["a"], 2)


def test_the_checkpoint_has_the_time_before_the_first_generation() -> None:
    site = Site()
    for touched in ("a", "b", "c"):
        site.batch(touched)
    site.save(2)
    assert decode_checkpoint(site.state[0][CHECKPOINT]).time == Time(1, 1, 1)
    assert decode_checkpoint(site.state[0][CHECKPOINT]).next_offset == 3
    site.save(2)
    assert decode_checkpoint(site.state[0][CHECKPOINT]).time == Time(2, 2, 1)


def test_how_old_the_oldest_change_is() -> None:
    site = Site()
    assert site.trackers[0].unsaved_since_s is None
    for touched in ("a", "a", "b"):
        site.batch(touched)
    assert site.trackers[0].unsaved_since_s == 1.0
    site.save(1)
    assert site.trackers[0].unsaved_since_s == 3.0
    site.save(1)
    assert site.trackers[0].unsaved_since_s is None


def test_a_stream_that_is_gone_is_deleted_once_nothing_before_is_judged_again() -> None:
    """Until then a row of none says since when: a replay would bring it to life otherwise."""
    site = Site()
    site.batch("ab")
    site.save(9)
    site.batch("c", freed="a")
    site.batch("d")
    assert site.save(2) == ["-a", "c"]
    assert site.checkpoint_offset() == 2
    assert read_back(site.state[0], LAYOUT).loaded.evicted == {b"a": 3}
    assert site.save(9) == ["d", "xa"]
    assert site.trackers[0].unsaved == 0
    assert read_back(site.state[0], LAYOUT).records.keys() == {b"b", b"c", b"d"}


def test_where_nothing_else_is_unsaved_it_is_deleted_at_once() -> None:
    site = Site()
    site.batch("ab")
    site.save(9)
    site.batch("", freed="a")
    assert site.save(9) == ["xa"]
    assert site.checkpoint_offset() == 2


def test_a_stream_that_came_back_before_its_end_was_saved_is_written_as_it_is() -> None:
    site = Site()
    site.batch("a")
    site.batch("b", freed="a")
    site.batch("a")
    assert sorted(site.save(9)) == ["a", "b"]
    assert site.trackers[0].unsaved == 0
    assert site.checkpoint_offset() == 3


def test_a_tombstone_cannot_delete_a_stream_that_came_back() -> None:
    site = Site()
    site.batch("ab")
    site.save(9)
    site.batch("b", freed="a")
    site.batch("c")
    assert site.save(2) == ["-a", "b"]
    site.batch("a")
    assert site.save(9) == ["c", "a"]
    assert site.trackers[0].unsaved == 0
    assert b"stream/a" in site.state[0]
    assert site.save(9) == []


def test_a_stream_known_to_be_gone_is_deleted_with_its_row_unless_it_was_heard_again() -> None:
    site = Site()
    site.judge.store.load(0, [b"a", b"b", b"p"], NEW, np.full(3, 5))
    row = site.judge.store.row(0, b"p")
    site.judge.store.heads["partial_time_us"][row] = 7
    for name in (b"a", b"b", b"p"):
        site.trackers[0].schedule_tombstones([name], 2)
    site.batch("b")
    assert site.save(9) == ["b"]
    site.batch("c")
    assert site.save(9) == ["c", "xa"]
    assert site.judge.store.row(0, b"a") is None
    assert site.judge.store.row(0, b"p") == row
    assert site.trackers[0].unsaved == 0


def test_tombstones_come_at_a_pace_as_well() -> None:
    site = Site()
    site.trackers[0].schedule_tombstones([b"%d" % k for k in range(10)], 0)
    assert [len(site.save(4)) for _ in range(4)] == [4, 4, 2, 0]


def test_a_freed_row_that_another_stream_uses_is_that_streams() -> None:
    site = Site()
    site.batch("a")
    row = site.judge.store.row(0, b"a")
    site.batch("", freed="a")
    site.batch("z")
    assert site.judge.store.row(0, b"z") == row
    assert site.save(2) == ["-a"]
    assert site.save(9) == ["z", "xa"]
    assert site.trackers[0].unsaved == 0


def test_a_freed_row_that_another_partition_uses_is_that_partitions() -> None:
    site = Site()
    site.batch("a")
    row = site.judge.store.row(0, b"a")
    site.batch("b", freed="a")
    site.batch("z", slot=1)
    assert site.judge.store.row(1, b"z") == row
    assert site.save(9) == ["xa", "b"]
    assert site.trackers[1].unsaved == 1
    assert site.save(9, slot=1) == ["z"]
    assert [tracker.unsaved for tracker in site.trackers] == [0, 0]


def test_the_layout_is_written_once_and_the_checkpoint_always() -> None:
    site = Site()
    site.batch("a")
    site.save(9)
    assert site.state[0][site.codec.layout_key] == site.codec.layout
    del site.state[0][site.codec.layout_key], site.state[0][CHECKPOINT]
    site.batch("a")
    site.save(9)
    assert site.codec.layout_key not in site.state[0]
    assert site.checkpoint_offset() == 2


def test_the_layout_comes_before_the_rows_and_the_checkpoint_after_them() -> None:
    """A log without transactions may be cut off in between: the older checkpoint is true as well, the newer would not be. And the layout
    before them: who reads the state in pieces can read each row as it comes."""
    site = Site()
    site.batch("ab")
    saved = site.trackers[0].encode_slice(site.judge, site.codec, 9)
    site.trackers[0].append_checkpoint(site.judge, saved, 0.0)
    assert list(saved) == [site.codec.layout_key, b"stream/a", b"stream/b", CHECKPOINT]


def test_when_a_checkpoint_is_owed() -> None:
    site = Site()
    tracker = site.trackers[0]
    assert tracker.is_checkpoint_due(site.judge, 0.0, 10.0)
    site.save(9)
    assert not tracker.is_checkpoint_due(site.judge, 99.0, 10.0)
    site.batch("")
    assert tracker.is_checkpoint_stale(site.judge)
    assert not tracker.is_checkpoint_due(site.judge, 9.0, 10.0)
    assert tracker.is_checkpoint_due(site.judge, 10.0, 10.0)
    site.save(9)
    assert not tracker.is_checkpoint_stale(site.judge)


def restored(site: Site, slot: int) -> dict[str, int]:
    """What a worker would have that took over now: the rows, and of all later batches what is not in them already."""
    back = read_back(site.state[slot], LAYOUT)
    saved = back.loaded
    found = {name.decode(): fields_of(LAYOUT, record)["level_since_us"] for name, record in back.records.items()}
    stands_for = {name.decode(): offset for name, offset in (saved.evicted | back.offset).items()}
    start = 0 if saved.checkpoint is None else saved.checkpoint.offset
    for offset, (touched, freed) in list(enumerate(site.story[slot]))[start:]:
        found |= {each: offset + 1 for each in touched if offset >= stands_for.get(each, 0)}
        found = {each: trace for each, trace in found.items() if each not in freed or offset < stands_for.get(each, 0)}
    return found


MOVE = st.one_of(
    st.tuples(
        st.just("batch"), st.integers(0, 1), st.sets(st.sampled_from("abcde"), max_size=3), st.sets(st.sampled_from("abcde"), max_size=2)
    ),
    st.tuples(st.just("save"), st.integers(0, 1), st.integers(0, 4), st.none()),
    st.tuples(st.just("leave"), st.integers(0, 1), st.none(), st.none()),
)


@given(st.lists(MOVE, max_size=40))
@settings(max_examples=400, deadline=None)
def test_whatever_comes_and_goes_rows_and_checkpoint_say_what_there_is(moves: list[Any]) -> None:
    """Two partitions share a state; after every move each could be taken over by another worker, and nothing would be missing."""
    site = Site()
    for kind, slot, a, b in moves:
        tracker = site.trackers[slot]
        if kind == "batch":
            touched = "".join(sorted(a))
            freed = "".join(name for name in sorted(b) if site.judge.store.row(slot, name.encode()) is not None or name in a)
            site.batch(touched, freed, slot)
        elif kind == "save":
            site.save(a, slot)
        else:
            site.judge.forget((PARTITIONS[slot],))
            site.trackers[slot] = site.tracker(slot, tracker.next_offset)
            site.state[slot], site.story[slot] = {}, [("", "")] * tracker.next_offset
            site.save(0, slot)
        assert site.trackers[slot].unsaved >= 0
        for each in range(2):
            assert restored(site, each) == expected_state(site, each)
    for slot in range(2):
        site.save(1_000, slot)
        assert site.trackers[slot].unsaved == 0
        assert {key for key in site.state[slot] if key.startswith(b"stream/")} == {
            b"stream/" + name.encode() for name in expected_state(site, slot)
        }


def expected_state(site: Site, slot: int) -> dict[str, int]:
    store, traces = site.judge.store, site.judge.traces
    rows = store.rows_in(slot).tolist()
    return {store.stream(row): int(traces[row]) for row in rows if store.heads["event_time_us"][row] != NEVER}
