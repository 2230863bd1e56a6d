"""Saved memories: one row per stream, a marker per partition, the layout of the rows. Versioned; old ones stay readable.

A partition's state topic holds, by key:

    stream/NAME   the row of a stream: a header, then its columns, little-endian, in the order of the layout
    layout/ID     what the columns of rows with this layout id are: JSON, [[name, dtype, shape], ...]
    marker        where the partition stands: JSON, `Marker`

A row's header says which layout it has, which era it belongs to, and which input offset it stands for: all of the stream's readings
before that offset are in it, none after. A row without columns says that there is no such stream at that offset.
An **era** is one unbroken memory of a partition, from a cold start on; rows of other eras do not count.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.event_time import NEVER, Time
from detector.core.states import Column, StreamStates
from detector.errors import StateCorrupted

VERSION = 1
MARKER = b"marker"
STREAM, LAYOUT = b"stream/", b"layout/"
ERA_BYTES = 8

HEADER = np.dtype([("version", "u1"), ("empty", "u1"), ("reserved", "<u2"), ("layout", "<u4"), ("era", f"V{ERA_BYTES}"), ("offset", "<i8")])


@dataclass(frozen=True, slots=True)
class Marker:
    """Where a partition's saved memory stands.

    era           of the rows that count
    fingerprint   of the bundle that made them
    offset        input offset from which readings must be judged again: the effect of all before it is in the rows
    time          the partition's time at that offset
    next_offset   input offset that was committed together with this marker
    log_id        of the input's log (`ports.Restored`); empty where it is not known
    """

    era: bytes
    fingerprint: str
    offset: int
    time: Time
    next_offset: int
    log_id: str = ""


def key_of(stream: bytes) -> bytes:
    """The key of a stream's row."""
    return STREAM + stream


def encode_marker(marker: Marker) -> bytes:
    """The marker as JSON, for people as well."""
    time = {name: None if value == NEVER else value for name, value in marker.time._asdict().items()}
    fields = {"version": VERSION, "era": marker.era.hex(), "fingerprint": marker.fingerprint}
    return json.dumps({**fields, "log_id": marker.log_id, "offset": marker.offset, **time, "next_offset": marker.next_offset}).encode()


def decode_marker(value: bytes) -> Marker:
    """The marker behind its bytes.

    raises StateCorrupted  this is no marker, or of a version that is not known
    """
    try:
        fields = json.loads(value)
        if fields["version"] != VERSION:
            raise StateCorrupted(f"the saved marker has version {fields['version']}, which this version does not know", fix=NEWER)
        time = Time(*(NEVER if fields[name] is None else int(fields[name]) for name in Time._fields))
        offsets = int(fields["offset"]), time, int(fields["next_offset"])
        marker = Marker(bytes.fromhex(fields["era"]), str(fields["fingerprint"]), *offsets, str(fields.get("log_id", "")))
        if len(marker.era) != ERA_BYTES or not 0 <= marker.offset <= marker.next_offset or max(marker.next_offset, *time) >= 2**63:
            raise ValueError
        return marker
    except (ValueError, KeyError, TypeError, OverflowError):
        raise StateCorrupted("the saved marker of a partition does not read back", fix=START_OVER) from None


NEWER = "run the version that wrote it, or a newer one"
START_OVER = "delete the records of this state topic to start cold; nothing else is lost"


class RowCodec:
    """Rows of the arena <-> bytes.

    columns   of the arena, in its order
    """

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self._columns = {name: np.dtype(column.dtype).newbyteorder("<") for name, column in columns.items()}
        self._shapes = {name: column.shape for name, column in columns.items()}
        self.layout = json.dumps([[name, dtype.str, list(self._shapes[name])] for name, dtype in self._columns.items()]).encode()
        self.layout_id = zlib.crc32(self.layout)
        self.layout_key = LAYOUT + b"%08x" % self.layout_id
        self.row_bytes = HEADER.itemsize + columns_bytes(json.loads(self.layout))

    def encode(self, states: StreamStates, rows: NDArray[np.int64], era: bytes, offset: int) -> list[bytes]:
        """One value per row.

        rows     i8[R] of the arena
        offset   input offset that they all stand for
        """
        packed = np.empty((len(rows), self.row_bytes), np.uint8)
        packed[:, : HEADER.itemsize] = np.frombuffer(self._header(era, offset, empty=False), np.uint8)
        at = HEADER.itemsize
        for name, dtype in self._columns.items():
            size = columns_bytes([[name, dtype, self._shapes[name]]])
            packed[:, at : at + size] = np.ascontiguousarray(states[name][rows], dtype).view(np.uint8).reshape(len(rows), size)
            at += size
        return list(map(np.ndarray.tobytes, packed))

    def empty(self, era: bytes, offset: int) -> bytes:
        """The row of a stream that is not there any more."""
        return self._header(era, offset, empty=True)

    def _header(self, era: bytes, offset: int, *, empty: bool) -> bytes:
        return np.array((VERSION, empty, 0, self.layout_id, era, offset), HEADER).tobytes()


def columns_bytes(described: Sequence[Sequence[Any]]) -> int:
    """Bytes of one row's columns, as a layout describes them."""
    return sum(np.dtype(dtype).itemsize * math.prod(shape) for _, dtype, shape in described)
