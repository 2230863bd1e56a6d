"""How the messages of a topic spell dotted paths: as one key, by nested objects, or by JSON inside text. The fast path reads one spelling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise, takewhile
from operator import itemgetter

from detector.codec.json_values import ARRAY, TEXT, Object, Route, Step, array_of, find_route, kind_of


@dataclass(frozen=True, slots=True)
class Spelling:
    """What one message shows.

    routes      by dotted path, for the paths whose value is there
    has_texts   whether text stands where a number may stand
    """

    routes: Mapping[str, Route]
    has_texts: bool


def spelling_of(message: Object, paths: Iterable[str], numbers: frozenset[str]) -> Spelling:
    """How `message` spells `paths`; `numbers` are those of numbers or of arrays of numbers. raises Unreadable"""
    routes = {}
    has_texts = False
    for path in paths:
        raw, route = find_route(message, path)
        if raw is None:
            continue
        routes[path] = route
        if path in numbers and not has_texts:
            entries = array_of(raw, path) if kind_of(raw) == ARRAY else [raw]
            has_texts = any(kind_of(entry) == TEXT for entry in entries)
    return Spelling(routes, has_texts)


def likely_route(path: str, known: Mapping[str, Route]) -> Route:
    """A guess how a path is spelled where others are spelled as `known` says; empty if none of them is like it."""
    parts = path.split(".")
    shared, route = max(((_shared(parts, other.split(".")), route) for other, route in known.items()), key=itemgetter(0), default=(0, ()))
    if not shared:
        return ()
    ends = list(accumulate(step.key.count(".") + 1 for step in route))
    is_text = {end: step.is_text for end, step in zip(ends, route, strict=True) if end <= shared}
    if len(route) == ends[-1]:
        is_text |= dict.fromkeys(range(shared + 1, len(parts)), False)
    return _cut(parts, is_text)


def nested_route(path: str) -> Route:
    """The route through one object per part of a path."""
    parts = path.split(".")
    return _cut(parts, dict.fromkeys(range(1, len(parts)), False))


def _cut(parts: list[str], is_text: Mapping[int, bool]) -> Route:
    """The route whose keys, but for the last, end after so many parts."""
    cuts = [0, *sorted(is_text), len(parts)]
    return tuple(Step(".".join(parts[start:end]), is_text.get(end, False)) for start, end in pairwise(cuts))


def _shared(parts: list[str], others: list[str]) -> int:
    """With how many of the same parts both begin, without the last part of either."""
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(parts[:-1], others[:-1], strict=False)))
