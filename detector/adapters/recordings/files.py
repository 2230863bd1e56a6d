"""Which kind of file a recording is, and its bytes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from detector.errors import DataError

PARQUET = (".parquet", ".pq")
TEXT = (".csv", ".tsv", ".txt", ".dat", ".log", ".asc", ".tab", ".psv")
JSON_LINES = (".jsonl", ".ndjson", ".json")


def suffix(path: Path) -> str:
    """The ending that tells the kind of file, in lower case; that of a compressed one is passed over."""
    suffixes = [each.lower() for each in path.suffixes if each.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


def is_json(path: Path) -> bool:
    """Whether a recording holds JSON messages."""
    return suffix(path) in JSON_LINES


def read_bytes(path: Path) -> bytes:
    """A file's content, unpacked.

    raises DataError  it cannot be read
    """
    try:
        with path.open("rb") as file:
            is_packed = file.read(2) == b"\x1f\x8b"
        with pa.input_stream(path, compression="gzip" if is_packed else None) as stream:
            return bytes(stream.read())
    except FileNotFoundError:
        raise DataError(f"there is no file {path}") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder", fix="name a file") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} cannot be read: {error.strerror if isinstance(error, OSError) and error.strerror else error}") from None
