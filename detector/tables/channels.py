"""Which columns of a table are channels, and why the others are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detector.tables import dates, names
from detector.tables.recording import ChannelFacts
from detector.tables.table import Table, is_moment, is_text

SENTINELS = frozenset(
    (
        -1.0,
        -9.0,
        -99.0,
        -200.0,
        -999.0,
        -9999.0,
        -99999.0,
        99.0,
        999.0,
        9999.0,
        99999.0,
        999999.0,
        -32768.0,
        32767.0,
        65535.0,
        -99.9,
        -999.9,
    )
)
"""Numbers that are often written for a value that is missing."""
LABELS = (["anomaly"], ["anomalies"], ["changepoint"], ["label"], ["labels"], ["outlier"], ["groundtruth"])
"""Last words of names that labels of benchmarks bear."""
SENTINEL_FAR = 0.5
"""A sentinel lies further from all other values than so many times what 98 % of them span."""
EXAMPLES = 4


def find_channels(table: Table, taken: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Names of the channels, and why each other column is none. taken: columns that are something else"""
    channels: list[str] = []
    left: dict[str, str] = {}
    for name, column in table.columns.items():
        if name in taken:
            continue
        in_file = table.renamed.get(name, name)
        numbers = table.numbers(name)
        if numbers is None:
            left[name] = _no_numbers(column)
        elif not np.isfinite(numbers.value).any():
            left[name] = "it is empty" if not numbers.texts else f"it holds no number but {_quoted(list(numbers.texts))}"
        elif _counts_rows(numbers.value, in_file):
            left[name] = "it counts the rows"
        elif names.words(name)[-1:] in (["uuid"], ["guid"]):
            left[name] = "an id"
        elif names.words(name)[-1:] in LABELS and _is_zero_or_one(numbers.value):
            left[name] = "a label of 0 and 1: it tells what is to be found; name it with --channels if it is a measurement"
        else:
            channels.append(name)
    return channels, left


def why_none(table: Table, name: str) -> str:
    """Why a column is no channel; empty: it is one."""
    return find_channels(replace(table, columns={name: table.columns[name]}), ())[1].get(name, "")


def describe(table: Table, name: str, stream: NDArray[np.int32], at: NDArray[np.intp]) -> ChannelFacts:
    """What a channel holds. stream i4[T]: of each row; at: the rows that are readings"""
    numbers = table.numbers(name)
    assert numbers is not None
    value = numbers.value[at]
    there = value[np.isfinite(value)]
    least, most = (float(there.min()), float(there.max())) if len(there) else (float("nan"), float("nan"))
    return ChannelFacts(
        name,
        _kind(value, stream[at], is_boolean=numbers.is_boolean),
        table.unit(name),
        len(value) - len(there),
        numbers.texts,
        _sentinel(there),
        least,
        most,
    )


def _kind(value: NDArray[np.float64], stream: NDArray[np.int32], *, is_boolean: bool) -> str:
    there = np.isfinite(value)
    if is_boolean:
        return "boolean"
    if not there.any() or (value[there] == value[there][0]).all():
        return "constant"
    steps = np.diff(value[there])[np.diff(stream[there]) == 0]
    if len(steps) > 10 and (steps >= 0).all() and (steps > 0).mean() > 0.5:
        return "counter"
    return "number"


def _sentinel(value: NDArray[np.float64]) -> tuple[float, int] | None:
    """A usual sentinel that occurs again and again, and lies far from everything else."""
    if len(value) < 10:
        return None
    for candidate in (float(value.min()), float(value.max())):
        count = int((value == candidate).sum())
        rest = value[value != candidate]
        if candidate not in SENTINELS or count < 2 or not len(rest):
            continue
        gap = float(rest.min()) - candidate if candidate < rest.min() else candidate - float(rest.max())
        spread = float(np.percentile(rest, 99) - np.percentile(rest, 1))
        if gap > max(SENTINEL_FAR * spread, 1.0):
            return candidate, count
    return None


def _is_zero_or_one(value: NDArray[np.float64]) -> bool:
    return bool(np.isin(value[np.isfinite(value)], (0.0, 1.0)).all())


def _counts_rows(value: NDArray[np.float64], name: str) -> bool:
    """Whether a column counts the rows, from 0 or 1, one by one, under no name or one of a counter's."""
    if not names.is_row_number(name) or len(value) < 2:
        return False
    steps = np.diff(value[np.isfinite(value)])
    return bool(len(steps)) and bool((np.abs(steps) == 1).mean() > 0.9) and bool((value % 1 == 0)[np.isfinite(value)].all())


def _no_numbers(column: pa.ChunkedArray) -> str:
    if is_moment(column):
        return "another time"
    if not is_text(column):
        return f"it holds {column.type}"
    there = column.filter(pc.not_equal(column, ""))
    if not len(there):
        return "it is empty"
    if dates.are_clocks(there) or dates.read_moments(there.slice(0, 1_000)).share > 0.5:
        return "another time"
    distinct = pc.unique(there.slice(0, 100_000)).to_pylist()
    if len(distinct) > 0.9 * min(len(there), 100_000) and len(there) > 10:
        return f"text, another in every row: {_quoted(distinct)}"
    return f"text: {_quoted(distinct)}"


def _quoted(texts: Sequence[str]) -> str:
    shown = ", ".join(text[:24] for text in texts[:EXAMPLES])
    return shown + (", ..." if len(texts) > EXAMPLES else "")
