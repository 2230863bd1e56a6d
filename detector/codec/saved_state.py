"""A partition's saved state as it is read: rows go into the arena piece by piece, so that no second copy of it is ever held.

Records come as they were written. Of a key that comes again the later value counts; a value of None takes the key away. Which incarnation counts is
known when the last checkpoint has come, so rows of others are taken out again at the end.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.codec.snapshots import (
    CHECKPOINT,
    HEADER,
    LAYOUT,
    NEWER,
    START_OVER,
    STREAM,
    VERSION,
    Checkpoint,
    columns_bytes,
    decode_checkpoint,
)
from detector.core.states import StreamStates
from detector.errors import StateCorrupted

SHORT = bytes(HEADER.itemsize)  # stands for a header that is not there: its version is none


@dataclass(frozen=True, slots=True)
class Saved:
    """What a state partition held, beside the rows that are in the arena now.

    checkpoint None: nothing was ever saved
    gone       streams that are known not to be there any more, and the offset from which on that is so; the arena has empty rows of them
    stale      streams whose rows are of other incarnations
    layouts    ids of the layouts that are written down
    """

    checkpoint: Checkpoint | None
    gone: dict[bytes, int]
    stale: tuple[bytes, ...]
    layouts: frozenset[int]


class SavedState:
    """Takes what a state partition holds into the arena.

    states   the arena; it has no rows of this partition yet
    slot     of the partition in the arena
    """

    def __init__(self, states: StreamStates, slot: int) -> None:
        self._states, self._slot = states, slot
        self._checkpoint: bytes | None = None
        self._layouts: dict[bytes, bytes] = {}  # by key
        self._empty: set[bytes] = set()  # streams whose rows say that there is no such stream
        self._held: dict[bytes, bytes] = {}  # rows that cannot be read as yet: the layout may still come, or another row of the stream
        self._incarnation_of = np.zeros(0, np.int64)  # by row of the arena

    def take(self, records: Mapping[bytes, bytes | None]) -> None:
        """The next piece."""
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
        self._load(rows)

    def settle(self) -> Saved:
        """All has been taken. Rows that do not count leave the arena.

        raises StateCorrupted  it does not read back as what was written
        """
        checkpoint = None if self._checkpoint is None else decode_checkpoint(self._checkpoint)
        incarnation = None if checkpoint is None else int.from_bytes(checkpoint.incarnation, "little", signed=True)
        held, self._held = self._held, {}
        self._load(held)
        stale = [name for name, value in self._held.items() if self._is_stale(name, value, incarnation)]
        states = self._states
        rows = states.rows_in(self._slot)
        others = rows if incarnation is None else rows[self._incarnation_of[rows] != incarnation]
        names = [states.stream(row).encode() for row in others.tolist()]
        states.forget(others)
        self._empty.difference_update(names)
        gone = {name: int(states.stands_for[states.row(self._slot, name)]) for name in self._empty}
        return Saved(checkpoint, gone, (*stale, *names), frozenset(self._written))

    @property
    def _written(self) -> dict[int, bytes]:
        """The layouts by their ids: known by content, whatever key they lie under."""
        return {zlib.crc32(layout): layout for layout in self._layouts.values()}

    def _drop(self, names: Iterable[bytes]) -> None:
        """These streams' earlier rows do not count any more."""
        names = list(names)
        found = [row for name in names if (row := self._states.row(self._slot, name)) is not None]
        self._states.forget(np.array(found, np.int64))
        self._empty.difference_update(names)
        for name in names if self._held else ():
            self._held.pop(name, None)

    def _load(self, rows: Mapping[bytes, bytes]) -> None:
        """Put rows into the arena, over earlier ones of the same streams; hold those that cannot be read."""
        names, values = list(rows), list(rows.values())
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        headers = np.frombuffer(b"".join(value[: len(SHORT)] if len(value) >= len(SHORT) else SHORT for value in values), HEADER)
        is_empty = headers["empty"] != 0
        can_be_read = (headers["version"] == VERSION) & _are_utf8(names)
        groups = [np.flatnonzero(can_be_read & is_empty)]
        layouts: list[list[list[Any]]] = [[]]
        is_read = can_be_read & is_empty
        for layout_id in np.unique(headers["layout"][can_be_read & ~is_empty]).tolist():
            described = json.loads(self._written.get(layout_id, b"null"))
            if described is not None:
                fits = can_be_read & ~is_empty & (headers["layout"] == layout_id) & (lengths == len(SHORT) + columns_bytes(described))
                groups.append(np.flatnonzero(fits))
                layouts.append(described)
                is_read |= fits
        unread = np.flatnonzero(~is_read).tolist()
        self._drop([names[k] for k in unread])
        for chosen, described in zip(groups, layouts, strict=True):
            self._put([names[k] for k in chosen.tolist()], [values[k] for k in chosen.tolist()], headers[chosen], described)
        self._empty.difference_update(names)
        self._empty.update(names[k] for k in groups[0].tolist())
        for name in names if self._held else ():
            self._held.pop(name, None)
        self._held.update((names[k], values[k]) for k in unread)

    def _put(self, names: list[bytes], values: Sequence[bytes], headers: NDArray[Any], described: list[list[Any]]) -> None:
        """Rows of one layout; columns that today's arena does not have as they were are left out."""
        if not names:
            return
        columns: dict[str, NDArray[Any]] = {}
        if described:
            packed = np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)
            at = HEADER.itemsize
            for name, dtype, shape in described:
                start, at = at, at + columns_bytes([[name, dtype, shape]])
                column = self._states.columns.get(name)
                if column is not None and (np.dtype(column.dtype), column.shape) == (np.dtype(dtype), tuple(shape)):
                    columns[name] = np.ascontiguousarray(packed[:, start:at]).view(dtype).reshape(len(values), *shape)
        rows = self._states.load(self._slot, names, columns, headers["offset"])
        if len(self._incarnation_of) < len(self._states.stands_for):
            grown = np.zeros(len(self._states.stands_for), np.int64)
            grown[: len(self._incarnation_of)] = self._incarnation_of
            self._incarnation_of = grown
        self._incarnation_of[rows] = np.ascontiguousarray(headers["incarnation"]).view("<i8")

    def _is_stale(self, name: bytes, value: bytes, incarnation: int | None) -> bool:
        """Whether a row that cannot be read is of an incarnation that does not count, and so need not be.

        raises StateCorrupted  it would have to be
        """
        if not _are_utf8([name]).all():
            raise StateCorrupted("a saved row's stream has a name that is not UTF-8", fix=START_OVER)
        if len(value) < HEADER.itemsize:
            raise StateCorrupted("a saved row is shorter than its header", fix=START_OVER)
        (header,) = np.frombuffer(value[: HEADER.itemsize], HEADER)
        if header["version"] != VERSION:
            raise StateCorrupted(f"a saved row has version {header['version']}, which this version does not know", fix=NEWER)
        if int.from_bytes(header["incarnation"].tobytes(), "little", signed=True) != incarnation:
            return True
        if int(header["layout"]) not in self._written:
            raise StateCorrupted(f"saved rows, such as that of {name.decode()}, have a layout that is not written down", fix=START_OVER)
        raise StateCorrupted("a saved row is not as long as its layout says", fix=START_OVER)


def _are_utf8(names: Sequence[bytes]) -> NDArray[np.bool_]:
    """bool[R] whether names can be a stream's."""
    try:
        b"\n".join(names).decode()
    except UnicodeDecodeError:
        return np.array([name.decode(errors="replace").encode() == name for name in names], bool)
    return np.ones(len(names), bool)
