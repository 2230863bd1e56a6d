"""A file that appears under its name when it is whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from detector.errors import DataError


class AtomicFile:
    """Where to write until all is written: `partial`, beside the file itself.

    raises DataError  there is no such folder, or what is there is no file
    """

    def __init__(self, path: Path) -> None:
        if not path.parent.is_dir():
            raise DataError(f"cannot write {path}: there is no folder {path.parent}", fix="create it, or choose another file with --out")
        if path.exists() and not path.is_file():
            raise DataError(f"cannot write {path}: it is no file", fix="choose another file with --out")
        self._path = path
        self.partial = path.with_name(path.name + ".partial")

    def refusal(self, error: OSError) -> DataError:
        """What to tell a person when it cannot be opened."""
        return DataError(f"cannot write {self._path}: {error.strerror or error}", fix="choose another file with --out")

    def end(self, *, is_whole: bool) -> None:
        """Give it its name; without `is_whole` remove what was written."""
        if is_whole:
            self.partial.replace(self._path)
        else:
            self.partial.unlink(missing_ok=True)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as a Parquet file.

    raises DataError  the file cannot be written
    """
    file = AtomicFile(path)
    try:
        pq.write_table(table, file.partial)
    except OSError as error:
        raise file.refusal(error) from None
    file.end(is_whole=True)
