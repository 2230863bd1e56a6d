"""What `inspect` found, in words for a person, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from detector.inspection.facts import Facts, period
from detector.inspection.messages import KEY, LOG_TIME
from detector.inspection.proposal import described
from detector.inspection.sizing import Estimate

if TYPE_CHECKING:
    from detector.tables.recording import Understanding

NAMED_MAX = 40
REASONS_MAX = 10
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found.

    name      of the recording or topic
    about     further facts: what of, and the fact
    not_judged   readings that would not be judged, by the reason
    proposal  a configuration
    extra     what of, and the fact: what stands behind the channels
    is_sample   whether there are more readings than these
    """

    name: str
    understood: Understanding
    facts: Facts
    estimate: Estimate
    not_judged: dict[str, int]
    proposal: str
    about: Sequence[tuple[str, str]] = ()
    extra: Sequence[tuple[str, str]] = ()
    is_sample: bool = False

    @property
    def lines(self) -> list[str]:
        """Line by line."""
        return [f"{name:<10} {text}".rstrip() for name, text in self._lines()]

    def _lines(self) -> Iterator[tuple[str, str]]:
        told, facts = self.understood, self.facts
        yield "format", f"{told.file}" + (f"; lines that are no row: {_counted(told.lines)}" if told.lines else "")
        yield from self.about
        columns = " + ".join(told.time_columns)
        yield "time", "Kafka's own time of the message" if columns == LOG_TIME else f"{columns}: {told.time}" if columns else told.time
        yield "", f"{_shown(facts.first_us)} to {_shown(facts.last_us)}{_age(facts.last_us)}; whole {facts.resolution}; {told.order}"
        if facts.interval_us == facts.interval_us:
            gaps = f"{facts.gaps:,} gap{'s' * (facts.gaps != 1)}, the longest {period(facts.longest_gap_us)}" if facts.gaps else "no gaps"
            yield "", f"a reading every {period(facts.interval_us)} of each stream" + ("" if self.is_sample else f"; {gaps}")
        if facts.ties:
            yield "", f"{facts.ties:,} readings have the stream and time of the one before"
        is_field = told.stream_columns not in ((), (KEY,))
        by = f"by {', '.join(told.stream_columns)} ({told.stream})" if is_field else told.stream
        yield "streams", f"{facts.streams:,}: {by}"
        largest = ", ".join(f"{name} {count:,}" for name, count in facts.largest)
        if facts.least == facts.most:
            yield "", f"{facts.most:,} reading{'s' * (facts.most != 1)}" + (" of each" if facts.streams > 1 else "")
        else:
            yield "", f"{facts.least:,} to {facts.most:,} readings of each; most of {largest}"
        yield "channels", f"{len(told.channels):,}"
        for channel in told.channels[:NAMED_MAX]:
            texts = f": {_counted({repr(text): count for text, count in list(channel.texts.items())[:5]})}" if channel.texts else ""
            yield "", f"  {channel.name}: {described(channel)}{texts}"
        if len(told.channels) > NAMED_MAX:
            yield "", f"  and {len(told.channels) - NAMED_MAX:,} more (--json names all)"
        yield from self.extra
        for name, reason in list(told.left.items())[:NAMED_MAX]:
            yield "left", f"{name}: {reason}"
        if len(told.left) > NAMED_MAX:
            yield "left", f"and {len(told.left) - NAMED_MAX:,} more (--json names all)"
        for name, given in list(told.renamed.items())[:NAMED_MAX]:
            yield "renamed", f"{given!r} is called {name}"
        for note in told.notes:
            yield "note", note
        of = " of the sample" if self.is_sample else ""
        yield "judged", f"{facts.readings - sum(self._of_readings().values()):,} of {self.total:,} readings{of}"
        for reason, count in list(self.not_judged.items())[:REASONS_MAX]:
            yield "not judged", f"{count:,}: {reason}"
        if len(self.not_judged) > REASONS_MAX:
            yield "not judged", f"and for {len(self.not_judged) - REASONS_MAX:,} other reasons (--json names all)"
        yield "needs", self._needs()

    def _of_readings(self) -> dict[str, int]:
        return {reason: count for reason, count in self.not_judged.items() if reason.startswith(("late", "duplicate", "empty"))}

    @property
    def total(self) -> int:
        """Readings, judged or not."""
        return self.facts.readings + sum(self.not_judged.values()) - sum(self._of_readings().values())

    def _needs(self) -> str:
        need = self.estimate
        workers = "one worker" if need.workers == 1 else f"{need.workers:,} workers"
        cores = (
            f"{need.cores:.1f} cores"
            if need.cores >= 1
            else f"{need.cores:.0%} of a core"
            if need.cores >= 0.01
            else "less than 1 % of a core"
        )
        if need.cores != need.cores:
            return f"not known: the times of readings do not tell how many come; {need.stream_bytes:,} bytes a stream"
        rate = f"{self.facts.rate_hz:,.0f}" if self.facts.rate_hz >= 10 else f"{self.facts.rate_hz:.2g}"
        return (
            f"{cores} at {rate} readings/s: {workers}, {_bytes(need.memory_bytes)} of memory{' each' if need.workers > 1 else ''}; "
            f"saved state {_bytes(need.state_bytes)}, {need.stream_bytes:,} bytes a stream"
        )

    def as_json(self) -> str:
        """For machines: one JSON object; what is not known is null."""
        import msgspec

        told: dict[str, Any] = asdict(self.understood)
        told["rejected"] = told["rejected"][:100]
        found = {
            "name": self.name,
            "read": told,
            "about": [list(line) for line in (*self.about, *self.extra)],
            "facts": asdict(self.facts) | {"first": _shown(self.facts.first_us), "last": _shown(self.facts.last_us)},
            "not_judged": self.not_judged,
            "needs": asdict(self.estimate),
            "configuration": self.proposal,
        }
        return msgspec.json.encode(found).decode()


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in counts.items())


def _bytes(count: float) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"


def _age(last_us: int) -> str:
    """How long ago the last reading was, or how far ahead it is."""
    seconds = datetime.now(UTC).timestamp() - last_us / 1e6
    if abs(seconds) < DAY_S:
        return ""
    return f", {period(abs(seconds) * 1e6)} {'ago' if seconds > 0 else 'in the future'}"


def _shown(time_us: int) -> str:
    from detector.codec.event_time import rfc3339

    try:
        return rfc3339(time_us).replace(".000000Z", "Z")
    except OverflowError:
        return f"{time_us} us"
