"""Dotted paths, each with the one way in which messages spell it -> a msgspec struct that reads them from JSON, and their values as columns.

Decoding into a struct of the wanted fields costs 0.2 us per message of 110 bytes, and skips all other fields. Messages that spell a path in
another way are refused: the keys with which that would begin are fields of the struct too, of a type that refuses what stands there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
from typing import Annotated, Any, NamedTuple

import msgspec

from detector.codec.json_values import Route, splits

FLAT_FROM_OBJECTS = 12
"""Rows of more objects are flattened at once: a batch of them would not fit the processor's caches."""


class OverlappingPaths(Exception):
    """These paths cannot be read into one struct: one leads through another, or they ask one field for two types."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """The JSON type of a field, and the value that is used where it is missing."""

    type: Any
    missing: Any


NOTHING = Leaf(Annotated[str, msgspec.Meta(min_length=1, max_length=0)], None)
"""Refuses whatever stands there, null too: it would come before what the extractor reads."""
NULL_ONLY = Leaf(NOTHING.type | None, None)
"""Refuses whatever may lead to the value of a path."""


@dataclass(slots=True)
class Node:
    """A JSON object by key. is_text: it stands in a text."""

    is_text: bool = False
    fields: dict[str, Leaf | Node] = field(default_factory=dict)


class Part(NamedTuple):
    """An object that is decoded for itself: the message, or what stands in a text. outer: of the part that has the text, which `text` gets."""

    outer: int
    text: Callable[[Any], Any]
    read: Callable[[Any], Any]


class FieldExtractor:
    """Reads the fields at `leaves` from JSON objects that spell each path as `routes` says.

    guards    pairs of paths of which the second begins with the first: where the first is more than null, and the second is missing or the
              first is text, the slow path must decide
    rows      messages -> their rows; raises msgspec.MsgspecError, RecursionError or ValueError at one that does not fit, and then goes on
    column    rows -> the values of one path

    Where it gives a row and no guard objects, each value is the one that the path finds, whatever else stands in the message.

    raises OverlappingPaths
    """

    def __init__(self, leaves: Mapping[str, Leaf], routes: Mapping[str, Route]) -> None:
        tree = Node()
        for path, leaf in leaves.items():
            _put(tree, routes[path], leaf)
        self.guards = sorted({(outer, path) for path in leaves for outer in _refuse_others(tree, path)})
        self._parts: list[Part] = []
        self._found: dict[tuple[str, ...], tuple[int, str]] = {}
        self._add_part(tree, (), 0, str)
        found = [self._found[tuple(step.key for step in routes[path])] for path in leaves]
        self._place = {path: place for place, path in enumerate(leaves)}
        self._flat: Callable[[Any], Any] | None = None
        self._columns: list[Callable[[Any], Any]] = [attrgetter(attribute) for _, attribute in found]
        if len(self._parts) > 1:
            self._columns = [_of_part(part, attribute) for part, attribute in found]
        elif len(found) > 1 and _objects(tree) > FLAT_FROM_OBJECTS:
            self._flat = attrgetter(*(attribute for _, attribute in found))
            self._columns = list(map(itemgetter, range(len(found))))

    def rows(self, values: Iterable[bytes]) -> Iterator[Any]:
        """The rows of messages; only `column` knows what they look like."""
        if len(self._parts) > 1:
            return map(self._of_parts, values)
        rows = map(self._parts[0].read, values)
        return rows if self._flat is None else map(self._flat, rows)

    def column(self, rows: Sequence[Any], path: str) -> list[Any]:
        """The values at `path`, one per row."""
        return list(map(self._columns[self._place[path]], rows))

    def _of_parts(self, value: bytes) -> list[Any]:
        """The row of the message, then those of the objects that stand in its texts."""
        rows = [self._parts[0].read(value)]
        for part in self._parts[1:]:
            rows.append(part.read(part.text(rows[part.outer])))
        return rows

    def _add_part(self, node: Node, way: tuple[str, ...], outer: int, text: Callable[[Any], Any]) -> None:
        """The object `node`, which keys lead to, and those in the texts of it."""
        row_type, names, texts = _struct(node)
        here = len(self._parts)
        self._parts.append(Part(outer, text, msgspec.json.Decoder(row_type).decode))
        for keys, attribute in names.items():
            self._found[(*way, *keys)] = (here, attribute)
        for keys, below in texts.items():
            self._add_part(below, (*way, *keys), here, attrgetter(names[keys]))


def _objects(node: Node) -> int:
    return 1 + sum(_objects(below) for below in node.fields.values() if isinstance(below, Node))


def _of_part(part: int, attribute: str) -> Callable[[Any], Any]:
    get = attrgetter(attribute)
    return lambda rows: get(rows[part])


def _put(node: Node, route: Route, leaf: Leaf) -> None:
    *outer, last = route
    for key, is_text in outer:
        below = node.fields.setdefault(key, Node(is_text))
        if not isinstance(below, Node) or below.is_text != is_text:
            raise OverlappingPaths(key)
        node = below
    if node.fields.setdefault(last.key, leaf) is not leaf:
        raise OverlappingPaths(last.key)


def _refuse_others(node: Node, path: str) -> Iterator[str]:
    """Adds fields that refuse the ways to `path` that lead out of the tree. Gives the paths whose values may stand on such a way."""
    if isinstance(node.fields.setdefault(path, NOTHING), Node):
        raise OverlappingPaths(path)
    for key, rest in splits(path):
        below = node.fields.setdefault(key, NULL_ONLY)
        if isinstance(below, Node):
            yield from (f"{key}.{outer}" for outer in _refuse_others(below, rest))
        elif below is not NULL_ONLY:
            yield key


def _struct(node: Node) -> tuple[Any, dict[tuple[str, ...], str], dict[tuple[str, ...], Node]]:
    """A struct for `node`; by keys, the dotted attribute that holds what they lead to; by keys, the objects that stand in texts."""
    fields: list[tuple[str, Any, Any]] = []
    names: dict[tuple[str, ...], str] = {}
    texts: dict[tuple[str, ...], Node] = {}
    rename = {}
    for number, (key, below) in enumerate(node.fields.items()):
        attribute = f"f{number}"
        rename[attribute] = key
        if isinstance(below, Leaf):
            fields.append((attribute, below.type, below.missing))
        elif below.is_text:
            fields.append((attribute, str, "{}"))
            texts[(key,)] = below
        else:
            inner, inner_names, inner_texts = _struct(below)
            fields.append((attribute, inner, inner()))
            names |= {(key, *keys): f"{attribute}.{name}" for keys, name in inner_names.items()}
            texts |= {(key, *keys): each for keys, each in inner_texts.items()}
            continue
        names[(key,)] = attribute
    # Rows hold numbers, texts and other rows, never themselves: the garbage collector need not look at them.
    return msgspec.defstruct("Row", fields, rename=rename, frozen=True, gc=False), names, texts
