"""State that outlives its worker: saved and restored anywhere, it is the undisturbed one bit for bit; where it cannot be
used, the worker says so and begins anew."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.codec.messages import Messages
from detector.codec.state_serde import CHECKPOINT, HEADER, LAYOUT, decode_checkpoint, key_of
from detector.core.detector import Detector
from detector.core.model import Model
from detector.core.readings import Partition
from detector.core.stream_state import NEVER
from detector.errors import LogUnavailable, StateCorrupted
from detector.ports import PartitionPosition
from detector.service.state_manager import ROWS_MAX, StateManager
from tests.core.builders import Log, log_of, model_of, records_of, rows_of, settings_of
from tests.core.plant import eventful_log, narrow

MODEL = model_of(2)
SETTINGS = settings_of(reset_baseline_after_us=45_000_000)
P0 = Partition("readings", 0)
INTERVAL_S = 10.0


def messages_of(log: Log) -> Messages:
    """As many messages as readings; several may share an offset."""
    n = len(log)
    return Messages([None] * n, [None] * n, log.partition, log.offset, np.full(n, -1), log.partitions)


@dataclass
class Keeper:
    """A detector and its state manager, and what they have saved."""

    model: Model = MODEL
    interval_s: float = INTERVAL_S
    settings: Any = SETTINGS
    incarnation: str = "e"
    state: dict[Partition, dict[bytes, bytes]] = field(default_factory=dict)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.detector = Detector(self.model, self.settings)
        self.state_manager = StateManager(self.detector, self.interval_s, lambda: self.incarnation.encode().ljust(8, b"."))

    def begin(
        self, at: dict[Partition, PartitionPosition], state: Mapping[Partition, Mapping[bytes, bytes]] = MappingProxyType({})
    ) -> dict[Partition, int]:
        self.state = {partition: dict(state.get(partition, {})) for partition in at}
        return self.state_manager.restore(at, self.state.items(), self.now_s)

    def feed(self, log: Log, pause_s: float = 0.0) -> None:
        """Judge as one batch."""
        self.now_s += pause_s
        messages = messages_of(log)
        before = self.state_manager.partition_times(messages)
        result = self.detector.detect(log.batch(self.detector))
        self.state_manager.mark_dirty(messages, result, before, self.now_s)

    def write(self, slices: dict[Partition, dict[bytes, bytes | None]]) -> int:
        """Make it true; how many records."""
        for partition, rows in slices.items():
            for key, value in rows.items():
                if value is None:
                    self.state[partition].pop(key, None)
                else:
                    self.state[partition][key] = value
        return sum(len(rows) for rows in slices.values())

    def save(self, pause_s: float = 0.0) -> int:
        """What is due."""
        self.now_s += pause_s
        return self.write(self.state_manager.due_slices(self.now_s))

    def save_all(self, partitions: Sequence[Partition] = (P0,)) -> int:
        """As when leaving; how many slices it took."""
        count = 0
        while slices := self.state_manager.flush_slice(partitions, self.now_s):
            self.write(slices)
            count += 1
            assert count < 1_000
        return count

    def rows(self) -> dict[Any, Any]:
        """Without rows that were loaded only to say that there is no such stream."""
        heads, rows = self.detector.store.heads, rows_of(self.detector)
        is_there = (heads["event_time_us"] != NEVER) | (heads["partial_time_us"] != NEVER)
        return {key: record for key, record in records_of(self.detector).items() if is_there[rows[key]]}

    def clock(self, partition: Partition = P0) -> Any:
        return self.detector.clocks[int(self.detector.store.slots_for((partition,))[0])]


def restored(keeper: Keeper, offset: int, **named: Any) -> tuple[dict[Partition, PartitionPosition], dict[Partition, dict[bytes, bytes]]]:
    return {P0: PartitionPosition(offset, **named)}, {P0: dict(keeper.state[P0])}


def begun(log: Log | None = None, **named: Any) -> Keeper:
    """A cold keeper of one partition; it has judged `log` if there is one."""
    keeper = Keeper(**named)
    keeper.begin({P0: PartitionPosition(0, False, log_id="A")})
    if log is not None:
        keeper.feed(log)
    return keeper


def crowd(streams: int, second: float = 0, first: int = 0) -> Log:
    """One reading of each of many streams at one time."""
    log = log_of([(f"s{k}", second, 1.0) for k in range(streams)], 2)
    return replace(log, offset=log.offset + first)


# -- the undisturbed state, bit for bit --------------------------------------------------------------------------------


def queues(log: Log) -> list[list[list[int]]]:
    """Per partition the readings of each message, in order."""
    found = []
    for k in range(len(log.partitions)):
        at = np.flatnonzero(log.partition == k)
        found.append([part.tolist() for part in np.split(at, np.flatnonzero(np.diff(log.offset[at])) + 1)])
    return found


def chosen(log: Log, queue: list[list[list[int]]], spans: Sequence[tuple[int, int]], rng: np.random.Generator) -> Log:
    """Messages [start, end) of each partition, the partitions mixed at random."""
    turns = rng.permutation(np.repeat(np.arange(len(spans)), [end - start for start, end in spans]))
    each = [iter(queue[k][start:end]) for k, (start, end) in enumerate(spans)]
    return log.take([position for k in turns.tolist() for position in next(each[k])])


def check_restores(log: Log, seed: int) -> tuple[int, int]:
    """Batches and saves of random sizes at random times; crashes, after which another begins with what was saved.

    returns  how many crashes there were, and how many messages were replayed
    """
    rng = np.random.default_rng(seed)
    queue = queues(log)
    offsets = [[int(log.offset[message[0]]) for message in messages] for messages in queue]
    at = [0] * len(queue)
    whole, keeper = Detector(MODEL, SETTINGS), Keeper(interval_s=float(rng.choice([2.0, 10.0, 40.0])))
    keeper.begin({partition: PartitionPosition(0, False) for partition in log.partitions})
    keeper.save()  # as the first commit does
    crashes = replayed = 0
    while any(at[k] < len(queue[k]) for k in range(len(queue))):
        spans = [(start, min(start + int(rng.integers(0, 60)), len(queue[k]))) for k, start in enumerate(at)]
        at = [end for _, end in spans]
        batch = chosen(log, queue, spans, rng)
        whole.detect(batch.batch(whole))
        keeper.feed(batch, float(rng.choice([0.0, 0.3, 3.0])))
        if rng.random() < 0.7:
            keeper.save()
        if rng.random() < 0.05:
            keeper.save_all(log.partitions)
        if rng.random() < 0.1:
            crashes += 1
            keeper = Keeper(interval_s=keeper.interval_s, state=keeper.state, now_s=keeper.now_s)
            ends = [offsets[k][at[k] - 1] + 1 if at[k] else 0 for k in range(len(queue))]
            starts = keeper.begin({each: PartitionPosition(ends[k]) for k, each in enumerate(log.partitions)}, keeper.state)
            first = [int(np.searchsorted(offsets[k], starts[each])) for k, each in enumerate(log.partitions)]
            while any(first[k] < at[k] for k in range(len(queue))):
                assert not keeper.state_manager.is_live
                assert not keeper.state_manager.due_slices(keeper.now_s + 1e6).keys() & {
                    log.partitions[k] for k in range(len(queue)) if first[k] < at[k]
                }
                spans = [(start, min(start + int(rng.integers(1, 60)), at[k])) for k, start in enumerate(first)]
                first = [max(end, start) for start, end in spans]
                part = chosen(log, queue, [(start, max(start, end)) for start, end in spans], rng)
                known, news = keeper.state_manager.split_replay(messages_of(part))
                assert (len(known), len(news)) == (len(part), 0)
                keeper.feed(part)
                replayed += len(part)
            assert keeper.state_manager.is_live
            assert keeper.rows() == records_of(whole)
            assert [keeper.clock(each) for each in log.partitions] == [
                whole.clocks[slot] for slot in whole.store.slots_for(log.partitions).tolist() if slot < whole.store.slots
            ]
    assert keeper.rows() == records_of(whole)
    keeper.save_all(log.partitions)
    check_all_is_saved(keeper, {each: offsets[k][-1] + 1 for k, each in enumerate(log.partitions)})
    return crashes, replayed


def check_all_is_saved(keeper: Keeper, ends: dict[Partition, int]) -> None:
    """Nothing is left to be saved, what is saved is no more than what there is, and another takes it over without a replay."""
    assert keeper.state_manager.rows_unsaved == 0
    assert keeper.state_manager.unsaved_s(keeper.now_s + 1) == 0
    for partition in ends:
        streams = {key_of(stream.encode()) for each, stream in keeper.rows() if each == partition}
        assert {key for key in keeper.state[partition] if key.startswith(b"stream/")} == streams
    again = Keeper()
    assert again.begin({each: PartitionPosition(end) for each, end in ends.items()}, keeper.state) == ends
    assert again.state_manager.is_live
    assert again.rows() == keeper.rows() == records_of(again.detector)
    assert [again.clock(each) for each in ends] == [keeper.clock(each) for each in ends]


@given(seed=st.integers(0, 10**6), is_narrow=st.booleans())
@settings(max_examples=4, deadline=None)
def test_state_saved_anywhere_and_restored_is_the_undisturbed_one(seed: int, is_narrow: bool) -> None:
    log = eventful_log(seed % 50, partitions=2)
    check_restores(narrow(log, seed) if is_narrow else log, seed)


def test_these_logs_hold_crashes_and_replays() -> None:
    """Or the test above would prove little."""
    found = [check_restores(eventful_log(seed), seed) for seed in range(2)]
    assert sum(crashes for crashes, _ in found) > 4
    assert sum(replayed for _, replayed in found) > 300


# -- pace -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pause_s", [0.25, 0.1, 1.0, 3.0])
def test_every_change_is_saved_within_two_intervals(pause_s: float) -> None:
    keeper = begun()
    worst_s = 0.0
    for turn in range(700):
        if turn < 300:
            keeper.feed(crowd(50 if turn % 7 else 400, turn, turn * 1_000), pause_s)
        else:
            keeper.now_s += pause_s
        worst_s = max(worst_s, keeper.state_manager.unsaved_s(keeper.now_s))
        keeper.save()
        if not keeper.state_manager.rows_unsaved and turn > 300:
            break
    assert INTERVAL_S <= worst_s <= 2 * INTERVAL_S + 2 * pause_s
    assert keeper.state_manager.rows_unsaved == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0.0, 3.0)), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_no_row_is_left_over_whatever_the_times(turns: list[tuple[int, float]]) -> None:
    """Nor a fraction of one: what little changes is saved in time as well."""
    keeper = begun()
    for turn, (streams, pause_s) in enumerate([*turns, *[(0, 2.9)] * 8]):
        if streams:
            keeper.feed(crowd(streams, turn, turn * 10))
        keeper.now_s += pause_s
        assert keeper.state_manager.unsaved_s(keeper.now_s) <= 2 * INTERVAL_S + 2 * 3.0
        keeper.save()
    assert keeper.state_manager.rows_unsaved == 0


def test_a_hundred_thousand_changes_are_saved_evenly_and_not_at_once() -> None:
    rows = 100_000
    keeper = begun(crowd(rows))
    keeper.save()
    counts = []
    while keeper.state_manager.rows_unsaved:
        counts.append(keeper.save(0.25))
    assert len(counts) == round(INTERVAL_S / 0.25)
    assert max(counts) <= rows / len(counts) + 3
    assert min(counts) >= rows / len(counts) - 3
    assert len(keeper.state[P0]) == rows + 2


def test_no_slice_is_larger_than_the_bound() -> None:
    keeper = begun(crowd(ROWS_MAX + 10))
    keeper.save()
    assert ROWS_MAX < keeper.save(INTERVAL_S) + keeper.save() < 2 * ROWS_MAX
    again = begun(crowd(ROWS_MAX + 10))
    assert again.save_all() == 2


def test_each_partition_has_its_share() -> None:
    keeper = Keeper()
    p1 = Partition("readings", 1)
    keeper.begin({P0: PartitionPosition(0, False), p1: PartitionPosition(0, False)})
    keeper.feed(crowd(300))
    keeper.feed(replace(crowd(100), partitions=(p1,)))
    keeper.save()
    slices = keeper.state_manager.due_slices(keeper.now_s + INTERVAL_S / 4)
    assert {partition: len([key for key in rows if key.startswith(b"stream/")]) for partition, rows in slices.items()} == {P0: 75, p1: 25}


def test_those_that_changed_longest_ago_come_first() -> None:
    keeper = begun(crowd(3))
    keeper.feed(replace(crowd(6, 1), offset=np.arange(3, 9)))
    slices = keeper.state_manager.due_slices(0.0)
    checkpoint = decode_checkpoint(slices[P0][CHECKPOINT] or b"")
    assert (checkpoint.offset, checkpoint.next_offset) == (0, 9)
    slices = keeper.state_manager.due_slices(INTERVAL_S / 2)
    assert {key for key in slices[P0] if key.startswith(b"stream/")} == {b"stream/s0", b"stream/s1", b"stream/s2"}
    assert decode_checkpoint(slices[P0][CHECKPOINT] or b"").offset == 3


# -- the checkpoint -----------------------------------------------------------------------------------------------------------


def test_the_checkpoint_names_the_lowest_offset_that_is_not_saved_and_the_time_there() -> None:
    keeper = begun(log_of([("a", 0, 1), ("b", 1, 1)], 2))
    time = keeper.clock()
    keeper.feed(replace(log_of([("c", 5, 1), ("a", 6, 1)], 2), offset=np.arange(2, 4)))
    keeper.save()
    keeper.save(INTERVAL_S * 0.7)
    checkpoint = decode_checkpoint(keeper.state[P0][CHECKPOINT])
    assert {b"stream/a", b"stream/b"} <= keeper.state[P0].keys()
    assert b"stream/c" not in keeper.state[P0]
    assert (checkpoint.offset, checkpoint.time, checkpoint.next_offset) == (2, time, 4)
    keeper.save(INTERVAL_S)
    checkpoint = decode_checkpoint(keeper.state[P0][CHECKPOINT])
    assert (checkpoint.offset, checkpoint.time) == (4, keeper.clock())


def test_where_nothing_changes_for_long_the_checkpoint_moves_all_the_same() -> None:
    keeper = begun(crowd(3))
    keeper.save()
    keeper.save(INTERVAL_S)
    assert keeper.state_manager.rows_unsaved == 0
    keeper.state_manager.mark_dirty(
        Messages([b""], [b"?"], np.zeros(1, np.int32), np.array([90]), np.full(1, -1), (P0,)),
        keeper.detector.detect(crowd(0).batch(keeper.detector)),
        {P0: keeper.clock()},
        keeper.now_s,
    )
    assert keeper.save(INTERVAL_S / 2) == 0
    assert keeper.save(INTERVAL_S / 2) == 1
    assert decode_checkpoint(keeper.state[P0][CHECKPOINT]).offset == 91
    assert keeper.save(INTERVAL_S * 2) == 0


def test_a_partition_that_brings_nothing_has_a_checkpoint_from_the_first_commit_on() -> None:
    keeper = begun()
    assert keeper.save() == 2
    assert keeper.save(INTERVAL_S * 9) == 0
    assert set(keeper.state[P0]) == {CHECKPOINT, keeper.state_manager._codec.layout_key}


# -- cold starts and holes ------------------------------------------------------------------------------------------------


def saved_at(offset: int = 60, judged: int = 90) -> Keeper:
    """Judged up to `judged`; saved at `offset`, where the checkpoint stands, and a part of it after."""
    keeper = begun(crowd(offset))
    keeper.save_all()
    keeper.feed(crowd(judged - offset, 1, offset))
    keeper.save()
    keeper.save(INTERVAL_S / 3)
    checkpoint = decode_checkpoint(keeper.state[P0][CHECKPOINT])
    assert (checkpoint.offset, checkpoint.next_offset) == (offset, judged)
    return keeper


def other_model() -> Model:
    return replace(MODEL, fingerprint="1" * 64)


COLD = [
    ("another model", {"model": other_model()}, {"offset": 90}, 90, "the saved state is of another model"),
    ("another model, log recreated", {"model": other_model()}, {"offset": 90, "end": 40, "first": 7}, 7, "the log ends before"),
    ("set back far", {}, {"offset": 30}, 30, "set back"),
    ("set back a little: rows are ahead of it", {}, {"offset": 75}, 75, "set back"),
    ("log shorter", {}, {"offset": 90, "end": 40, "first": 5}, 5, "the log ends before"),
    ("log shorter, offsets expired", {}, {"offset": 0, "is_committed": False, "end": 89}, 0, "the log ends before"),
    ("topic recreated, longer", {}, {"offset": 0, "is_committed": False, "end": 99, "log_id": "B"}, 0, "the topic was recreated"),
    ("topic recreated, retained", {}, {"offset": 3, "is_committed": False, "first": 3, "log_id": "B"}, 3, "the topic was recreated"),
    ("topic recreated, offset left", {}, {"offset": 90, "is_own": True, "end": 99, "log_id": "B"}, 0, "the topic was recreated"),
    ("topic recreated, offset set", {}, {"offset": 12, "end": 99, "log_id": "B"}, 12, "the topic was recreated"),
    ("end lost", {}, {"offset": 90, "end": 99, "log_id": "A", "diverges_at": 80}, 80, "the log was truncated at offset 80"),
    ("end lost, retained", {}, {"offset": 90, "first": 85, "log_id": "A", "diverges_at": 80}, 85, "truncated at offset 80"),
    ("end lost, and set back", {}, {"offset": 20, "log_id": "A", "diverges_at": 80}, 20, "truncated at offset 80"),
]


@pytest.mark.parametrize(("keeper", "at", "start", "why"), [case[1:] for case in COLD], ids=[case[0] for case in COLD])
def test_state_that_cannot_be_used_is_a_cold_start_and_is_logged(
    keeper: dict[str, Any], at: dict[str, Any], start: int, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    saved = saved_at()
    again = Keeper(incarnation="f", **keeper)
    assert again.begin(*restored(saved, **at)) == {P0: start}
    assert why in caplog.text
    assert again.state_manager.is_live
    assert again.rows() == {}
    assert again.clock().watermark_us == NEVER
    assert again.state_manager.rows_unsaved == 60
    again.feed(crowd(3, 9, start))
    again.save_all()
    if not keeper:  # the same model
        check_all_is_saved(again, {P0: start + 3})
    assert {key for key in again.state[P0] if key.startswith(b"stream/")} == {b"stream/s0", b"stream/s1", b"stream/s2"}


def test_an_offset_of_the_past_that_nobody_set_is_not_believed() -> None:
    saved = saved_at()
    again = Keeper(incarnation="f")
    with pytest.raises(LogUnavailable, match="the brokers name an old committed offset, 75; the saved state was committed with 90"):
        again.begin(*restored(saved, offset=75, is_own=True))
    assert again.rows() == {}
    assert again.begin(*restored(saved, offset=90, is_own=True)) == Keeper(incarnation="g").begin(
        *restored(saved, offset=90)
    )  # asked again: mended


def test_a_log_made_anew_may_be_shorter_than_the_state(caplog: pytest.LogCaptureFixture) -> None:
    again = Keeper(incarnation="f")
    assert again.begin(*restored(saved_at(), offset=30, end=40, is_own=True)) == {P0: 30}
    assert "set back" in caplog.text


def test_nothing_saved_is_a_cold_start_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    keeper = Keeper()
    assert keeper.begin({P0: PartitionPosition(17, True, 5, 90)}) == {P0: 17}
    assert keeper.state_manager.is_live
    keeper.state_manager.on_committed([P0])
    assert not keeper.state_manager.messages_missed
    assert not caplog.records


def test_saved_state_that_is_gone_is_missed(caplog: pytest.LogCaptureFixture) -> None:
    """The state topic was lost and created again."""
    assert Keeper().begin({P0: PartitionPosition(17, True, 5, 90, is_own=True)}) == {P0: 17}
    assert "cold start: no state is saved, though this group has committed offsets" in caplog.text
    caplog.clear()
    assert Keeper(interval_s=0.0).begin({P0: PartitionPosition(17, True, 5, 90, is_own=True)}) == {P0: 17}
    assert not caplog.records


def test_without_an_interval_what_is_saved_is_left_alone() -> None:
    keeper = Keeper(interval_s=0.0)
    assert keeper.begin(*restored(saved_at(), 90)) == {P0: 90}
    keeper.feed(crowd(3, 9, 90))
    assert keeper.state_manager.rows_unsaved == 0
    assert keeper.save(99.0) == keeper.save_all() == 0


@pytest.mark.parametrize("end", [90, 91, 2**63 - 1])
def test_where_the_groups_offset_has_expired_it_goes_on_at_the_checkpoints(end: int) -> None:
    saved = saved_at()
    keeper = Keeper()
    assert keeper.begin(*restored(saved, 0, is_committed=False, end=end)) == {P0: 60}
    keeper.feed(crowd(30, 1, 60))
    assert keeper.state_manager.is_live
    assert keeper.rows() == saved.rows()


@pytest.mark.parametrize(("first", "missed", "start"), [(60, 0, 60), (61, 1, 61), (75, 15, 75), (90, 30, 90), (99, 39, 99)])
def test_a_hole_that_retention_left_is_counted_and_announced(first: int, missed: int, start: int, caplog: pytest.LogCaptureFixture) -> None:
    keeper = Keeper()
    assert keeper.begin(*restored(saved_at(), 90, first=first)) == {P0: start}
    keeper.state_manager.on_committed([P0])
    assert keeper.state_manager.messages_missed.total() == missed
    assert ("retention removed them" in caplog.text) == (missed > 0)
    assert keeper.state_manager.is_live == (first >= 90)
    keeper.feed(crowd(5, 9, max(start, 90)))
    keeper.save_all()
    assert decode_checkpoint(keeper.state[P0][CHECKPOINT]).offset == max(start, 90) + 5


def test_a_hole_before_a_cold_start_is_counted_as_well() -> None:
    keeper = Keeper()
    assert keeper.begin({P0: PartitionPosition(10, True, 25, 90)}) == {P0: 25}
    keeper.state_manager.on_committed([P0])
    assert keeper.state_manager.messages_missed == {"retention": 15}
    assert keeper.state_manager.is_live


def test_rows_of_an_earlier_incarnation_never_count_and_are_deleted() -> None:
    """A crash after the new incarnation's first checkpoint, before anything of the old is deleted."""
    saved = saved_at()
    second = Keeper(incarnation="f", model=other_model())
    second.begin(*restored(saved, 90))
    checkpoint = second.state_manager.due_slices(0.0)[P0]
    assert not [key for key in checkpoint if key.startswith(b"stream/")]
    second.write({P0: checkpoint})
    assert len(second.state[P0]) == 62
    third = Keeper(incarnation="g", model=other_model())
    assert third.begin({P0: PartitionPosition(90)}, second.state) == {P0: 90}
    assert third.rows() == {}
    assert third.state_manager.rows_unsaved == 60
    third.feed(crowd(2, 9, 90))
    third.save_all()
    assert {key for key in third.state[P0] if key.startswith(b"stream/")} == {b"stream/s0", b"stream/s1"}
    assert decode_checkpoint(third.state[P0][CHECKPOINT]).incarnation == b"f......."


