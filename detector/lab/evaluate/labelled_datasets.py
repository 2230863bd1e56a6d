"""Labelled datasets on disk, as series. A collection is recognised by its files, not by its name.

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
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from detector.errors import DataError
from detector.lab.evaluate.nab import probation
from detector.lab.evaluate.series import F4, Series

NAB_WINDOWS = "labels/combined_windows.json"
TEP_FAULT_START = 160
SKAB_TRAIN_READINGS = 400
SKAB_OTHERS = {"datetime", "anomaly", "changepoint"}


def read_labelled(folder: Path) -> list[Series]:
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


def _read(folder: Path) -> list[Series]:
    try:
        return list(_collection(folder))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{folder} cannot be read: {' '.join(str(error).split())[:300]}") from None


def _collection(folder: Path) -> Iterator[Series]:
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


def _arrays(collection: str, path: Path) -> Series | None:
    with np.load(path) as file:
        if "label" not in file:
            return None
        label = file["label"].astype(bool)
        if "train" in file:
            return Series(collection, path.stem, _columns(file["train"]), _columns(file["test"]), label)
        x, first = _columns(file["x"]), len(label) // 5
        ignored = file["ignored"].astype(bool)[first:] if "ignored" in file else None
        return Series(collection, path.stem, x[:first], x[first:], label[first:], ignored)


def _tennessee(folder: Path) -> Iterator[Series]:
    with np.load(folder / "d00.npz") as file:
        train = _columns(file["x"])
    for path in sorted(folder.glob("d*_te.npz")):
        with np.load(path) as file:
            test = _columns(file["x"])
        name = path.stem.removesuffix("_te")
        label = np.arange(len(test)) >= (TEP_FAULT_START if name != "d00" else len(test))
        yield Series(folder.name, name, train, test, label)


def _nab(folder: Path) -> Iterator[Series]:
    windows = json.loads((folder / NAB_WINDOWS).read_text(encoding="utf-8"))
    for name, limits in sorted(windows.items()):
        table = pa_csv.read_csv(folder / "data" / name)
        times = table["timestamp"].to_numpy()
        label = np.zeros(len(times), bool)
        for first_time, last_time in np.array(limits, times.dtype).reshape(-1, 2):
            label |= (times >= first_time) & (times <= last_time)
        first, value = probation(len(times)), _channels(table, ["value"])
        yield Series(folder.name, name.removesuffix(".csv"), value[:first], value[first:], label[first:])


def _skab(folder: Path) -> Iterator[Series]:
    for path in sorted(folder.glob("*/*.csv"), key=lambda path: (path.parent.name, _natural(path))):
        table = pa_csv.read_csv(path, parse_options=pa_csv.ParseOptions(delimiter=";"))
        if "anomaly" not in table.column_names:
            continue  # a run without labels, or something else
        value = _channels(table, [name for name in table.column_names if name not in SKAB_OTHERS])
        label = _channels(table, ["anomaly"])[:, 0] > 0
        first = SKAB_TRAIN_READINGS
        yield Series(folder.name, f"{path.parent.name}-{path.stem}", value[:first], value[first:], label[first:])


def _channels(table: pa.Table, names: Sequence[str]) -> F4:
    """Columns of numbers -> f4[T, D]."""
    return np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float32)


def _columns(array: NDArray[np.floating]) -> F4:
    """[T] or [T, D] -> f4[T, D]."""
    return np.ascontiguousarray(array.reshape(len(array), -1), np.float32)
