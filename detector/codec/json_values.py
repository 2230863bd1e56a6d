"""JSON values as they stand in a message, undecoded, and how a dotted path finds one. For the slow path.

Python's `json.dumps` writes NaN, Infinity and -Infinity, which JSON does not have. A text that holds them is read once more with numbers in
their place that no double holds (`BARE`). The fast path refuses such numbers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeAlias, TypeVar

import msgspec

from detector.codec.event_time import shown
from detector.codec.reading_format import Unreadable

Object: TypeAlias = dict[str, msgspec.Raw]
T = TypeVar("T")

TEXT, TRUE, FALSE, NULL, OBJECT, ARRAY = b'"tfn{['  # the kind of a JSON value by its first byte
BLANKS = " \t\n\r"
BARE = {b"8e88888": "NaN", b"9e99999": "Infinity", b"-9e99999": "-Infinity"}
MAYBE_ABSENT = frozenset({NULL, *(number[0] for number in BARE)})
_IN_PLACE_OF = {text.encode(): number for number, text in BARE.items()}
# Texts are consumed whole, to their end even where no quote ends them: no text is looked at twice.
_TEXT_OR_BARE = re.compile(rb'(?s)"[^"\\]*+(?:\\.[^"\\]*+)*+"?|(?<![\w.+-])(NaN|-?Infinity)(?![\w.+-]|\s*:)')
# Only for the reason: the decoder's error names a byte, not a field.
_NOT_A_NUMBER = re.compile(rb'"((?:[^"\\]|\\.){0,200})"\s*:\s*(?:\[[^\[\]{}"]*)?(-?(?:nan|inf))\b')

_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


class Step(NamedTuple):
    """A key on the way to a value. is_text: the key's value is text, and the next key stands in the JSON object that the text holds."""

    key: str
    is_text: bool = False


Route: TypeAlias = tuple[Step, ...]


def find(inner: Object, path: str) -> msgspec.Raw | None:
    """The value at a dotted path, null included; None if it is absent.

    raises Unreadable  it is absent, and something on the way is neither an object nor text that holds one
    """
    raw = inner.get(path)
    if raw is not None or "." not in path:
        return raw
    return find_route(inner, path)[0]


def find_route(inner: Object, path: str) -> tuple[msgspec.Raw | None, Route]:
    """As `find`, with the route to the value; the route is empty if the value is absent."""
    trail: list[Step] = []
    wrong: list[Unreadable] = []
    raw = _search(inner, path, trail, wrong)
    if raw is None and wrong:
        last = wrong[-1]
        last.field = path.removesuffix(last.field).removesuffix(".")
        raise last
    return raw, tuple(reversed(trail))


@cache  # paths come from the configuration: there are few
def splits(path: str) -> tuple[tuple[str, str], ...]:
    """The first key of a dotted path and the rest, in all ways that leave a rest; the longest key first.

    >>> splits("a.b.c")
    (('a.b', 'c'), ('a', 'b.c'))
    """
    parts = path.split(".")
    return tuple((".".join(parts[:cut]), ".".join(parts[cut:])) for cut in range(len(parts) - 1, 0, -1))


def present(raw: msgspec.Raw | None) -> msgspec.Raw | None:
    """The value; None if it is absent, null, or a bare NaN or infinity."""
    if raw is None or (kind_of(raw) in MAYBE_ABSENT and (kind_of(raw) == NULL or bytes(raw) in BARE)):
        return None
    return raw


def has_bare(text: bytes) -> bool:
    """Whether a text may have a bare NaN or infinity."""
    return b"NaN" in text or b"Infinity" in text


def bare_as_text(text: bytes) -> bytes:
    """The text with each bare NaN and infinity in quotes."""
    return _TEXT_OR_BARE.sub(_text_in_place, text)


def kind_of(raw: bytes | msgspec.Raw) -> int:
    """The first byte of a JSON value."""
    return memoryview(raw)[0]


