"""The JSON messages of a file."""

from __future__ import annotations

from pathlib import Path

import msgspec

from detector.adapters.recordings.files import read_bytes
from detector.errors import DataError
from detector.tables.encoding import to_utf8


def read_lines(path: Path) -> tuple[list[bytes], int]:
    """The messages of a file, one per line, or the entries of the one array that it is; and how many lines are blank.

    raises DataError  the file cannot be read; it holds no message
    """
    text = read_bytes(path)
    if not text.isascii():
        text = to_utf8(text)[0] if text[:2] in (b"\xff\xfe", b"\xfe\xff", b"\xef\xbb") else text
    lines = text.splitlines() if b"\r" in text else text.split(b"\n")
    messages = [line for line in lines if line.strip()]
    if not messages:
        raise DataError(f"{path.name} holds no readings", fix="export it again, with messages")
    first = text.lstrip()[:1]
    is_whole = (first in (b"[", b"{") and not _is_json(messages[0])) or (first == b"[" and len(messages) == 1)
    if is_whole and (entries := _entries(text)):
        return entries, 0
    return messages, len(lines) - len(messages) - (not lines[-1].strip())


def _is_json(line: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(line), dict | list)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return False


def _entries(text: bytes) -> list[bytes] | None:
    """The entries of a file that is one JSON array, or the one object that it is over several lines."""
    try:
        if text.lstrip()[:1] == b"[":
            return [bytes(entry) for entry in msgspec.json.decode(text, type=list[msgspec.Raw])]
        return [msgspec.json.format(text, indent=-1)] if isinstance(msgspec.json.decode(text), dict) else None
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
