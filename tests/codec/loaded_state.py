"""Saved state, read back into a StateStore of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from detector.codec.state_loader import LoadedState, StateLoader
from detector.core.readings import Partition, StreamNames
from detector.core.state_store import StateStore
from detector.core.stream_state import Layout
from tests.core.builders import fields_of


class ReadBack:
    """What some pieces of state say.

    loaded    what `StateLoader.finish` returned
    records   of every stream that is there, as bytes
    offset    input offset that each stands for
    """

    def __init__(self, pieces: Iterable[Mapping[bytes, bytes | None]], layout: Layout) -> None:
        store = StateStore(layout, StreamNames(), 1_000_000)
        (slot,) = store.slots_for((Partition("readings", 0),)).tolist()
        loader = StateLoader(store, slot)
        for piece in pieces:
            loader.load(piece)
        self.loaded: LoadedState = loader.finish()
        rows = {store.stream(row).encode(): row for row in store.rows_in(slot).tolist()}
        evicted = {name: rows.pop(name) for name in self.loaded.evicted}
        self.records = {name: store.records[row].tobytes() for name, row in rows.items()}
        self.offset = {name: int(store.stands_for[row]) for name, row in rows.items()}
        for name, row in evicted.items():
            assert store.records[row].tobytes() == layout.new.tobytes()
            assert store.stands_for[row] == self.loaded.evicted[name]
        assert len(store) == len(rows) + len(evicted)


def read_back(state: Mapping[bytes, bytes | None], layout: Layout) -> ReadBack:
    """In one piece."""
    return ReadBack([state], layout)


def differing(layout: Layout, one: bytes, other: bytes) -> list[str]:
    """Names of the fields in which two records differ."""
    fields, others = fields_of(layout, one), fields_of(layout, other)
    return [name for name, value in fields.items() if np.asarray(value).tobytes() != np.asarray(others[name]).tobytes()]
