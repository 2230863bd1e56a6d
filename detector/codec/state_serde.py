"""Saved state <-> bytes: one row per stream, one checkpoint per partition, the layout of the rows.

A partition's state topic holds, by key:

    stream/NAME   the row of a stream: a header, then its record (`core/stream_state.py`), little-endian
    layout/ID     what records of rows with this layout id hold: JSON, {record_bytes, fields: [[name, type, shape, first byte], ...]}
    checkpoint    where the partition stands: JSON, `Checkpoint`

A row's header names its layout, its incarnation, and the input offset that it stands for: all of the stream's readings before that offset
are in it, none after. A row without a record says that there is no such stream at that offset.
An **incarnation** is the state of a partition from one cold start to the next. Rows of other incarnations do not count.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.core.event_time import Time
from detector.core.state_store import StateStore
from detector.core.stream_state import NEVER, Layout
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

UNKNOWN_VERSION = "run the version that wrote it, or a newer one"
DELETE_STATE = "delete the records of this state topic to start cold; nothing else is lost"
"""Fixes for state that does not read back."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a partition's saved state stands.

    incarnation   of the rows that count, INCARNATION_BYTES bytes
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
    """The checkpoint as JSON, which people can read as well."""
    fields = {
        "version": VERSION,
        "incarnation": checkpoint.incarnation.hex(),
        "fingerprint": checkpoint.fingerprint,
        "log_id": checkpoint.log_id,
        "offset": checkpoint.offset,
        **{name: None if value == NEVER else value for name, value in checkpoint.time._asdict().items()},
        "next_offset": checkpoint.next_offset,
    }
    return json.dumps(fields).encode()


def decode_checkpoint(value: bytes) -> Checkpoint:
    """The checkpoint behind its bytes.

    raises StateCorrupted  this is no checkpoint, or one of an unknown version
    """
    try:
        fields = json.loads(value)
        if fields["version"] != VERSION:
            raise StateCorrupted(
                f"the saved checkpoint has version {fields['version']}, which this version does not know", fix=UNKNOWN_VERSION
            )
        checkpoint = Checkpoint(
            incarnation=bytes.fromhex(fields["incarnation"]),
            fingerprint=str(fields["fingerprint"]),
            offset=int(fields["offset"]),
            time=Time(*(NEVER if fields[name] is None else int(fields[name]) for name in Time._fields)),
            next_offset=int(fields["next_offset"]),
            log_id=str(fields["log_id"]),
        )
        is_in_range = 0 <= checkpoint.offset <= checkpoint.next_offset and max(checkpoint.next_offset, *checkpoint.time) < 2**63
        if len(checkpoint.incarnation) != INCARNATION_BYTES or not is_in_range:
            raise ValueError
        return checkpoint
    except (ValueError, KeyError, TypeError, OverflowError):
        raise StateCorrupted("the saved checkpoint of a partition does not read back", fix=DELETE_STATE) from None


class RowCodec:
    """Rows of the state <-> bytes: a header, and a copy of the record."""

    def __init__(self, layout: Layout) -> None:
        self.layout = json.dumps({"record_bytes": layout.row_bytes, "fields": layout.fields}).encode()
        self.layout_id = zlib.crc32(self.layout)
        self.layout_key = LAYOUT + b"%08x" % self.layout_id
        self.row_bytes = HEADER.itemsize + layout.row_bytes

    def encode(self, store: StateStore, rows: NDArray[np.int64], incarnation: bytes, offset: int) -> list[bytes]:
        """One value per row.

        rows         i8[R] of the store
        incarnation  of the partition's state, INCARNATION_BYTES bytes
        offset       input offset that all rows stand for
        """
        packed = np.empty((len(rows), self.row_bytes), np.uint8)
        packed[:, : HEADER.itemsize] = np.frombuffer(self._header(incarnation, offset, empty=False), np.uint8)
        packed[:, HEADER.itemsize :] = store.records[rows]
        return list(map(np.ndarray.tobytes, packed))

    def empty(self, incarnation: bytes, offset: int) -> bytes:
        """The row of a stream that was evicted."""
        return self._header(incarnation, offset, empty=True)

    def _header(self, incarnation: bytes, offset: int, *, empty: bool) -> bytes:
        return np.array((VERSION, empty, 0, self.layout_id, incarnation, offset), HEADER).tobytes()


@dataclass(frozen=True, slots=True)
class SavedLayout:
    """A layout as it was saved. fields: name -> type, shape and first byte."""

    record_bytes: int
    fields: Mapping[str, tuple[str, tuple[int, ...], int]]

    @staticmethod
    def decode(value: bytes) -> SavedLayout:
        """The layout behind its bytes."""
        saved = json.loads(value)
        return SavedLayout(saved["record_bytes"], {name: (dtype, tuple(shape), at) for name, dtype, shape, at in saved["fields"]})

    def records(self, values: Sequence[bytes], layout: Layout) -> NDArray[np.uint8]:
        """Saved rows, all of this layout, as records of today's: u1[R, row_bytes].

        A field that was not saved, or with another type or shape, is as in a new stream.
        """
        packed = np.frombuffer(b"".join(values), np.uint8).reshape(len(values), -1)[:, HEADER.itemsize :]
        todays = {name: (dtype, shape, at) for name, dtype, shape, at in layout.fields}
        if self.record_bytes == layout.row_bytes and self.fields == todays:
            return packed
        records = np.tile(layout.new.view(np.uint8), (len(values), 1))
        for name, (dtype, shape, at) in todays.items():
            saved = self.fields.get(name)
            if saved is not None and saved[:2] == (dtype, shape):
                start, size = saved[2], np.dtype(dtype).itemsize * math.prod(shape)
                records[:, at : at + size] = packed[:, start : start + size]
        return records
