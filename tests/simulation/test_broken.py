"""A test of the tests: a service or a log that is broken on purpose, in ways that are easy to get wrong, is found out by the seeds.

The seeds are those of `test_seeds`, which fail for nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import pytest

from detector.codec.state_serde import Checkpoint, RowCodec, encode_checkpoint, key_of
from detector.core.detector import Detector
from detector.core.readings import Partition
from detector.errors import CommitAborted
from detector.ports import CommitBatch, PartitionPosition
from detector.service import dirty_tracker, state_manager
from detector.service.dirty_tracker import DirtyTracker
from detector.service.resume_point import ResumePoint
from detector.service.state_manager import StateManager
from tests.doubles.memory_log import MemoryLog
from tests.simulation import changes
from tests.simulation.oracle import run_seed
from tests.simulation.simulate import Run, failure_of

SEEDS_MAX = 300


def found_after(run: Run = run_seed) -> int:
    """How many seeds it takes until one fails."""
    for seed in range(SEEDS_MAX):
        failure, _ = failure_of(seed, run)
        if failure:
            return seed + 1
    pytest.fail(f"{SEEDS_MAX} seeds have not found it")


@pytest.mark.parametrize("half", ["state", "rest"])
def test_a_commit_in_two_halves_is_found(half: Literal["state", "rest"]) -> None:
    assert found_after(partial(run_seed, torn_commit=0.05, torn_half=half)) <= SEEDS_MAX


@pytest.mark.parametrize("error", [1, -1])
def test_a_row_that_stands_for_another_offset_is_found(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    encode = RowCodec.encode
    monkeypatch.setattr(
        RowCodec, "encode", lambda self, store, rows, incarnation, offset: encode(self, store, rows, incarnation, offset + error)
    )
    assert found_after() <= SEEDS_MAX


def test_a_checkpoint_that_is_too_high_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_high(checkpoint: Checkpoint) -> bytes:
        return encode(
            Checkpoint(
                checkpoint.incarnation,
                checkpoint.fingerprint,
                min(checkpoint.offset + 1, checkpoint.next_offset),
                checkpoint.time,
                checkpoint.next_offset,
            )
        )

    encode = encode_checkpoint
    monkeypatch.setattr(dirty_tracker, "encode_checkpoint", too_high)
    assert found_after() <= SEEDS_MAX


def test_a_tombstone_that_is_written_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream is deleted as soon as it is evicted, though messages of its absence are still to be judged again."""

    def hasty(self: DirtyTracker, detector: Detector, codec: RowCodec, rows_max: int) -> dict[bytes, bytes | None]:
        early: dict[bytes, bytes | None] = {}
        for generation in self._generations.values():
            for name in [name for name in generation.evicted if detector.store.row(self.slot, name) is None]:
                generation.evicted.remove(name)
                self.unsaved -= 1
                early[key_of(name)] = None
        self._generations = {
            generation_id: generation
            for generation_id, generation in self._generations.items()
            if len(generation.rows) or generation.evicted
        }
        return early | save(self, detector, codec, rows_max)

    save = DirtyTracker.encode_slice
    monkeypatch.setattr(DirtyTracker, "encode_slice", hasty)
    assert found_after() <= SEEDS_MAX


def test_a_tombstone_that_deletes_a_stream_that_came_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def ruthless(self: DirtyTracker, detector: Detector, room: int, saved: dict[bytes, bytes | None]) -> None:
        while self.tombstones and self.tombstones[0][0] <= self.checkpoint(detector).offset and room > 0:
            saved[key_of(self.tombstones.popleft()[1])] = None
            self.unsaved -= 1
            room -= 1

    monkeypatch.setattr(DirtyTracker, "_encode_tombstones", ruthless)
    assert found_after() <= SEEDS_MAX


def test_an_aborted_commit_that_is_taken_for_a_true_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgiving(self: MemoryLog, batch: CommitBatch) -> None:
        with contextlib.suppress(CommitAborted):
            commit(self, batch)

    commit = MemoryLog.commit
    monkeypatch.setattr(MemoryLog, "commit", forgiving)
    assert found_after() <= SEEDS_MAX


# -- what holds where logs change ---------------------------------------------------------------------------------------------


def test_a_commit_of_what_another_log_held_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryLog, "reads_the_same", lambda self, partition: True)
    assert found_after(changes.run_seed) <= SEEDS_MAX


@pytest.mark.parametrize("unknown", [{"log_id": ""}, {"diverges_at": None}])
def test_a_change_that_is_not_looked_at_is_found(monkeypatch: pytest.MonkeyPatch, unknown: dict[str, Any]) -> None:
    def forgetful(self: MemoryLog, partitions: Sequence[Partition]) -> dict[Partition, PartitionPosition]:
        return {partition: replace(at, **unknown) for partition, at in restore(self, partitions).items()}

    restore = MemoryLog.restore
    monkeypatch.setattr(MemoryLog, "restore", forgetful)
    assert found_after(changes.run_seed) <= SEEDS_MAX


def test_a_worker_that_reads_on_where_the_log_begins_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a client does that resets its offset by itself."""

    def jumping(self: MemoryLog, partition: Partition, position: int) -> bool:
        first = self._broker.first[partition]
        if position < first:
            self._position[partition] = first
        return changed(self, partition, max(position, first))

    changed = MemoryLog._has_changed
    monkeypatch.setattr(MemoryLog, "_has_changed", jumping)
    assert found_after(changes.run_seed) <= SEEDS_MAX


def test_messages_that_are_missed_and_not_counted_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StateManager, "on_committed", lambda self, partitions: None)
    assert found_after(changes.run_seed) <= SEEDS_MAX


def test_news_that_are_taken_for_known_messages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where an offset of a log that is no more is believed."""
    monkeypatch.setattr(
        state_manager,
        "resume_point",
        lambda partition, at, checkpoint, *_, **__: ResumePoint(checkpoint.next_offset if checkpoint else at.offset),
    )
    assert found_after(changes.run_seed) <= SEEDS_MAX