def test_a_partition_that_left_takes_its_books_along_and_can_come_back() -> None:
    keeper = begun(crowd(20))
    keeper.state_manager.forget((P0, Partition("readings", 7)))
    assert keeper.state_manager.rows_unsaved == 0
    assert keeper.detector.streams == 0
    assert keeper.save(99) == keeper.save_all() == 0
    keeper.begin({P0: PartitionPosition(0, False)})
    keeper.feed(crowd(10))
    keeper.save_all()
    check_all_is_saved(keeper, {P0: 10})


# -- the layout changed ---------------------------------------------------------------------------------------------------


def relaid(state: dict[bytes, bytes], without: str) -> dict[bytes, bytes]:
    """The same rows as a version without one field would have written them, and with one that is unknown today."""
    (key,) = (key for key in state if key.startswith(LAYOUT))
    end, fields, taken = 12, [["of_old", "<f4", [3], 0]], []
    for name, dtype, shape, at in json.loads(state[key])["fields"]:
        if name != without:
            size = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=int))
            fields.append([name, dtype, shape, end])
            taken.append(slice(HEADER.itemsize + at, HEADER.itemsize + at + size))
            end += size
    layout = json.dumps({"record_bytes": end, "fields": fields}).encode()
    found = {LAYOUT + b"%08x" % zlib.crc32(layout): layout, CHECKPOINT: state[CHECKPOINT]}
    for name, value in state.items():
        if name.startswith(b"stream/"):
            header = np.frombuffer(value[: HEADER.itemsize], HEADER).copy()
            header["layout"] = zlib.crc32(layout)
            found[name] = header.tobytes() + bytes(12) + b"".join(value[part] for part in taken)
    return found


