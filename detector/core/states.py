"""The arena: what is remembered of every stream, one row each, as columns."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.readings import Partition, ReadingBatch, StreamNames

ROWS_AT_FIRST = 1_024
FREE = -1


@dataclass(frozen=True, slots=True)
class Column:
    """One thing remembered per stream.

    dtype  such as "f4"
    shape  of one row's part
    fill   what a new stream starts with: a number, or an array of `shape`
    """

    dtype: str
    shape: tuple[int, ...] = ()
    fill: float | NDArray[Any] = 0

    def array(self, rows: int) -> NDArray[Any]:
        """So many rows as a new stream has them."""
        array = np.empty((rows, *self.shape), self.dtype)
        array[...] = self.fill
        return array


def arrays_of(columns: Mapping[str, Column], rows: int = 1) -> dict[str, NDArray[Any]]:
    """So many rows as new streams have them."""
    return {name: column.array(rows) for name, column in columns.items()}


class StreamStates:
    """Arrays with one row per stream and partition. They grow by doubling; freed rows are used again. Rows that were never used hold zeros
    and take no memory: they are made as a new stream has them when it is their turn.

    A column is reached by name, `states["h"]`, and is the array itself: [rows, *shape]. Growing replaces the arrays, so
    nobody keeps one across `rows_for`.

    Two more things are known of a row, which are not part of the stream's memory:

    stands_for   i8[rows] input offset that the row stands for when it was loaded: readings before it are in it already
    changed_in   i8[rows] whatever says since when the row is not saved; 0: it is saved
    """

    def __init__(self, columns: Mapping[str, Column], names: StreamNames, streams_max: int) -> None:
        self.columns = dict(columns)
        self._names = names
        self._streams_max = streams_max
        self._arrays = arrays_of(self.columns, ROWS_AT_FIRST)
        self._capacity = ROWS_AT_FIRST
        self._row_of: dict[tuple[int, int], int] = {}  # (slot, stream id) -> row: the truth; the arrays below make it fast
        self._row_of_id = np.full(ROWS_AT_FIRST, FREE, np.int32)
        self.stands_for = np.zeros(ROWS_AT_FIRST, np.int64)
        self.changed_in = np.zeros(ROWS_AT_FIRST, np.int64)
        self._slot_of_row = np.full(ROWS_AT_FIRST, FREE, np.int32)
        self._id_of_row = np.full(ROWS_AT_FIRST, FREE, np.int32)
        self._free: list[int] = []
        self._rows_end = 0
        self._rows_made = ROWS_AT_FIRST
        self._slot_of: dict[Partition, int] = {}
        self._partitions: list[Partition] = []  # by slot
        self._streams_of_slot: list[int] = []

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    def __len__(self) -> int:
        return len(self._row_of)

    @property
    def slots(self) -> int:
        """How many partitions have ever been seen."""
        return len(self._slot_of)

    def slots_for(self, partitions: tuple[Partition, ...]) -> NDArray[np.int32]:
        """A small number for each partition, the same for as long as the arena lives."""
        for partition in partitions:
            if partition not in self._slot_of:
                self._slot_of[partition] = len(self._slot_of)
                self._partitions.append(partition)
                self._streams_of_slot.append(0)
        return np.array([self._slot_of[partition] for partition in partitions], np.int32)

    def rows_for(self, batch: ReadingBatch) -> NDArray[np.int32]:
        """The row of each reading's stream, a new one where the stream is new.

        returns  i4[N]; -1 where the partition already has `streams_max` streams
        """
        slots = self.slots_for(batch.partitions)[batch.partition] if len(batch) else np.empty(0, np.int32)
        if self._names.ids_end > len(self._row_of_id):
            self._row_of_id = _grown(self._row_of_id, 2 * self._names.ids_end, FREE)
        rows = self._row_of_id[batch.stream_id]
        for position in np.flatnonzero((rows == FREE) | (self._slot_of_row[rows] != slots)):
            rows[position] = self._row_for(int(slots[position]), int(batch.stream_id[position]))
        return rows

    def load(
        self, slot: int, names: Sequence[bytes], columns: Mapping[str, NDArray[Any]], stands_for: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Rows of a partition as they were saved; columns that are not given are as a new stream has them.

        names        of streams, each once; a row that one has already is written over
        stands_for   i8[R] the input offset of each

        returns  i8[R] their rows
        """
        ids = [self._names[name] for name in names]
        if self._names.ids_end > len(self._row_of_id):
            self._row_of_id = _grown(self._row_of_id, 2 * self._names.ids_end, FREE)
        known = [self._row_of.get((slot, stream_id)) for stream_id in ids]
        rows = np.array([self._new_row(slot, each) if row is None else row for each, row in zip(ids, known, strict=True)], np.int64)
        self.reset(np.array([row for row in known if row is not None], np.int64), but=columns)
        self.stands_for[rows] = stands_for
        for name, values in columns.items():
            self._arrays[name][rows] = values
        return rows

    def row(self, slot: int, name: bytes) -> int | None:
        """The row of a stream, if it has one."""
        stream_id = self._names.get(name)
        return None if stream_id is None else self._row_of.get((slot, stream_id))

    def _row_for(self, slot: int, stream_id: int) -> int:
        row = self._row_of.get((slot, stream_id))
        if row is None:
            if self._streams_of_slot[slot] >= self._streams_max:
                return FREE
            row = self._new_row(slot, stream_id)
        self._row_of_id[stream_id] = row
        return row

    def _new_row(self, slot: int, stream_id: int) -> int:
        row = self._take_row()
        self._row_of[slot, stream_id] = row
        self._slot_of_row[row], self._id_of_row[row] = slot, stream_id
        self._streams_of_slot[slot] += 1
        return row

    def _take_row(self) -> int:
        if self._free:
            return self._free.pop()
        if self._rows_end == self._capacity:
            self._grow()
        if self._rows_end == self._rows_made:
            self._rows_made += ROWS_AT_FIRST
            self.reset(np.arange(self._rows_end, self._rows_made))
        self._rows_end += 1
        return self._rows_end - 1

    def _grow(self) -> None:
        for name, column in self.columns.items():
            grown = np.zeros((2 * self._capacity, *column.shape), column.dtype)  # not touched, so not there yet
            grown[: self._capacity] = self._arrays[name]
            self._arrays[name] = grown  # one at a time: the old one goes before the next is copied
        self._capacity *= 2
        self.stands_for = _grown(self.stands_for, self._capacity, 0)
        self.changed_in = _grown(self.changed_in, self._capacity, 0)
        self._slot_of_row = _grown(self._slot_of_row, self._capacity, FREE)
        self._id_of_row = _grown(self._id_of_row, self._capacity, FREE)

    def reset(self, rows: NDArray[Any], but: Container[str] = ()) -> None:
        """Make rows as a new stream has them, but for some columns; they keep their streams."""
        for name, column in self.columns.items():
            if name not in but:
                self._arrays[name][rows] = column.fill

    def forget(self, rows: NDArray[Any], needed: Container[int] = ()) -> None:
        """Free rows, and the names that no row needs any more.

        needed   ids of names that readings still to be judged have
        """
        self.reset(rows)
        self.stands_for[rows] = self.changed_in[rows] = 0
        unused = []
        for row in rows.tolist():
            slot, stream_id = int(self._slot_of_row[row]), int(self._id_of_row[row])
            del self._row_of[slot, stream_id]
            self._streams_of_slot[slot] -= 1
            self._slot_of_row[row] = self._id_of_row[row] = FREE
            if self._row_of_id[stream_id] == row:
                self._row_of_id[stream_id] = FREE
            if stream_id not in needed and not self.is_known(stream_id):
                unused.append(stream_id)
            self._free.append(row)
        self._names.release(unused)

    def forget_partitions(self, partitions: Iterable[Partition]) -> NDArray[np.int32]:
        """Free every row of these partitions: another worker keeps their memory now. Returns their slots."""
        slots = self.slots_for(tuple(partitions))
        self.forget(np.flatnonzero(np.isin(self._slot_of_row[: self._rows_end], slots)))
        return slots

    def slots_of(self, rows: NDArray[Any]) -> NDArray[np.int32]:
        """The partition's slot of each row; -1 for one that is free."""
        slots: NDArray[np.int32] = self._slot_of_row[rows]
        return slots

    def rows_in(self, slot: int) -> NDArray[np.int64]:
        """All rows of one partition, ascending."""
        return np.flatnonzero(self._slot_of_row[: self._rows_end] == slot)

    def partition(self, row: int) -> Partition:
        """The partition of a row that is not free."""
        return self._partitions[int(self._slot_of_row[row])]

    def stream(self, row: int) -> str:
        """The name of a row's stream."""
        return self._names.name(int(self._id_of_row[row]))

    def is_known(self, stream_id: int) -> bool:
        """Whether any row belongs to this name."""
        return any((slot, stream_id) in self._row_of for slot in range(len(self._streams_of_slot)))


def _grown(array: NDArray[Any], length: int, fill: int) -> NDArray[Any]:
    grown = np.full(length, fill, array.dtype)
    grown[: len(array)] = array
    return grown
