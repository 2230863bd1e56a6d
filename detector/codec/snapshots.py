"""Saved memories: one row per stream, a checkpoint per partition, the layout of the rows. Versioned; old ones stay readable.

A partition's state topic holds, by key:

    stream/NAME   the row of a stream: a header, then its columns, little-endian, in the order of the layout
    layout/ID     what the columns of rows with this layout id are: JSON, [[name, dtype, shape], ...]
    checkpoint    where the partition stands: JSON, `Checkpoint`

A row's header says which layout it has, which incarnation it belongs to, and which input offset it stands for: all of the stream's readings
before that offset are in it, none after. A row without columns says that there is no such stream at that offset.
An **incarnation** is one unbroken memory of a partition, from a cold start on; rows of other incarnations do not count.
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
CHECKPOINT = b"checkpoint"
STREAM, LAYOUT = b"stream/", b"layout/"
INCARNATION_BYTES = 8

HEADER = np.dtype(
    [
        ("version", "u1"),
        ("empty", "u1"),
        ("reserved", "<u2"),
        ("layout", "<u4"),
        ("incarnation", f"V{INCARNATION_BYTES}"),
        ("offset", "<i8"),
    ]
)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a partition's saved memory stands.

    incarnation   of the rows that count
    fingerprint   of the bundle that made them
    offset        input offset from which readings must be judged again: the effect of all before it is in the rows
    time          the partition's time at that offset
    next_offset   input offset that was committed together with this checkpoint
    log_id        of the input's log (`ports.PartitionPosition`); empty where it is not known
    """

    incarnation: bytes
    fingerprint: str
    offset: int
    time: Time
    next_offset: int
    log_id: str = ""


def key_of(stream: bytes) -> bytes:
    """The key of a stream's row."""
    return STREAM + stream


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The checkpoint as JSON, for people as well."""
    time = {name: None if value == NEVER else value for name, value in checkpoint.time._asdict().items()}
    fields = {"version": VERSION, "incarnation": checkpoint.incarnation.hex(), "fingerprint": checkpoint.fingerprint}
    return json.dumps(
        {**fields, "log_id": checkpoint.log_id, "offset": checkpoint.offset, **time, "next_offset": checkpoint.next_offset}
    ).encode()


def decode_checkpoint(value: bytes) -> Checkpoint:
    """The checkpoint behind its bytes.

    raises StateCorrupted  this is no checkpoint, or of a version that is not known
    """
    try:
        fields = json.loads(value)
        if fields["version"] != VERSION:
            raise StateCorrupted(f"the saved checkpoint has version {fields['version']}, which this version does not know", fix=NEWER)
        time = Time(*(NEVER if fields[name] is None else int(fields[name]) for name in Time._fields))
        offsets = int(fields["offset"]), time, int(fields["next_offset"])
        checkpoint = Checkpoint(bytes.fromhex(fields["incarnation"]), str(fields["fingerprint"]), *offsets, str(fields.get("log_id", "")))
        if (
            len(checkpoint.incarnation) != INCARNATION_BYTES
            or not 0 <= checkpoint.offset <= checkpoint.next_offset
            or max(checkpoint.next_offset, *time) >= 2**63
        ):
            raise ValueError
        return checkpoint
    except (ValueError, KeyError, TypeError, OverflowError):
        raise StateCorrupted("the saved checkpoint of a partition does not read back", fix=START_OVER) from None


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

    def encode(self, states: StreamStates, rows: NDArray[np.int64], incarnation: bytes, offset: int) -> list[bytes]:
        """One value per row.

        rows     i8[R] of the arena
        offset   input offset that they all stand for
        """
        packed = np.empty((len(rows), self.row_bytes), np.uint8)
        packed[:, : HEADER.itemsize] = np.frombuffer(self._header(incarnation, offset, empty=False), np.uint8)
        at = HEADER.itemsize
        for name, dtype in self._columns.items():
            size = columns_bytes([[name, dtype, self._shapes[name]]])
            packed[:, at : at + size] = np.ascontiguousarray(states[name][rows], dtype).view(np.uint8).reshape(len(rows), size)
            at += size
        return list(map(np.ndarray.tobytes, packed))

    def empty(self, incarnation: bytes, offset: int) -> bytes:
        """The row of a stream that is not there any more."""
        return self._header(incarnation, offset, empty=True)

    def _header(self, incarnation: bytes, offset: int, *, empty: bool) -> bytes:
        return np.array((VERSION, empty, 0, self.layout_id, incarnation, offset), HEADER).tobytes()


def columns_bytes(described: Sequence[Sequence[Any]]) -> int:
    """Bytes of one row's columns, as a layout describes them."""
    return sum(np.dtype(dtype).itemsize * math.prod(shape) for _, dtype, shape in described)
