"""Labelled recordings on disk -> what detectors are compared on. Collections are recognised by their files, not by their names.

| files                                                              | as published by                       | training part                 |
|--------------------------------------------------------------------|---------------------------------------|-------------------------------|
| `labels/combined_windows.json`, `data/*/*.csv`                     | NAB                                   | probation: 15 %, at most 750  |
| `*.npz` with `train`, `test`, `label`                              | SMD, ASD, SMAP, MSL                   | `train`                       |
| `*.npz` with `x`, `label` (and `ignored`)                          | MGAB                                  | the first fifth               |
| `d00.npz`, `d*_te.npz` with `x`; a fault starts at reading 160     | Tennessee Eastman, Braatz' files      | `d00`                         |
| `*/*.csv` with a column `anomaly`                                  | SKAB                                  | the first 400 readings        |
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.adapters.recordings.reader import read_recording
from detector.errors import DataError

F4 = NDArray[np.float32]
NAB_WINDOWS = "labels/combined_windows.json"
NAB_PROBATION_SHARE, NAB_PROBATION_MAX = 0.15, 750
TEP_FAULT_START = 160
SKAB_TRAIN_READINGS = 400
SKAB_OTHERS = {"anomaly", "changepoint"}


class Labelled(NamedTuple):
    """A recording with labels; `lab.evaluate.series.Series` says what each is."""

    collection: str
    name: str
    train: F4
    test: F4
    label: NDArray[np.bool_]
    ignored: NDArray[np.bool_] | None = None


def read_benchmark(folder: Path) -> list[Labelled]:
    """All labelled recordings of a folder, which is a collection or holds some.

    raises DataError  there are none, or one of them cannot be read
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}")
    found = _read(folder)
    if not found:
        found = [each for path in sorted(folder.iterdir()) if path.is_dir() for each in _read(path)]
    if not found:
        raise DataError(f"{folder} holds no labelled recordings", fix="`detector evaluate --help` says which files are understood")
    return found


def _read(folder: Path) -> list[Labelled]:
    try:
        return list(_collection(folder))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{folder} cannot be read: {' '.join(str(error).split())[:300]}") from None


def _collection(folder: Path) -> Iterator[Labelled]:
    if (folder / NAB_WINDOWS).exists():
        yield from _nab(folder)
    elif (folder / "d00.npz").exists():
        yield from _tennessee(folder)
    elif arrays := sorted(folder.glob("*.npz"), key=_natural):
        yield from (found for path in arrays if (found := _arrays(folder.name, path)) is not None)
    else:
        yield from _skab(folder)


def _natural(path: Path) -> list[str | int]:
    """valve 2 before valve 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]


def _arrays(collection: str, path: Path) -> Labelled | None:
    with np.load(path) as file:
        if "label" not in file:
            return None
        label = file["label"].astype(bool)
        if "train" in file:
            return Labelled(collection, path.stem, _columns(file["train"]), _columns(file["test"]), label)
        x, first = _columns(file["x"]), len(label) // 5
        ignored = file["ignored"].astype(bool)[first:] if "ignored" in file else None
        return Labelled(collection, path.stem, x[:first], x[first:], label[first:], ignored)


def _tennessee(folder: Path) -> Iterator[Labelled]:
    with np.load(folder / "d00.npz") as file:
        train = _columns(file["x"])
    for path in sorted(folder.glob("d*_te.npz")):
        with np.load(path) as file:
            test = _columns(file["x"])
        name = path.stem.removesuffix("_te")
        label = np.arange(len(test)) >= (TEP_FAULT_START if name != "d00" else len(test))
        yield Labelled(folder.name, name, train, test, label)


def _nab(folder: Path) -> Iterator[Labelled]:
    windows = json.loads((folder / NAB_WINDOWS).read_text(encoding="utf-8"))
    for name, limits in sorted(windows.items()):
        recording = read_recording(folder / "data" / name, time="timestamp", channels=["value"])
        times = recording.event_time_us
        bounds_us = np.array(limits, "datetime64[us]").astype(np.int64).reshape(-1, 2)
        label = np.zeros(len(times), bool)
        for first_us, last_us in bounds_us.tolist():
            label |= (times >= first_us) & (times <= last_us)
        first = min(int(NAB_PROBATION_SHARE * len(times)), NAB_PROBATION_MAX)
        value = recording.value.astype(np.float32)
        yield Labelled(folder.name, name.removesuffix(".csv"), value[:first], value[first:], label[first:])


def _skab(folder: Path) -> Iterator[Labelled]:
    for path in sorted(folder.glob("*/*.csv"), key=lambda path: (path.parent.name, _natural(path))):
        with path.open(encoding="utf-8") as file:
            if "anomaly" not in re.split(r"[;,\t]", file.readline().strip()):
                continue  # a run without labels, or something else
        recording = read_recording(path)
        channels = [number for number, name in enumerate(recording.channels) if name not in SKAB_OTHERS]
        value = recording.value[:, channels].astype(np.float32)
        label = recording.value[:, recording.channels.index("anomaly")] > 0
        first = SKAB_TRAIN_READINGS
        yield Labelled(folder.name, f"{path.parent.name}-{path.stem}", value[:first], value[first:], label[first:])


def _columns(array: NDArray[np.floating]) -> F4:
    """[T] or [T, D] -> f4[T, D]."""
    return np.ascontiguousarray(array.reshape(len(array), -1), np.float32)
