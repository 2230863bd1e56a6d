"""The state of all streams: one record each, in one block of memory."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.readings import Partition, ReadingBatch, StreamNames
from detector.core.stream_state import HEAD, Layout

ROWS_AT_FIRST = 1_024
GROWTH = 1.25
"""The block grows by this factor. The operating system moves its pages; nothing is held twice."""
FREE = -1


class StateStore:
    """Records, one row per stream and partition. Freed rows are used again.

    `heads` (records of type HEAD, [rows]) and `floats` (f4[rows, F]) are views of the rows; `records` u1[rows, row_bytes] are their bytes.
    Growing moves the block: a view is asked for anew after every `rows_for` and `load`, and never kept.

    Three more things are known of a row, which are not part of the stream's state:

    stands_for   i8[rows] input offset that the row stands for when it was loaded: readings before it are in it already
    changed_in   i8[rows] generation in which the row changed since it was saved; 0: it is saved
    slot_of_row  i4[rows] its partition; FREE where the row is free
    """

    def __init__(self, layout: Layout, names: StreamNames, max_per_partition: int) -> None:
        self.layout = layout
        self._names = names
        self._max_per_partition = max_per_partition
        self.records: NDArray[np.uint8] = np.zeros((0, layout.row_bytes), np.uint8)
        self.stands_for, self.changed_in = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self.slot_of_row, self._id_of_row = np.zeros(0, np.int32), np.zeros(0, np.int32)
        self._row_of_id = np.full(ROWS_AT_FIRST, FREE, np.int32)  # the row of a name that was used last
        self._other_rows: dict[tuple[int, int], int] = {}  # (slot, id) -> row, of names that several partitions have
        self._free: list[int] = []
        self._rows_end = 0
        self._slot_of: dict[Partition, int] = {}
        self._partitions: list[Partition] = []  # by slot
        self._streams_of_slot: list[int] = []
        self._grow(ROWS_AT_FIRST)

    @property
    def heads(self) -> NDArray[Any]:
        """The heads of all rows: records of type HEAD."""
        heads: NDArray[Any] = self.records[:, : HEAD.itemsize].view(HEAD)[:, 0]
        return heads

    @property
    def floats(self) -> NDArray[np.float32]:
        """All rows as 32-bit floats, f4[rows, F]; the first ones of a row are its head's bytes."""
        return self.records.view(np.float32)

    def __len__(self) -> int:
        return sum(self._streams_of_slot)

    @property
    def slots(self) -> int:
        """How many partitions have ever been seen."""
        return len(self._slot_of)

    def slots_for(self, partitions: tuple[Partition, ...]) -> NDArray[np.int32]:
        """A small number for each partition, the same for as long as the store lives."""
        for partition in partitions:
            if partition not in self._slot_of:
                self._slot_of[partition] = len(self._slot_of)
                self._partitions.append(partition)
                self._streams_of_slot.append(0)
        return np.array([self._slot_of[partition] for partition in partitions], np.int32)

    def rows_for(self, batch: ReadingBatch, needs_row: NDArray[np.bool_] | None = None) -> NDArray[np.int32]:
        """The row of each reading's stream, a new one where the stream is new.

        needs_row  bool[N] of the others the row is FREE; None: all do

        returns  i4[N]; FREE where the partition already has as many streams as it may
        """
        slots = self.slots_for(batch.partitions)[batch.partition] if len(batch) else np.empty(0, np.int32)
        self._make_room_for_ids()
        rows = self._row_of_id[batch.stream_id]
        is_sought = (rows == FREE) | (self.slot_of_row[rows] != slots)
        if needs_row is not None:
            rows[~needs_row] = FREE
            is_sought &= needs_row
        for position in np.flatnonzero(is_sought).tolist():
            slot, stream_id = int(slots[position]), int(batch.stream_id[position])
            row = self._find(slot, stream_id)
            if row == FREE and self._streams_of_slot[slot] < self._max_per_partition:
                row = self._new_row(slot, stream_id)
            rows[position] = row
        return rows

    def load(self, slot: int, names: Sequence[bytes], records: NDArray[np.uint8], stands_for: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of a partition as they were saved.

        names        of streams, each once; a row that one has already is written over
        records      u1[R, row_bytes], or one for all
        stands_for   i8[R] the input offset of each

        returns  i8[R] their rows
        """
        ids = [self._names[name] for name in names]
        self._make_room_for_ids()
        found = [self._find(slot, stream_id) for stream_id in ids]
        rows = np.array([self._new_row(slot, each) if row == FREE else row for each, row in zip(ids, found, strict=True)], np.int64)
        self.stands_for[rows] = stands_for
        self.records[rows] = records
        return rows

    def row(self, slot: int, name: bytes) -> int | None:
        """The row of a stream, if it has one."""
        stream_id = self._names.get(name)
        row = FREE if stream_id is None else self._find(slot, stream_id)
        return None if row == FREE else row

    def _find(self, slot: int, stream_id: int) -> int:
        if stream_id >= len(self._row_of_id):
            return FREE
        row = int(self._row_of_id[stream_id])
        if row != FREE and self.slot_of_row[row] == slot:
            return row
        return self._other_rows.get((slot, stream_id), FREE)

    def _new_row(self, slot: int, stream_id: int) -> int:
        row = self._take_row()
        usual = int(self._row_of_id[stream_id])
        if usual == FREE:
            self._row_of_id[stream_id] = row
        else:  # another partition has a stream of this name
            self._other_rows[slot, stream_id] = row
        self.slot_of_row[row], self._id_of_row[row] = slot, stream_id
        self._streams_of_slot[slot] += 1
        return row

    def _take_row(self) -> int:
        if self._free:
            return self._free.pop()
        if self._rows_end == len(self.records):
            self._grow(int(GROWTH * self._rows_end))
        self.floats[self._rows_end] = self.layout.new
        self._rows_end += 1
        return self._rows_end - 1

    def _grow(self, rows: int) -> None:
        self.records.resize((rows, self.layout.row_bytes), refcheck=False)
        self.stands_for.resize(rows, refcheck=False)
        self.changed_in.resize(rows, refcheck=False)
        for free in (self.slot_of_row, self._id_of_row):
            before = len(free)
            free.resize(rows, refcheck=False)
            free[before:] = FREE

    def _make_room_for_ids(self) -> None:
        before = len(self._row_of_id)
        if self._names.ids_end > before:
            self._row_of_id.resize(int(GROWTH * self._names.ids_end) + 1, refcheck=False)
            self._row_of_id[before:] = FREE

    def free(self, rows: NDArray[Any], needed: Container[int] = ()) -> None:
        """Free rows, and the names that no row needs any more.

        needed   ids of names that readings still to be judged have
        """
        self.floats[rows] = self.layout.new
        self.stands_for[rows] = self.changed_in[rows] = 0
        unused = []
        for row in rows.tolist():
            slot, stream_id = int(self.slot_of_row[row]), int(self._id_of_row[row])
            self._streams_of_slot[slot] -= 1
            self.slot_of_row[row] = self._id_of_row[row] = FREE
            if self._row_of_id[stream_id] == row:
                self._row_of_id[stream_id] = self._move_up(stream_id)
            else:
                del self._other_rows[slot, stream_id]
            if stream_id not in needed and not self.is_known(stream_id):
                unused.append(stream_id)
            self._free.append(row)
        self._names.release(unused)

    def _move_up(self, stream_id: int) -> int:
        """Another partition's row of a name, which is its usual one from now on."""
        for slot in range(self.slots) if self._other_rows else ():
            row = self._other_rows.pop((slot, stream_id), FREE)
            if row != FREE:
                return row
        return FREE

    def free_partitions(self, partitions: Iterable[Partition]) -> NDArray[np.int32]:
        """Free every row of these partitions: another worker keeps their state now. Returns their slots."""
        slots = self.slots_for(tuple(partitions))
        self.free(np.flatnonzero(np.isin(self.slot_of_row[: self._rows_end], slots)))
        return slots

    def slots_of(self, rows: NDArray[Any]) -> NDArray[np.int32]:
        """The partition's slot of each row; FREE for one that is free."""
        slots: NDArray[np.int32] = self.slot_of_row[rows]
        return slots

    def rows_in(self, slot: int) -> NDArray[np.int64]:
        """All rows of one partition, ascending."""
        return np.flatnonzero(self.slot_of_row[: self._rows_end] == slot)

    def rows_with(self, field: str) -> NDArray[np.int64]:
        """Rows whose head has this field set, ascending."""
        return np.flatnonzero(self.heads[field][: self._rows_end])

    def partition(self, row: int) -> Partition:
        """The partition of a row that is not free."""
        return self._partitions[int(self.slot_of_row[row])]

    def stream(self, row: int) -> str:
        """The name of a row's stream."""
        return self._names.name(int(self._id_of_row[row]))

    def is_known(self, stream_id: int) -> bool:
        """Whether any row belongs to this name."""
        return stream_id < len(self._row_of_id) and self._row_of_id[stream_id] != FREE
