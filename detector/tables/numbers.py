"""A column of text -> numbers, with every text that is none named and counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from detector.tables.cells import MISSING_WORDS

PLAIN = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
COMMA_IS_DECIMAL = r"^[+-]?(?:\d*,\d{1,2}|\d*,\d{4,}|\d{4,},\d+|0+,\d+|\d{1,3}(?:[.' \x{00a0}\x{202f}]\d{3})+,\d+|\d+,\d+[eE][+-]?\d+)$"
COMMA_IS_GROUP = r"^[+-]?\d{1,3}(?:,\d{3})+\.\d+$|^[+-]?\d{1,3}(?:,\d{3}){2,}$"
COMMA_MAY_BE_BOTH = r"^[+-]?[1-9]\d{0,2},\d{3}$"
DOT_GROUPS = r"^[+-]?\d{1,3}(?:\.\d{3})+(?:,\d*)?$"
GROUPS = r"^[+-]?\d{1,3}(?:[,' \x{00a0}\x{202f}]\d{3})+(?:\.\d*)?$"
WITH_UNIT = r"^(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(?P<unit>[^\d\s.,:/+-][^\d:]{0,9})$"
BOOLEANS = (("true", "false"), ("on", "off"), ("yes", "no"), ("open", "closed"))
"""What stands for 1, and what for 0; the two of one pair only."""
NUMBERS_SHARE_MIN = 0.5
TEXTS_NAMED_MAX = 20
TEXT_CHARACTERS_MAX = 40

Decimal = Literal[".", ","]


@dataclass(frozen=True, slots=True)
class Numbers:
    """A column as numbers.

    value    f8[T], NaN where a cell is empty, or no finite number
    texts    what was there instead of a number, and how often; at most TEXTS_NAMED_MAX of them, then the rest as one
    empty    cells that hold nothing
    is_boolean  1 and 0 stand for words, such as true and false
    unit     that the cells bear, such as °C; empty: none
    decimal  the decimal mark; None where no cell has one
    """

    value: NDArray[np.float64]
    texts: dict[str, int] = field(default_factory=dict)
    empty: int = 0
    is_boolean: bool = False
    unit: str = ""
    decimal: Decimal | None = None


def decimal_mark(texts: pa.ChunkedArray) -> Decimal | None:
    """The decimal mark that a column's commas tell: ',' or '.'; None where they tell nothing."""
    if not pc.any(pc.match_substring(texts, ",")).as_py():
        return None
    if pc.any(pc.match_substring_regex(texts, COMMA_IS_GROUP)).as_py():
        return "."
    return "," if pc.any(pc.match_substring_regex(texts, COMMA_IS_DECIMAL)).as_py() else None


def numbers_in(texts: pa.ChunkedArray, decimal: Decimal = ".") -> Numbers | None:
    """The numbers of a column of text; None where it is mostly other text.

    decimal   the mark where the column itself does not tell: where 1,234 may be a thousand or one and a bit
    """
    is_empty = pc.equal(texts, "")
    empty = pc.sum(is_empty).as_py() or 0
    try:
        value = pc.cast(pc.if_else(is_empty, None, texts), pa.float64())
        as_read = _finite(value)
        return Numbers(as_read, _counted(texts, np.isnan(as_read)), empty, decimal=_dot(texts))
    except pa.ArrowInvalid:
        pass
    if booleans := _booleans(texts, empty):
        return booleans
    own = decimal_mark(texts)
    mark: Decimal = own or decimal
    plain = _with_point(texts, mark)
    is_number = pc.match_substring_regex(plain, PLAIN)
    unit = ""
    if not pc.all(pc.or_(is_number, is_empty)).as_py():
        plain, unit = _without_unit(plain, is_number)
        is_number = pc.match_substring_regex(plain, PLAIN)
    found = pc.sum(is_number).as_py() or 0
    is_word = pc.is_in(pc.utf8_lower(texts), value_set=pa.array(sorted(MISSING_WORDS)))
    others = len(texts) - (pc.sum(pc.or_(is_number, is_word)).as_py() or 0)
    if not found or found <= NUMBERS_SHARE_MIN * (found + others):
        return None
    as_read = _finite(pc.cast(pc.if_else(is_number, plain, None), pa.float64()))
    has_comma = mark == "," and pc.any(pc.match_substring(texts, ",")).as_py()
    return Numbers(as_read, _counted(texts, np.isnan(as_read)), empty, unit=unit, decimal="," if has_comma else _dot(texts))


