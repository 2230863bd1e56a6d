"""A file that appears under its name when it is whole, or not at all."""

from __future__ import annotations

from pathlib import Path

from detector.errors import DataError


class WholeFile:
    """Where to write until all is written: `partial`, beside the file itself."""

    def __init__(self, path: Path) -> None:
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
