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
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

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


Left: TypeAlias = Callable[[Path, str], None]
"""Told of a file that is no labelled recording, and why."""


def ignore_left(path: Path, reason: str) -> None:
    """Nobody asks."""


def read_labelled(folder: Path, on_left: Left = ignore_left) -> list[Series]:
    """All labelled recordings of a folder, which is a collection or holds some.

    raises DataError  there are none
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}", fix="name a folder of labelled recordings; `detector evaluate --help` says which")
    left: dict[Path, str] = {}
    found = _read(folder, left.__setitem__)
    if not found:
        found = [each for path in sorted(folder.iterdir()) if path.is_dir() for each in _read(path, left.__setitem__)]
    if not found:
        why = "".join(f"; {path.name}: {reason}" for path, reason in list(left.items())[:3])
        raise DataError(f"{folder} holds no labelled recordings{why}", fix="`detector evaluate --help` says which files are understood")
    for path, reason in left.items():
        on_left(path, reason)
    return found


def _read(folder: Path, on_left: Left) -> list[Series]:
    """The recordings of one collection. A file that cannot be read costs itself."""
    found = []
    for path, read in _files(folder):
        try:
            series = read()
        except (OSError, ValueError, KeyError, pa.ArrowException, zipfile.BadZipFile) as error:
            on_left(path, f"it cannot be read: {' '.join(str(error).split())[:200]}")
            continue
        if isinstance(series, str):
            on_left(path, series)
        else:
            found.append(series)
    return found


Read: TypeAlias = Callable[[], Series | str]
"""Reads a series, or says why a file holds none."""


def _files(folder: Path) -> Iterator[tuple[Path, Read]]:
    if (folder / NAB_WINDOWS).exists():
        yield from _nab(folder)
    elif (folder / "d00.npz").exists():
        yield from _tennessee(folder)
    elif arrays := sorted(folder.glob("*.npz"), key=_natural):
        yield from ((path, partial(_arrays, folder.name, path)) for path in arrays)
    else:
        paths = sorted(folder.glob("*/*.csv"), key=lambda path: (path.parent.name, _natural(path)))
        yield from ((path, partial(_skab, folder.name, path)) for path in paths)


def _natural(path: Path) -> list[str | int]:
    """valve 2 before valve 10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path.stem)]


def _arrays(collection: str, path: Path) -> Series | str:
    with np.load(path) as file:
        if "label" not in file:
            return "no array `label`"
        label = file["label"].astype(bool)
        if "train" in file:
            return Series(collection, path.stem, _columns(file["train"]), _columns(file["test"]), label)
        x, first = _columns(file["x"]), len(label) // 5
        ignored = file["ignored"].astype(bool)[first:] if "ignored" in file else None
        return Series(collection, path.stem, x[:first], x[first:], label[first:], ignored)


def _tennessee(folder: Path) -> Iterator[tuple[Path, Read]]:
    def read(path: Path) -> Series:
        with np.load(folder / "d00.npz") as file:
            train = _columns(file["x"])
        with np.load(path) as file:
            test = _columns(file["x"])
        name = path.stem.removesuffix("_te")
        label = np.arange(len(test)) >= (TEP_FAULT_START if name != "d00" else len(test))
        return Series(folder.name, name, train, test, label)

    yield from ((path, partial(read, path)) for path in sorted(folder.glob("d*_te.npz")))


def _nab(folder: Path) -> Iterator[tuple[Path, Read]]:
    def read(name: str, limits: Sequence[Sequence[str]]) -> Series:
        table = pa_csv.read_csv(folder / "data" / name)
        times = table["timestamp"].to_numpy()
        label = np.zeros(len(times), bool)
        for first_time, last_time in np.array(limits, times.dtype).reshape(-1, 2):
            label |= (times >= first_time) & (times <= last_time)
        first, value = probation(len(times)), _channels(table, ["value"])
        return Series(folder.name, name.removesuffix(".csv"), value[:first], value[first:], label[first:])

    try:
        windows = json.loads((folder / NAB_WINDOWS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / NAB_WINDOWS} cannot be read: {error}", fix="copy NAB's folder `labels` again") from None
    yield from ((folder / "data" / name, partial(read, name, limits)) for name, limits in sorted(windows.items()))


def _skab(collection: str, path: Path) -> Series | str:
    table = pa_csv.read_csv(path, parse_options=pa_csv.ParseOptions(delimiter=";"))
    if "anomaly" not in table.column_names:
        return "no column `anomaly`"
    value = _channels(table, [name for name in table.column_names if name not in SKAB_OTHERS])
    label = _channels(table, ["anomaly"])[:, 0] > 0
    first = SKAB_TRAIN_READINGS
    return Series(collection, f"{path.parent.name}-{path.stem}", value[:first], value[first:], label[first:])


def _channels(table: pa.Table, names: Sequence[str]) -> F4:
    """Columns of numbers -> f4[T, D]."""
    return np.stack([table[name].to_numpy() for name in names], axis=1).astype(np.float32)


def _columns(array: NDArray[np.floating]) -> F4:
    """[T] or [T, D] -> f4[T, D]."""
    return np.ascontiguousarray(array.reshape(len(array), -1), np.float32)
