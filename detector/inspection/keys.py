"""What the keys of messages are: text, JSON, numbers of Kafka's serializers, records in Confluent's frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from detector.tables import names

EXAMPLES = 3
SCHEMAS_MAX = 5
"""Keys in Confluent's frame are of few schemas; bytes that happen to begin so are of many."""
WORDS = {
    "none": "no message has one",
    "utf8": "text",
    "json": "JSON",
    "long": "8 bytes each: numbers of Kafka's LongSerializer",
    "int": "4 bytes each: numbers of Kafka's IntegerSerializer",
    "framed": "records in Confluent's frame",
    "binary": "bytes that are no text",
}


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What the keys are.

    kind      one of WORDS; as `input.key` has it where it names a stream
    field     of the records in them, that names the stream; None: the whole does
    missing   messages without one
    distinct  different ones
    examples  as a person reads them
    """

    kind: str
    field: str | None
    missing: int
    distinct: int
    examples: tuple[str, ...]

    @property
    def described(self) -> str:
        """In words."""
        if self.kind == "none":
            return WORDS[self.kind]
        missing = f"; {self.missing:,} messages have none" if self.missing else ""
        by = f", by field {self.field!r}" if self.field is not None else ""
        return f"{WORDS[self.kind]}{by}: {self.distinct:,} different, such as {', '.join(self.examples)}{missing}"


def key_facts(keys: Sequence[bytes | None]) -> KeyFacts:
    """What the keys of some messages are."""
    there = [key for key in keys if key]
    distinct = list(dict.fromkeys(there))
    kind = _kind(distinct)
    field = _field(distinct) if kind == "json" else None
    return KeyFacts(kind, field, len(keys) - len(there), len(distinct), tuple(_shown(key, kind) for key in distinct[:EXAMPLES]))


def _kind(keys: Sequence[bytes]) -> str:
    if not keys:
        return "none"
    if all(map(_is_text, keys)):
        return "json" if all(map(_is_json, keys)) else "utf8"
    if all(len(key) > 5 and key[0] == 0 for key in keys):
        schemas = {int.from_bytes(key[1:5], "big") for key in keys}
        if 0 not in schemas and len(schemas) <= SCHEMAS_MAX:
            return "framed"
    lengths = {len(key) for key in keys}
    return "long" if lengths == {8} else "int" if lengths == {4} else "binary"


def _is_text(key: bytes) -> bool:
    try:
        return key.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        return False


def _is_json(key: bytes) -> bool:
    """Whether it is JSON that is no plain text: an object, an array, or text in quotes."""
    return key[:1] in (b"{", b"[", b'"') and _parsed(key) is not None


def _parsed(key: bytes) -> object:
    try:
        return msgspec.json.decode(key)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None


def _field(keys: Sequence[bytes]) -> str | None:
    """The field of JSON records that names the stream; None where they have one field, or are none."""
    records = [record for record in map(_parsed, keys) if isinstance(record, dict)]
    if not records or all(len(record) == 1 for record in records):
        return None
    ranked = sorted((rank, name) for name in records[0] if (rank := names.stream_rank(name)) is not None)
    return ranked[0][1] if ranked else str(next(iter(records[0])))


_SHOW: dict[str, Callable[[bytes], str]] = {
    "long": lambda key: str(int.from_bytes(key, "big", signed=True)),
    "int": lambda key: str(int.from_bytes(key, "big", signed=True)),
    "framed": lambda key: f"schema {int.from_bytes(key[1:5], 'big')}, 0x{key[5:21].hex()}",
    "binary": lambda key: f"0x{key[:16].hex()}",
}


def _shown(key: bytes, kind: str) -> str:
    show = _SHOW.get(kind)
    return show(key) if show is not None else key.decode("utf-8")[:40]
