"""What can go wrong, drawn once. A class is named by its remedy, not by its cause.

    DetectorError
    |-- ConfigError       the person changes the configuration; exit 2
    |-- BundleError       the person chooses or trains another model; exit 1
    |-- DataError         the person changes a recording or an option that names its columns; exit 1
    |-- LogUnavailable    back off and retry; nothing was committed
    |-- CommitAborted     discard the state, restore it, go on; only the log knows what was committed
    |-- Fenced            another worker owns these partitions; exit 1
    '-- StateCorrupted    stop; never guess; exit 1

Bad readings are not here: they are dispositions and dead letters (`core.readings.Disposition`).
"""

from __future__ import annotations


class DetectorError(Exception):
    """An error with a remedy. `str(error)` is one sentence for a person; `fix` says what to do about it."""

    exit_code = 1

    def __init__(self, message: str, *, fix: str = "") -> None:
        super().__init__(message)
        self.fix = fix


class ConfigError(DetectorError):
    """The configuration or the command line cannot be used as it is."""

    exit_code = 2


class BundleError(DetectorError):
    """A model bundle is missing, damaged, of an unknown version, or does not fit the configuration."""


class DataError(DetectorError):
    """A recording cannot be read as it is: no time column, no numeric channel, other channels than the model's."""


class LogUnavailable(DetectorError):
    """The log, or the schema registry, cannot be reached now. Retrying the same call later is safe."""


class CommitAborted(DetectorError):
    """A commit failed, or its result is unknown: discard the state and restore it."""


class Fenced(DetectorError):
    """Another worker has taken over; this one must not write again."""


class StateCorrupted(DetectorError):
    """Stored state does not read back as what was written."""
