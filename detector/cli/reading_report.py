"""What a command took of the readings that it was given, and what it left: in words for a person, and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from detector.codec.field_names import nearest
from detector.ports import Observer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from detector.codec.readings import Decoded
    from detector.core.batch_result import BatchResult
    from detector.tables.recording import Understanding

NOT_JUDGED_SHARE_MAX = 0.01
"""A larger share of readings that are not judged is a warning."""
NAMED_MAX = 12
WORDS = {
    "late": "older than the newest of their stream",
    "duplicate": "of a stream and time that had a reading",
    "empty": "without any of the channels",
    "invalid": "unreadable",
    "short": "in stretches of fewer than 32",
}
"""What became of readings that were not judged, in words for a person."""


@dataclass(slots=True)
class ReadingReport:
    """Adds up what became of readings.

    name           of the recording or topic
    channels       that are judged
    understanding  how the recording was read; None: a topic
    counts         readings by what became of them: scored, warmup, used; and those of WORDS
    reasons        why readings could not be read, and how often
    present        per channel, how many readings have a value of it
    texts          by number of a channel and text: how often that text stood where a number should
    partial_duplicates   readings with the stream and time of another that have some of the channels
    """

    name: str
    channels: Sequence[str]
    understanding: Understanding | None = None
    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    texts: Counter[tuple[int, str]] = field(default_factory=Counter)
    partial_duplicates: int = 0
    present: Counter[str] = field(default_factory=Counter)
    streams: int = 0
    first_us: int | None = None
    last_us: int | None = None

    def took(self, event_time_us: NDArray[np.int64], value: NDArray[np.floating[Any]]) -> None:
        """Add the times and values of readings: i8[N], [N, D]."""
        import numpy as np

        if not len(event_time_us):
            return
        low, high = int(event_time_us.min()), int(event_time_us.max())
        self.first_us = low if self.first_us is None else min(self.first_us, low)
        self.last_us = high if self.last_us is None else max(self.last_us, high)
        self.present.update(dict(zip(self.channels, (~np.isnan(value)).sum(axis=0).tolist(), strict=True)))

    @property
    def judged(self) -> int:
        """Readings that were judged, or learned from."""
        return sum(self.counts[name] for name in ("scored", "warmup", "used"))

    @property
    def not_judged(self) -> int:
        """Readings that were not."""
        return sum(self.counts[name] for name in WORDS)

    @property
    def warning(self) -> str:
        """What a person has to know; empty where nearly all was judged."""
        if self.not_judged <= NOT_JUDGED_SHARE_MAX * self.total:
            return ""
        return f"{self.not_judged:,} of {self.total:,} readings were not judged: {self.left_readings()}"

    def left_readings(self) -> str:
        """Readings that were not judged, in words."""
        said = []
        for name, words in WORDS.items():
            if count := self.counts[name]:
                reason = f" ({_listed([f'{why}: {times:,}' for why, times in self.reasons.most_common(3)])})" if name == "invalid" else ""
                if name == "duplicate" and self.partial_duplicates:
                    reason = " (messages have some of the channels each: set input.join: true)"
                said.append(f"{count:,} {words}{reason}")
        return "; ".join(said)

    def blind(self) -> list[str]:
        """Channels that no reading has a value of, with the nearest of the fields that are there."""
        never = [name for name in self.channels if self.present[name] == 0]
        if not self.total:
            return []
        fields = list(self.understanding.left) if self.understanding else []
        return [f"{name} never came" + (f"; did you mean {near[0]!r}?" if (near := nearest(name, fields)) else "") for name in never]

    def lines(self) -> list[str]:
        """What was taken and left, line by line."""
        found = [("read", self.name + (f": {self.understanding.file}" if self.understanding and self.understanding.file else ""))]
        if (told := self.understanding) is not None:
            columns = " + ".join(told.time_columns)
            found.append(("time", f"{columns}: {told.time}" if columns else told.time))
            found.append(
                (
                    "streams",
                    f"{self.streams:,}, by {', '.join(told.stream_columns)}" if told.stream_columns else f"{self.streams:,}: {told.stream}",
                )
            )
        found.append(("channels", _listed(list(self.channels))))
        if told is not None:
            found += [("left", f"{name}: {reason}") for name, reason in list(told.left.items())[:NAMED_MAX]]
            if len(told.left) > NAMED_MAX:
                found.append(("left", f"{len(told.left) - NAMED_MAX} columns more"))
            found += [("renamed", f"{told_name!r} is called {name}") for name, told_name in list(told.renamed.items())[:NAMED_MAX]]
            found += [("lines", ", ".join(f"{count:,} {kind}" for kind, count in told.lines.items()))] if told.lines else []
            found += [("missing", f"{channel.name}: {_texts(channel.texts)}") for channel in told.channels if channel.texts][:NAMED_MAX]
            found += [
                (
                    "sentinel?",
                    f"{channel.name}: {channel.sentinel[0]:g} stands {channel.sentinel[1]:,} times; if it means missing, say --missing {channel.sentinel[0]:g}",
                )
                for channel in told.channels
                if channel.sentinel is not None
            ][:NAMED_MAX]
            if told.order != "in order":
                found.append(("sorted", f"by time: the file is {told.order}"))
            found += [("note", note) for note in told.notes]
        found += [("missing", f"{name}: {_texts(texts)}") for name, texts in self._texts_of_messages().items()][:NAMED_MAX]
        if self.first_us is not None and self.last_us is not None:
            found.append(("from, to", f"{_shown(self.first_us)} to {_shown(self.last_us)}"))
        if self.not_judged:
            found.append(("not judged", self.left_readings()))
        found += [("blind", line) for line in self.blind()]
        return [f"{name:<10} {text}" for name, text in found]

    def _texts_of_messages(self) -> dict[str, dict[str, int]]:
        """Per channel the texts that stood where a number should."""
        found: dict[str, dict[str, int]] = {}
        for (number, text), count in self.texts.most_common():
            found.setdefault(self.channels[number], {})[text] = count
        return found

    def as_json(self, **further: Any) -> str:
        """The same for machines: one JSON object; what is not known is null."""
        import msgspec

        told = None
        if self.understanding is not None:
            told = asdict(self.understanding)
            told["rejected"] = told["rejected"][:100]
        found = {
            "name": self.name,
            "read": told,
            "channels": list(self.channels),
            "streams": self.streams,
            "from": None if self.first_us is None else _shown(self.first_us),
            "to": None if self.last_us is None else _shown(self.last_us),
            "readings": dict(self.counts),
            "judged": self.judged,
            "not_judged": self.not_judged,
            "reasons": dict(self.reasons.most_common(20)),
            "texts": self._texts_of_messages(),
            "blind": self.blind(),
            "warning": self.warning or None,
            **further,
        }
        return msgspec.json.encode(found).decode()

    @property
    def total(self) -> int:
        """All readings."""
        return self.judged + self.not_judged

    def end(self, line: str, *, is_strict: bool, to_error: bool = False) -> None:
        """Print the last line, with the warning if there is one.

        to_error  standard output is for machines

        raises Exit  nothing was judged; or too little, where that is forbidden
        """
        if not self.judged:
            what = self.left_readings() or "there are none"
            typer.echo(f"{line}; error: no reading was judged: {what}", err=True)
            raise typer.Exit(1)
        blind = f"; warning: {'; '.join(self.blind())}" if self.blind() else ""
        warning = f"; warning: {self.warning}" if self.warning else ""
        typer.echo(line + blind + warning, err=to_error)
        if is_strict and self.warning:
            raise typer.Exit(1)


class Tally(Observer):
    """Adds what became of every batch to a report."""

    def __init__(self, report: ReadingReport) -> None:
        self._report = report

    def observe(self, decoded: Decoded, result: BatchResult, seconds: Mapping[str, float]) -> None:
        """See `ports.Observer`."""
        import numpy as np

        from detector.core.readings import Disposition

        counts = np.bincount(result.disposition, minlength=max(Disposition) + 1)
        for disposition in Disposition:
            self._report.counts[disposition.name.lower()] += int(counts[disposition])
        is_duplicate = result.disposition == Disposition.DUPLICATE
        if decoded.batch.channel is None and is_duplicate.any():
            self._report.partial_duplicates += int(np.isnan(decoded.batch.value[is_duplicate]).any(axis=1).sum())
        self._report.texts.update(decoded.texts)
        for reject in decoded.rejects:
            self._report.counts["invalid"] += reject.readings
            self._report.reasons[reject.reason] += reject.readings
        self._report.took(decoded.batch.event_time_us, decoded.batch.value)


def _texts(texts: Mapping[str, int]) -> str:
    return "no number in " + ", ".join(f"{count:,} cells that hold {text!r}" for text, count in list(texts.items())[:5])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED_MAX]) + (f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else "")


def _shown(time_us: int) -> str:
    from detector.codec.event_time import rfc3339

    try:
        return rfc3339(time_us).replace(".000000Z", "Z")
    except OverflowError:
        return f"{time_us} us"