def test_rows_with_a_field_more_and_one_fewer_are_read_and_written_anew() -> None:
    saved = begun(crowd(5))
    saved.save_all()
    keeper = Keeper()
    state = relaid(saved.state[P0], "head.is_critical")
    assert keeper.begin({P0: PartitionPosition(5)}, {P0: state}) == {P0: 5}
    assert keeper.rows() == saved.rows()  # it was as a new stream has it
    keeper.feed(crowd(2, 1, 5))
    keeper.save_all()
    assert len([key for key in keeper.state[P0] if key.startswith(b"layout/")]) == 2
    again = Keeper()
    again.begin({P0: PartitionPosition(7)}, keeper.state)
    assert again.rows() == keeper.rows()


def test_state_that_does_not_read_back_stops_the_worker() -> None:
    saved = saved_at()
    saved.state[P0][b"stream/s1"] = saved.state[P0][b"stream/s1"][:-1]
    with pytest.raises(StateCorrupted):
        Keeper().begin(*restored(saved, 90))


def test_state_that_breaks_off_leaves_nothing_behind_and_is_read_again() -> None:
    """The log became unavailable amid it."""
    saved = saved_at()
    keeper, at = Keeper(), {P0: PartitionPosition(90)}

    def broken() -> Iterator[tuple[Partition, dict[bytes, bytes]]]:
        yield P0, dict(list(saved.state[P0].items())[:40])
        raise LogUnavailable("for the test")

    with pytest.raises(LogUnavailable):
        keeper.state_manager.restore(at, broken(), 0.0)
    assert keeper.rows() == {}
    assert keeper.begin(at, saved.state) == Keeper().begin(at, saved.state)
    keeper.state_manager.on_committed([P0])
    assert not keeper.state_manager.messages_missed
