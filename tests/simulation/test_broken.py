"""A test of the tests: a service or a log that is broken on purpose, in ways that are easy to get wrong, is found out by the seeds.

The seeds are those of `test_seeds`, which fail for nothing else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import pytest

from detector.adapters.memory_log import MemoryLog
from detector.codec.snapshots import Marker, RowCodec, encode_marker, key_of
from detector.core.detect import Detector
from detector.errors import CommitAborted
from detector.ports import Outcome, Restored
from detector.service import ledger, recovery
from detector.service.beginning import Beginning, beginning
from detector.service.ledger import Ledger
from tests.simulation import changes
from tests.simulation.oracle import run_seed
from tests.simulation.simulate import failure_of

SEEDS_MAX = 300


def found_after(run: Callable[..., Any] = run_seed, **faults: Any) -> int:
    """How many seeds it takes until one fails."""
    for seed in range(SEEDS_MAX):
        failure, _ = failure_of(seed, partial(run, **faults))
        if failure:
            return seed + 1
    pytest.fail(f"{SEEDS_MAX} seeds have not found it")


@pytest.mark.parametrize("half", ["state", "rest"])
def test_a_commit_in_two_halves_is_found(half: Literal["state", "rest"]) -> None:
    assert found_after(torn_commit=0.05, torn_half=half) <= SEEDS_MAX


@pytest.mark.parametrize("error", [1, -1])
def test_a_row_that_stands_for_another_offset_is_found(monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    encode = RowCodec.encode
    monkeypatch.setattr(RowCodec, "encode", lambda self, states, rows, era, offset: encode(self, states, rows, era, offset + error))
    assert found_after() <= SEEDS_MAX


def test_a_marker_that_is_too_high_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_high(marker: Marker) -> bytes:
        return encode(Marker(marker.era, marker.fingerprint, min(marker.offset + 1, marker.next_offset), marker.time, marker.next_offset))

    encode = encode_marker
    monkeypatch.setattr(ledger, "encode_marker", too_high)
    assert found_after() <= SEEDS_MAX


def test_a_tombstone_that_is_written_too_early_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream is deleted as soon as it is forgotten, though messages of its absence are still to be judged again."""

    def hasty(self: Ledger, detector: Detector, codec: RowCodec, rows_max: int) -> dict[bytes, bytes | None]:
        early: dict[bytes, bytes | None] = {}
        for chapter in self._chapters.values():
            for name in [name for name in chapter.forgotten if detector.states.row(self.slot, name) is None]:
                chapter.forgotten.remove(name)
                self.unsaved -= 1
                early[key_of(name)] = None
        self._chapters = {number: chapter for number, chapter in self._chapters.items() if len(chapter.rows) or chapter.forgotten}
        return early | save(self, detector, codec, rows_max)

    save = Ledger.save
    monkeypatch.setattr(Ledger, "save", hasty)
    assert found_after() <= SEEDS_MAX


def test_a_tombstone_that_deletes_a_stream_that_came_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def ruthless(self: Ledger, detector: Detector, room: int, saved: dict[bytes, bytes | None]) -> None:
        while self.tombstones and self.tombstones[0][0] <= self.marker(detector).offset and room > 0:
            saved[key_of(self.tombstones.popleft()[1])] = None
            self.unsaved -= 1
            room -= 1

    monkeypatch.setattr(Ledger, "_delete", ruthless)
    assert found_after() <= SEEDS_MAX


def test_a_topic_made_anew_that_is_taken_for_the_old_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def trusting(at: Restored, *arguments: Any, **named: Any) -> Beginning:
        return beginning(replace(at, log_id=""), *arguments, **named)

    monkeypatch.setattr(recovery, "beginning", trusting)
    assert found_after(changes.run_seed) <= SEEDS_MAX


def test_an_aborted_commit_that_is_taken_for_a_true_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgiving(self: MemoryLog, outcome: Outcome) -> None:
        with contextlib.suppress(CommitAborted):
            commit(self, outcome)

    commit = MemoryLog.commit
    monkeypatch.setattr(MemoryLog, "commit", forgiving)
    assert found_after() <= SEEDS_MAX