def object_of(raw: bytes | msgspec.Raw, field: str) -> Object:
    """The values by key of a JSON object, or of one that stands in a text. raises Unreadable"""
    return _parsed(_decode_object, raw, field, "an object", b"{")


def array_of(raw: bytes | msgspec.Raw, field: str) -> list[msgspec.Raw]:
    """The entries of a JSON array, or of one that stands in a text. raises Unreadable"""
    return _parsed(_decode_array, raw, field, "an array", b"[")


def text_of(raw: bytes | msgspec.Raw, field: str) -> str:
    """A JSON text. raises Unreadable"""
    return _parsed(_decode_text, raw, field, "text", b"")


def described(raw: bytes | msgspec.Raw) -> str:
    """A JSON value in a few words, for a reason."""
    text = bytes(raw).lstrip()
    kind = text[0]
    if kind in (OBJECT, ARRAY):
        return "an object" if kind == OBJECT else "an array"
    if kind == TEXT:
        return f"text {shown(text[1:-1].decode('utf-8', 'replace'))}"
    if kind in (TRUE, FALSE, NULL):
        return text.decode("ascii", "replace")[:5]
    return f"the number {text[:40].decode('ascii', 'replace')}{'...' if len(text) > 40 else ''}"


def _search(inner: Object, path: str, trail: list[Step], wrong: list[Unreadable]) -> msgspec.Raw | None:
    """The value at `path`. Adds the steps to `trail`, the last one first, and what is no object on the way to `wrong`.

    Each object of the message is entered once at most: two routes to it would spell two paths.
    """
    raw = inner.get(path)
    if raw is not None:
        trail.append(Step(path))
        return raw
    for key, rest in splits(path):
        value = inner.get(key)
        if value is None:
            continue
        below = object_of(value, key) if kind_of(value) == OBJECT else _object_in_text(value, rest, wrong)
        if below is not None:
            found = _search(below, rest, trail, wrong)
            if found is not None:
                trail.append(Step(key, kind_of(value) == TEXT))
                return found
    return None


def _object_in_text(value: msgspec.Raw, rest: str, wrong: list[Unreadable]) -> Object | None:
    """The object that a text holds. Whatever else is not null is added to `wrong`, for now with `rest` as its field."""
    if present(value) is None:
        return None
    try:
        return object_of(value, rest)
    except Unreadable as why:
        why.field = rest
        wrong.append(why)
        return None


def _parsed(decode: Callable[[Any], T], raw: bytes | msgspec.Raw, field: str, expected: str, opening: bytes) -> T:
    try:
        return decode(raw)
    except RecursionError:
        raise Unreadable("TooDeep", "expected a JSON reading, found one nested too deep", field) from None
    except msgspec.ValidationError:
        inside = _json_inside(raw, field) if opening and bytes(raw).lstrip()[0] == TEXT else b""
        if inside[:1] == opening:
            return _parsed(decode, inside, field, expected, b"")
        raise Unreadable("WrongType", f"expected {expected}, found {described(raw)}", field) from None
    except (msgspec.MsgspecError, ValueError) as error:
        text = bytes(raw)
        if has_bare(text):
            numbers = _TEXT_OR_BARE.sub(_number_in_place, text)
            if numbers != text:
                return _parsed(decode, numbers, field, expected, opening)
        token = _NOT_A_NUMBER.search(text) if b"nan" in text or b"inf" in text else None
        if token:
            name = token[1].decode("utf-8", "replace")
            raise Unreadable("MalformedJson", f"expected a number or null, found {token[2].decode()}, which is not JSON", name) from None
        raise Unreadable("MalformedJson", f"expected JSON, found none: {error}", field) from None


def _json_inside(raw: bytes | msgspec.Raw, field: str) -> bytes:
    return text_of(raw, field).lstrip(BLANKS).encode("utf-8")


def _number_in_place(match: re.Match[bytes]) -> bytes:
    return _IN_PLACE_OF[match[1]] if match[1] else match[0]


def _text_in_place(match: re.Match[bytes]) -> bytes:
    return b'"%s"' % match[1] if match[1] else match[0]
