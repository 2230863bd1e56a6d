"""Saved state, read back into a StreamStates of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from detector.codec.state_loader import LoadedState, StateLoader
from detector.core.readings import Partition, StreamNames
from detector.core.states import Column, StreamStates


class ReadBack:
    """What some pieces of state say.

    loaded   what `StateLoader.finish` returned
    rows     the row of every stream that is there
    offset   input offset that each stands for
    """

    def __init__(self, pieces: Iterable[Mapping[bytes, bytes | None]], columns: Mapping[str, Column]) -> None:
        self.states = StreamStates(columns, StreamNames(), 1_000_000)
        (self._slot,) = self.states.slots_for((Partition("readings", 0),)).tolist()
        loader = StateLoader(self.states, self._slot)
        for piece in pieces:
            loader.load(piece)
        self.loaded: LoadedState = loader.finish()
        everything = {self.states.stream(row).encode(): row for row in self.states.rows_in(self._slot).tolist()}
        self.rows = {name: row for name, row in everything.items() if name not in self.loaded.evicted}
        self.offset = {name: int(self.states.stands_for[row]) for name, row in self.rows.items()}
        for name in self.loaded.evicted:
            assert {column: self.states[column][everything[name]].tobytes() for column in columns} == {
                column: each.array(1).tobytes() for column, each in columns.items()
            }
        assert self.loaded.evicted == {name: self.states.stands_for[row] for name, row in everything.items() if name not in self.rows}

    def columns(self, name: bytes) -> dict[str, bytes]:
        """A stream's row, as bytes."""
        return {column: self.states[column][self.rows[name]].tobytes() for column in self.states.columns}


def read_back(state: Mapping[bytes, bytes | None], columns: Mapping[str, Column]) -> ReadBack:
    """In one piece."""
    return ReadBack([state], columns)
