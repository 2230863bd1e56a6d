"""A few thousand of the messages of `tests.fuzz.messages`."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.fuzz.messages import FORMATS, check, new_readers


@pytest.mark.parametrize("number", range(len(FORMATS)))
def test_spoilt_messages_are_read_or_refused_alike_by_both_paths(number: int) -> None:
    reader, names = new_readers()[number]
    became: Counter[str] = Counter()
    for batch in range(12):
        became += check(random.Random(f"{number}/{batch}"), FORMATS[number], reader, names, 30)
    assert became["read"] > 0
    assert became["WrongType"] > 0
    assert became["MalformedJson"] > 0
