"""Which columns of a table name its streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detector.codec.event_time import UNREAD
from detector.tables import names
from detector.tables.table import Table, is_text

REPEATED_SHARE_MAX = 0.01
"""Rows of one stream and time: where there are more, something else tells them apart."""
UNNAMED_VALUES_MAX = 10_000
APART = "it tells apart rows of one time"


@dataclass(frozen=True, slots=True)
class TableStreams:
    """The streams of a table's rows.

    columns  that name them, joined by '/'; () where all rows are of one
    names    of the streams, in order of appearance
    stream   i4[T] index into them; -1: the row names none
    why      in words
    """

    columns: tuple[str, ...]
    names: tuple[str, ...]
    stream: NDArray[np.int32]
    why: str


def find_streams(
    table: Table, time_us: NDArray[np.int64], taken: Sequence[str], stem: str, wanted: Sequence[str] | None = None
) -> TableStreams:
    """The streams of a table.

    time_us  i8[T], UNREAD where a row has none
    taken    columns that are something else
    stem     the file's name without ending: the stream's, where no column names any
    wanted   the columns that name them; None: found
    """
    if wanted is not None:
        return _named(table, tuple(wanted), "as given")
    free = [name for name in table.columns if name not in taken]
    ranked = sorted(
        (rank, name) for name in free if (rank := names.stream_rank(name)) is not None and _may_name(table, name, has_id=rank[1])
    )
    best = [ranked[0][1]] if ranked else []
    repeated = repeated_share(table, best, time_us)
    why = "by its name"
    if repeated > REPEATED_SHARE_MAX:
        others = [name for _, name in ranked[1:]] + [name for name in free if name not in best and _is_category(table, name)]
        for name in dict.fromkeys(others):
            with_it = repeated_share(table, [*best, name], time_us)
            if with_it <= REPEATED_SHARE_MAX or with_it < repeated / 4:
                best, repeated, why = [*best, name], with_it, APART
                if repeated <= REPEATED_SHARE_MAX:
                    break
    if not best:
        return TableStreams((), (stem,), np.zeros(len(table), np.int32), "no column names any: the file's name does")
    return _named(table, tuple(best), why)


def _may_name(table: Table, name: str, *, has_id: bool) -> bool:
    """Whether a column of such a name holds names: text, or whole numbers under a name that says `id`; not another in every row."""
    column = table.columns[name]
    whole = names.words(name)
    numbers = table.numbers(name)
    if numbers is not None:
        is_whole = bool(len(numbers.value)) and not np.isnan(numbers.value).all() and bool((np.nan_to_num(numbers.value) % 1 == 0).all())
        if not (has_id and is_whole and whole not in (["id"], ["uid"], ["name"])):
            return False
    elif not is_text(column):
        return False
    distinct = pc.count_distinct(column).as_py()
    return bool(distinct < len(table) / 2 or len(table) <= 4)


def _is_category(table: Table, name: str) -> bool:
    """Whether a column without a telling name could name streams: text, or few whole numbers, each of many rows."""
    column = table.columns[name]
    distinct = pc.count_distinct(column).as_py()
    if not 1 < distinct <= min(UNNAMED_VALUES_MAX, len(table) / 3):
        return False
    numbers = table.numbers(name)
    if numbers is None:
        return is_text(column)
    value = numbers.value
    return (
        not np.isnan(value).any()
        and bool((value % 1 == 0).all())
        and names.words(name)[-1:] != []
        and names.words(name)[-1] in names.ID_WORDS
    )


def repeated_share(table: Table, columns: Sequence[str], time_us: NDArray[np.int64]) -> float:
    """Share of the rows whose stream has had a row of the same time."""
    there = time_us != UNREAD
    if not there.any():
        return 0.0
    stream = _named(table, tuple(columns), "").stream if columns else np.zeros(len(time_us), np.int32)
    pairs = np.empty(int(there.sum()), [("stream", "<i4"), ("time", "<i8")])
    pairs["stream"], pairs["time"] = stream[there], time_us[there]
    return 1 - len(np.unique(pairs)) / len(pairs)


def _named(table: Table, columns: tuple[str, ...], why: str) -> TableStreams:
    texts = [_as_names(table.columns[name]) for name in columns]
    is_named = np.ones(len(table), np.bool_)
    for text in texts:
        is_named &= pc.not_equal(text, "").to_numpy()
    joined = texts[0] if len(texts) == 1 else pc.binary_join_element_wise(*texts, "/")
    encoded = joined.combine_chunks().dictionary_encode()
    index = encoded.indices.to_numpy().astype(np.int32)
    found = encoded.dictionary.to_pylist()
    kept = np.unique(index[is_named])
    new = np.full(len(found), -1, np.int32)
    new[kept] = np.arange(len(kept), dtype=np.int32)
    return TableStreams(columns, tuple(found[at] for at in kept.tolist()), np.where(is_named, new[index], -1).astype(np.int32), why)


def _as_names(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Names as text: whole numbers without a point."""
    if is_text(column):
        return column
    text = pc.fill_null(pc.cast(column, pa.string()), "")
    return pc.replace_substring_regex(text, r"\.0+$", "") if pa.types.is_floating(column.type) else text
