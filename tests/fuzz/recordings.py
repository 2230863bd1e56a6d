"""Files that nobody prepared: a good file of a random kind, spoilt in random ways. `python -m tests.fuzz.recordings --files 20000`

Whatever a file holds, it is read, or refused with an error that says what to do. Of a file that is read, every line is accounted for.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from detector.adapters.recordings.reader import read_recording
from detector.config import FileInput
from detector.errors import ConfigError, DataError

FORMATS = (
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S",
    "%d/%m/%Y %H:%M",
    "%d.%m.%Y %H:%M:%S",
    "%m/%d/%Y %I:%M:%S %p",
    "%d-%b-%y %H:%M",
    "%Y%m%d%H%M",
)
JUNK = (
    "",
    "NaN",
    "No Data",
    "?",
    "-",
    "1e999",
    "x",
    "1,5",
    "1.234,5",
    '"',
    "''",
    "\t",
    "°C",
    "31/02/2026",
    "-200",
    "0x10",
    "١٢",
    "\x00",
    "#",
    "=1+1",
    "true",
)
SEPARATORS = (",", ";", "\t", "|")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252")


def good_file(draw: random.Random) -> tuple[list[str], str]:
    """Lines of a good file, its header first, and its separator."""
    separator = draw.choice(SEPARATORS)
    layout, count = draw.choice(FORMATS), draw.randrange(3, 60)
    channels = draw.randrange(1, 5)
    has_stream, is_apart = draw.random() < 0.4, draw.random() < 0.2
    decimal = "," if separator != "," and draw.random() < 0.4 else "."
    names = (["Date", "Time"] if is_apart else [draw.choice(("time", "Timestamp", "date", "Zeit"))]) + (["machineID"] if has_stream else [])
    lines = [separator.join([*names, *(f"c{k} (°C)" for k in range(channels))])]
    start = datetime(2026, draw.randrange(1, 13), draw.randrange(1, 28), tzinfo=UTC)
    for row in range(count):
        at = start + timedelta(minutes=row)
        moment = [at.strftime("%Y-%m-%d"), at.strftime("%H:%M:%S")] if is_apart else [at.strftime(layout)]
        values = [f"{draw.gauss(20, 2):.2f}".replace(".", decimal) for _ in range(channels)]
        lines.append(separator.join([*moment, *([f"m{row % 2}"] if has_stream else []), *values]))
    return lines, separator


def spoilt(draw: random.Random, lines: list[str], separator: str) -> list[str]:
    """A few things happen to the lines."""
    lines = list(lines)
    for _ in range(draw.randrange(0, 5)):
        at = draw.randrange(len(lines))
        match draw.randrange(9):
            case 0:
                cells = lines[at].split(separator)
                cells[draw.randrange(len(cells))] = draw.choice(JUNK)
                lines[at] = separator.join(cells)
            case 1:
                lines[at] = lines[at][: draw.randrange(len(lines[at]) + 1)]
            case 2:
                lines.insert(
                    at, draw.choice(("", separator * lines[0].count(separator), "# note", "Report of today", separator.join(["x"] * 3)))
                )
            case 3:
                lines[1:] = reversed(lines[1:])
            case 4:
                lines.insert(at, lines[0])
            case 5:
                lines.append(lines[draw.randrange(len(lines))])
            case 6:
                column = draw.randrange(lines[0].count(separator) + 1)
                text = draw.choice(JUNK)
                lines = [
                    separator.join(text if place == column else cell for place, cell in enumerate(line.split(separator))) for line in lines
                ]
            case 7:
                del lines[at]
            case _:
                lines[at] = lines[at] + separator + draw.choice(JUNK)
        lines = lines or [""]
    return lines


def check(draw: random.Random, path: Path, *, whole_bytes: bool) -> str:
    """Read one file; returns what became of it. raises AssertionError  a line is not accounted for"""
    lines, separator = good_file(draw)
    lines = spoilt(draw, lines, separator)
    data = ("\n".join(lines) + "\n" * draw.randrange(2)).encode(draw.choice(ENCODINGS), "replace")
    if whole_bytes:
        spoiled = bytearray(data)
        for _ in range(draw.randrange(1, 8)):
            if spoiled:
                spoiled[draw.randrange(len(spoiled))] = draw.randrange(256)
        data = bytes(spoiled)
    path.write_bytes(data)
    options = (
        FileInput(missing_values=(-200.0, "x")) if draw.random() < 0.2 else FileInput(every_s=60.0) if draw.random() < 0.1 else FileInput()
    )
    try:
        recording = read_recording(path, options)
    except (DataError, ConfigError) as error:
        if not error.fix:
            raise AssertionError(f"{error} has no fix") from error
        return "refused: " + str(error).split(": ", 1)[-1][:40]
    told = recording.understanding
    if not whole_bytes and not any('"' in line or "\x00" in line for line in lines):
        there = sum(bool(line.strip(separator + " \t")) for line in lines)
        accounted = len(recording) + recording.rejected + sum(told.lines.values()) + ("without a header" not in told.file)
        blank = told.lines.get("blank", 0)  # some of them hold text in columns that are left
        assert accounted - blank <= there <= accounted, (
            f"{there} lines, {accounted} accounted for: {told.lines}, {recording.rejected} rejected, {len(recording)} read"
        )
    return "read"


def main() -> int:
    """Read many; returns 1 if one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    found: Counter[str] = Counter()
    began_s, failures = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(asked.files):
            draw = random.Random(f"{asked.seed}/{number}")
            try:
                found[check(draw, Path(folder) / "plant.csv", whole_bytes=number % 4 == 3)] += 1
            except Exception:  # noqa: BLE001 - each is a finding
                failures += 1
                if failures <= 5:
                    print(f"file {number} of seed {asked.seed}:", file=sys.stderr)
                    traceback.print_exc()
    for what, count in found.most_common(15):
        print(f"{count:>8,}  {what}")
    print(f"{asked.files:,} files, {failures} failures, {time.monotonic() - began_s:.0f} s")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
