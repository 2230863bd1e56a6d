"""Bytes of a text file -> UTF-8."""

from __future__ import annotations

import codecs

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
SAMPLE_BYTES = 4_096
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def to_utf8(data: bytes) -> tuple[bytes, str]:
    """The text as UTF-8 without byte order mark, line ends as one line feed; and the name of the encoding that it was in.

    Without a mark it is UTF-16 where every other byte is 0, UTF-8 where it decodes so, and Windows-1252 otherwise, a superset of what
    Latin-1 holds of printable characters.
    """
    for mark, name in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return _lines(data.removeprefix(mark).decode(name, "replace").encode()), name.upper().removesuffix("-LE").removesuffix("-BE")
    if wide := _utf16(data[:SAMPLE_BYTES]):
        return _lines(data.decode(wide, "replace").encode()), "UTF-16"
    if data.isascii():
        return _lines(data), "ASCII"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("utf-8", "replace")
        bad = text.count(REPLACEMENT)
        if sum(not character.isascii() for character in text) > 4 * bad:  # some bytes of a UTF-8 file are damaged
            return _lines(text.encode()), "UTF-8, damaged"
        try:
            return _lines(data.decode("cp1252").encode()), "Windows-1252"
        except UnicodeDecodeError:
            return _lines(data.decode("latin-1").encode()), "Latin-1"
    return _lines(data), "UTF-8"


def _utf16(sample: bytes) -> str | None:
    """UTF-16 without a byte order mark: mostly ASCII, so that every other byte is 0."""
    half = len(sample) // 2
    if half < 4:
        return None
    if sample[1::2].count(0) > 0.7 * half and sample[::2].count(0) < 0.1 * half:
        return "utf-16-le"
    if sample[::2].count(0) > 0.7 * half and sample[1::2].count(0) < 0.1 * half:
        return "utf-16-be"
    return None


def _lines(data: bytes) -> bytes:
    """Line ends of Windows and of old Macs as line feeds."""
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data
