"""A partition's saved state as it is loaded: rows go into the state piece by piece, so that no second copy of them is held.

Records come in the order in which they were written. Of a repeated key the last value counts; a value of None deletes the key. Which
incarnation counts is known when the last checkpoint has come, so rows of others are removed at the end.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.codec.state_serde import (
    CHECKPOINT,
    DELETE_STATE,
    HEADER,
    LAYOUT,
    STREAM,
    UNKNOWN_VERSION,
    VERSION,
    Checkpoint,
    SavedLayout,
    decode_checkpoint,
)
from detector.core.state_store import StateStore
from detector.errors import StateCorrupted

SHORT = bytes(HEADER.itemsize)  # stands for a header that is not there: its version is none


@dataclass(frozen=True, slots=True)
class LoadedState:
    """What a state partition held, beside the rows that are in the state now.

    checkpoint   None: nothing was ever saved
    evicted      streams that were evicted, and the offset from which on that holds; the state has empty rows of them
    stale        streams whose rows are of other incarnations
    layouts      ids of the layouts that are saved
    """

    checkpoint: Checkpoint | None
    evicted: dict[bytes, int]
    stale: tuple[bytes, ...]
    layouts: frozenset[int]


class StateLoader:
    """Loads what a state partition holds.

    store    where the rows go; it has none of this partition yet
    slot     of the partition in the store
    """

    def __init__(self, store: StateStore, slot: int) -> None:
        self._store, self._slot = store, slot
        self._checkpoint: bytes | None = None
        self._layouts: dict[bytes, bytes] = {}  # by key
        self._empty: set[bytes] = set()  # evicted streams
        self._held: dict[bytes, bytes] = {}  # rows that cannot be read yet: their layout may still come, or a later row of the stream
        self._incarnation_of = np.zeros(0, np.int64)  # by row of the state

    def load(self, records: Mapping[bytes, bytes | None]) -> None:
        """Load the next piece."""
        rows: dict[bytes, bytes] = {}
        deleted = []
        for key, value in records.items():
            if key.startswith(STREAM):
                name = key[len(STREAM) :]
                if value is None:
                    deleted.append(name)
                else:
                    rows[name] = value
            elif key == CHECKPOINT:
                self._checkpoint = value
            elif key.startswith(LAYOUT):
                self._layouts.pop(key, None)
                if value is not None:
                    self._layouts[key] = value
        self._drop(deleted)
        self._load_rows(rows)

    def finish(self) -> LoadedState:
        """Remove the rows that do not count, once all pieces are loaded.

        raises StateCorrupted  what was saved does not read back
        """
        checkpoint = None if self._checkpoint is None else decode_checkpoint(self._checkpoint)
        incarnation = None if checkpoint is None else int.from_bytes(checkpoint.incarnation, "little", signed=True)
        held, self._held = self._held, {}
        self._load_rows(held)
        stale = [name for name, value in self._held.items() if self._is_stale(name, value, incarnation)]
        store = self._store
        rows = store.rows_in(self._slot)
        others = rows if incarnation is None else rows[self._incarnation_of[rows] != incarnation]
        names = [store.stream(row).encode() for row in others.tolist()]
        store.free(others)
        self._empty.difference_update(names)
        evicted = {name: int(store.stands_for[store.row(self._slot, name)]) for name in self._empty}
        return LoadedState(checkpoint, evicted, (*stale, *names), frozenset(self._layout_of_id))

    @property
    def _layout_of_id(self) -> dict[int, bytes]:
        """The layouts by id. An id is a hash of the content, so the key does not matter."""
        return {zlib.crc32(layout): layout for layout in self._layouts.values()}

    def _drop(self, names: Iterable[bytes]) -> None:
        """Remove the earlier rows of these streams."""
        names = list(names)
        found = [row for name in names if (row := self._store.row(self._slot, name)) is not None]
        self._store.free(np.array(found, np.int64))
        self._empty.difference_update(names)
        for name in names if self._held else ():
            self._held.pop(name, None)

    def _load_rows(self, rows: Mapping[bytes, bytes]) -> None:
        """Load rows over earlier ones of the same streams; hold those that cannot be read yet."""
        names, values = list(rows), list(rows.values())
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        headers = np.frombuffer(b"".join(value[: len(SHORT)] if len(value) >= len(SHORT) else SHORT for value in values), HEADER)
        is_empty = headers["empty"] != 0
        can_be_read = (headers["version"] == VERSION) & _are_utf8(names)
        groups = [np.flatnonzero(can_be_read & is_empty)]
        layouts: list[SavedLayout | None] = [None]
        is_read = can_be_read & is_empty
        for layout_id in np.unique(headers["layout"][can_be_read & ~is_empty]).tolist():
            if layout_id in self._layout_of_id:
                saved = SavedLayout.decode(self._layout_of_id[layout_id])
                fits = can_be_read & ~is_empty & (headers["layout"] == layout_id) & (lengths == len(SHORT) + saved.record_bytes)
                groups.append(np.flatnonzero(fits))
                layouts.append(saved)
                is_read |= fits
        unread = np.flatnonzero(~is_read).tolist()
        self._drop([names[k] for k in unread])
        for chosen, saved_layout in zip(groups, layouts, strict=True):
            self._load_layout([names[k] for k in chosen.tolist()], [values[k] for k in chosen.tolist()], headers[chosen], saved_layout)
        self._empty.difference_update(names)
        self._empty.update(names[k] for k in groups[0].tolist())
        for name in names if self._held else ():
            self._held.pop(name, None)
        self._held.update((names[k], values[k]) for k in unread)

    def _load_layout(self, names: list[bytes], values: Sequence[bytes], headers: NDArray[Any], saved: SavedLayout | None) -> None:
        """Load rows of one layout; without one, those of evicted streams."""
        if not names:
            return
        new = self._store.layout.new.view(np.uint8)
        records = new if saved is None else saved.records(values, self._store.layout)
        rows = self._store.load(self._slot, names, records, headers["offset"])
        if len(self._incarnation_of) < len(self._store.stands_for):
            self._incarnation_of.resize(len(self._store.stands_for), refcheck=False)
        self._incarnation_of[rows] = np.ascontiguousarray(headers["incarnation"]).view("<i8")

    def _is_stale(self, name: bytes, value: bytes, incarnation: int | None) -> bool:
        """Whether a row that cannot be read is of another incarnation, and so need not be read.

        raises StateCorrupted  it counts
        """
        if not _are_utf8([name]).all():
            raise StateCorrupted("a saved row's stream has a name that is not UTF-8", fix=DELETE_STATE)
        if len(value) < HEADER.itemsize:
            raise StateCorrupted("a saved row is shorter than its header", fix=DELETE_STATE)
        (header,) = np.frombuffer(value[: HEADER.itemsize], HEADER)
        if header["version"] != VERSION:
            raise StateCorrupted(f"a saved row has version {header['version']}, which this version does not know", fix=UNKNOWN_VERSION)
        if int.from_bytes(header["incarnation"].tobytes(), "little", signed=True) != incarnation:
            return True
        if int(header["layout"]) not in self._layout_of_id:
            raise StateCorrupted(f"saved rows, such as that of {name.decode()}, have a layout that is not saved", fix=DELETE_STATE)
        raise StateCorrupted("a saved row is not as long as its layout says", fix=DELETE_STATE)


def _are_utf8(names: Sequence[bytes]) -> NDArray[np.bool_]:
    """bool[R] whether names can be a stream's."""
    try:
        b"\n".join(names).decode()
    except UnicodeDecodeError:
        return np.array([name.decode(errors="replace").encode() == name for name in names], bool)
    return np.ones(len(names), bool)
