"""What one cell of a text file is: a number, a time, or a word for a value that is missing."""

from __future__ import annotations

import re

NUMBER = r"[+-]?(?:\d+(?:[.,' \u00a0\u202f]\d+)*[.,]?|[.,]\d+)(?:[eE][+-]?\d+)?"
IS_NUMBER = re.compile(NUMBER)
MISSING_WORDS = frozenset(
    (
        *("", "nan", "na", "n/a", "#n/a", "null", "<null>", "none", "nil", "-", "--", "---", "?", ".", "*", "\\n"),
        *("inf", "-inf", "+inf", "infinity", "-infinity", "#value!", "#div/0!", "#ref!"),
        *("unavailable", "not available", "unknown", "undefined", "missing", "no data", "nodata", "no reading", "void"),
        *("error", "bad", "invalid", "fault", "offline"),
    )
)
"""What people and programs write for a value that is not there, in lower case."""
LOOKS_LIKE_TIME = re.compile(
    r"(?:[A-Za-z]{3,9},?\s+)?(?:\d{1,4}[-/. ](?:\d{1,2}|[A-Za-z]{3,9})\.?,?[-/. ]\d{1,4}|[A-Za-z]{3,9}\.?\s+\d{1,2},?\s+\d{4})"
    r"(?:[T ,:_-]+\d{1,2}.*)?"
    r"|\d{1,2}[:.h]\d{2}(?:[:.]\d{2}(?:[.,]\d+)?)?\s*(?:[AaPp]\.?[Mm]\.?)?"
    r"|\d{8}[T_]\d{4,6}Z?"
)


def is_missing_word(cell: str) -> bool:
    """Whether a cell says that a value is not there."""
    return cell.strip().lower() in MISSING_WORDS


def is_number(cell: str) -> bool:
    """Whether a cell is a number in some way of writing it."""
    return IS_NUMBER.fullmatch(cell.strip()) is not None


def is_time(cell: str) -> bool:
    """Whether a cell is written like a date, a clock, or both."""
    return LOOKS_LIKE_TIME.fullmatch(cell.strip()) is not None
