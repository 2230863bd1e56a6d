"""How the messages of a topic spell dotted paths: as one key, by nested objects, or by JSON inside text. The fast path reads one spelling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate

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
    """A guess how a path is spelled, from the known route of the path that is most like it; nested all the way if none is like it."""
    parts = path.split(".")
    shared, route = max(
        ((_shared(parts, other.split(".")), route) for other, route in known.items()), key=lambda each: each[0], default=(0, ())
    )
    ends = list(accumulate(step.key.count(".") + 1 for step in route))
    cuts = {end: step.is_text for end, step in zip(ends[:-1], route[:-1], strict=True) if end <= shared}
    if not route or len(route) == ends[-1]:  # nested all the way
        cuts |= {end: False for end in range(shared + 1, len(parts))}
        if not route:
            cuts = dict.fromkeys(range(1, len(parts)), False)
    starts = [0, *sorted(cuts)]
    steps = [Step(".".join(parts[start:end]), cuts[end]) for start, end in zip(starts, starts[1:], strict=False)]
    return (*steps, Step(".".join(parts[starts[-1] :])))


def _shared(parts: list[str], others: list[str]) -> int:
    """How many parts both begin with; not the last of either, which is no way to something else."""
    count = 0
    for part, other in zip(parts[:-1], others[:-1], strict=False):
        if part != other:
            break
        count += 1
    return count
