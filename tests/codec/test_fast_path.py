"""What the fast path learns, and that it does not learn for ever. That it reads what the slow path reads is tested in `test_readings_agree`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from detector.codec.fast_path import BUILT_MAX, EXTRACTORS_MAX, LESSON_AFTER, FastPath, FastRead
from detector.codec.field_extractor import OverlappingPaths
from detector.codec.reading_format import ReadingFormat
from tests.codec.decoding import T_US, messages


def read(fast: FastPath, *values: Any) -> FastRead:
    return fast.read(messages([json.dumps(value).encode() for value in values], log_time_us=T_US))


def many(value: Any, count: int = LESSON_AFTER) -> list[Any]:
    return [value] * count


def test_formats_that_are_not_covered() -> None:
    for shape in (ReadingFormat(("a",), records_path="r"), ReadingFormat(("a", "t"), event_time="t"), ReadingFormat(("a", "a"))):
        with pytest.raises(OverlappingPaths):
            FastPath(shape)


def test_text_for_a_number_is_learnt_and_forgotten() -> None:
    fast = FastPath(ReadingFormat(("a", "b")))
    assert read(fast, {"a": 1}).left == []
    assert read(fast, *many({"a": "off", "b": "1.5"}, LESSON_AFTER - 1)).left == list(range(LESSON_AFTER - 1))
    found = read(fast, *many({"a": "off", "b": "1.5"}), {"a": 2, "b": True})
    assert (found.left, found.texts) == ([], {(0, "off"): LESSON_AFTER})
    assert [known.has_texts for known in fast._known] == [True, False]
    assert read(fast, {"a": 1}).left == []
    assert [known.has_texts for known in fast._known] == [False, True]


def test_what_is_no_reading_teaches_nothing_and_lessons_become_rare() -> None:
    fast = FastPath(ReadingFormat(("a.b", "a.c"), ("s",)))
    read(fast, {"s": "x", "a": {"b": 1}})
    lessons = []
    lesson = fast._lesson
    fast._lesson = lambda *each: lessons.append(each) or lesson(*each)  # type: ignore[method-assign,func-returns-value]
    for _ in range(100):
        assert len(read(fast, *many({"a.b": 1, "s": None, "a": 3}, 20)).left) == 20
    assert len(lessons) < 10
    assert len(fast._known) == 1


def test_few_extractors_are_kept_and_not_many_are_built() -> None:
    path = "a.b.c.d.e.f.g"
    fast = FastPath(ReadingFormat((path,)))
    for number in range(2 * BUILT_MAX):
        keys = "".join(part + ("/" if number >> place & 1 else ".") for place, part in enumerate(path.split(".")))[:-1].split("/")
        value: Any = 1.5
        for key in reversed(keys):
            value = {key: value}
        found = read(fast, *many(value, 2 * LESSON_AFTER))
        assert sum(len(part.message) for part in found.columns) + len(found.left) == 2 * LESSON_AFTER
        assert len(fast._known) <= EXTRACTORS_MAX
    assert fast._build_left == 0


def test_a_message_that_spells_a_path_twice_is_left() -> None:
    fast = FastPath(ReadingFormat(("a.b",)))
    read(fast, {"a": {"b": 1}})
    for other in ({"a": {"b": 1}, "a.b": 2}, {"a": {"b": 1}, "a.b": None}, {"a.b": 2}, {"a": 5}):
        assert read(fast, other).left == [0]
    assert read(fast, {"a": {"b": 1, "x": 2}, "a.c": 2}).left == []


def test_paths_that_are_not_in_the_first_message_are_expected_beside_the_others() -> None:
    fast = FastPath(ReadingFormat(("d.motor.t", "d.motor.p", "d.other.p.q"), ("m.id",)))
    read(fast, {"m.id": "x", "d": {"motor": {"t": 1}}})
    assert read(fast, {"m.id": "x", "d": {"motor": {"t": 1, "p": 2}, "other": {"p": {"q": 3}}}}).left == []
    literal = FastPath(ReadingFormat(("d.motor.t", "d.motor.p")))
    read(literal, {"d.motor.t": 1})
    assert read(literal, {"d.motor.t": 1, "d.motor.p": 2}).left == []


def test_a_path_that_goes_on_where_another_ends() -> None:
    fast = FastPath(ReadingFormat(("motor", "motor.temp", "motor.temp.max")))
    assert read(fast, {"motor": 1, "motor.temp": 2, "motor.temp.max": 3}).left == []
    assert (
        read(
            fast, {"motor.temp": 2, "motor.temp.max": True}, {"motor": None, "motor.temp.max": 3}, {"motor.temp": 2, "motor.temp.max": 3}
        ).left
        == []
    )
    for wrong in ({"motor": 1}, {"motor": 1, "motor.temp.max": 3}, {"motor": '{"temp": 1}', "motor.temp": 2, "motor.temp.max": 3}):
        assert read(fast, wrong).left == [0]