def _finite(value: pa.ChunkedArray) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = pc.fill_null(value, np.nan).to_numpy()
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _dot(texts: pa.ChunkedArray) -> Decimal | None:
    return "." if pc.any(pc.match_substring(texts, ".")).as_py() else None


def _with_point(texts: pa.ChunkedArray, mark: Decimal) -> pa.ChunkedArray:
    """Numbers without marks between thousands, and with a point before decimals."""
    if mark == ",":
        grouped = pc.replace_substring_regex(texts, r"[.' \x{00a0}\x{202f}]", "")
        texts = pc.if_else(pc.match_substring_regex(texts, DOT_GROUPS), grouped, texts)
        spaced = pc.replace_substring_regex(texts, r"(\d)[' \x{00a0}\x{202f}](\d{3})", r"\1\2")
        return pc.replace_substring(spaced, ",", ".", max_replacements=1)
    grouped = pc.replace_substring_regex(texts, r"[,' \x{00a0}\x{202f}]", "")
    return pc.if_else(pc.match_substring_regex(texts, GROUPS), grouped, texts)


def _without_unit(texts: pa.ChunkedArray, is_number: pa.ChunkedArray) -> tuple[pa.ChunkedArray, str]:
    """Numbers without the unit behind them, where one unit stands behind most."""
    parts = pc.extract_regex(texts, WITH_UNIT)
    units = pc.struct_field(parts, "unit")
    counts = pc.value_counts(units.drop_null()).to_pylist()
    if len(counts) != 1:
        return texts, ""
    with_unit = counts[0]["counts"]
    if with_unit <= (pc.sum(is_number).as_py() or 0):
        return texts, ""
    return pc.coalesce(pc.struct_field(parts, "number"), texts), str(counts[0]["values"]).strip()


def _booleans(texts: pa.ChunkedArray, empty: int) -> Numbers | None:
    """Words of one pair, and others that say that a value is missing."""
    lower = pc.utf8_lower(texts)
    present = set(pc.unique(lower.slice(0, 1_000)).to_pylist()) - MISSING_WORDS
    pair = next((pair for pair in BOOLEANS if present and present <= set(pair)), None)
    if pair is None or not set(pc.unique(lower).to_pylist()) <= {*pair, *MISSING_WORDS}:
        return None
    is_one, is_zero = pc.equal(lower, pair[0]).to_numpy(), pc.equal(lower, pair[1]).to_numpy()
    value = np.where(is_one, 1.0, np.where(is_zero, 0.0, np.nan))
    return Numbers(value, _counted(texts, np.isnan(value)), empty, is_boolean=True)


def _counted(texts: pa.ChunkedArray, is_missing: NDArray[np.bool_]) -> dict[str, int]:
    """What stands where no number is, by how often."""
    if not is_missing.any():
        return {}
    there = texts.filter(pa.array(is_missing))
    there = there.filter(pc.not_equal(there, ""))
    counts = sorted(pc.value_counts(there).to_pylist(), key=lambda entry: (-entry["counts"], entry["values"]))
    named = {entry["values"][:TEXT_CHARACTERS_MAX]: entry["counts"] for entry in counts[:TEXTS_NAMED_MAX]}
    rest = sum(entry["counts"] for entry in counts[TEXTS_NAMED_MAX:])
    return named | ({f"{len(counts) - TEXTS_NAMED_MAX} other texts": rest} if rest else {})
