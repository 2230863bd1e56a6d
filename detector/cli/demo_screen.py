"""The output of the demo: faults as they begin, alerts as they come from the topic, and how many faults were found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from detector.cli.alert_lines import alert_line, line, time_us
from detector.codec.alerts import AlertEvent, decode_alert
from detector.lab.faults import Fault
from detector.lab.match import Opening, Summary

if TYPE_CHECKING:
    from detector.cli.demo_service import Topics
    from detector.cli.demo_stage import Stage
    from detector.codec.messages import Messages


class Screen:
    """Prints what happens, and keeps the alerts that opened. It knows the injected faults, which the service does not."""

    def __init__(self, stage: Stage) -> None:
        self.openings: list[Opening] = []
        self._stage = stage
        self._console = Console(highlight=False, soft_wrap=True)
        self._shown = 0
        self._seen: set[tuple[str, int]] = set()

    def say(self, line: str) -> None:
        """Print one line."""
        self._console.print(line)

    def begin(self, topics: Topics, introduction: str, metrics_url: str) -> None:
        """Print the broker, the plant and the service."""
        what = "librdkafka's mock cluster in a process of its own: the real protocol, but no real Kafka" if topics.is_mock else "your Kafka"
        self._console.print(introduction)
        self._console.print(f"[bold]broker[/bold]    {topics.servers}  ({what})")
        self._console.print(
            f"[bold]plant[/bold]     {self._stage.machines} simulated pumps, seed {self._stage.seed}; readings every 10 s of event time"
        )
        self._console.print(f"[bold]look at[/bold]   {metrics_url}\n")

    def faults_until(self, event_time_us: int) -> None:
        """Show the faults that have begun by then."""
        while self._shown < len(self._stage.faults) and self._stage.faults[self._shown].start_us <= event_time_us:
            fault = self._stage.faults[self._shown]
            self._shown += 1
            text = f"{_named(fault)} ({_lasting(fault)})"
            self._console.print(line(self._clock(fault.start_us), "[yellow]fault[/yellow]  ", fault.stream, text))

    def alerts(self, messages: Messages) -> None:
        """Show and keep the alerts among these messages; a repeated one counts once."""
        for value in messages.value:
            if value is None:
                continue
            alert = decode_alert(value)
            event_time_us = time_us(alert.event_time)
            if (alert.id, event_time_us) in self._seen:
                continue
            self._seen.add((alert.id, event_time_us))
            note = ""
            if alert.status == "opened":
                self.openings.append(Opening(alert.stream, event_time_us, alert.kind))
                note = self._belongs(alert)
            self._console.print(alert_line(self._clock(event_time_us), alert, note))

    def _belongs(self, alert: AlertEvent) -> str:
        summary = self._stage.summary([Opening(alert.stream, time_us(alert.event_time), alert.kind)])
        if summary.false_alerts:
            return "[red]<- no fault there[/red]"
        if not summary.faults_found:
            return "[dim]<- the fault there is of another kind[/dim]"
        return f"[dim]<- {summary.delay_to_alert_s_median:.0f} s after the fault began[/dim]"

    def _clock(self, event_time_us: int) -> str:
        since_s = (event_time_us - self._stage.plant.start_us) // 1_000_000
        return f"day {since_s // 86_400 + 1} {since_s % 86_400 // 3600:02d}:{since_s % 3600 // 60:02d}:{since_s % 60:02d}"

    def end(self, summary: Summary, dispositions: dict[str, int], played_s: float) -> None:
        """The summary, from the topic of alerts and the metrics."""
        table = Table(title="\nwhat the alerts were worth", title_justify="left")
        for name, justify in (("fault", "left"), ("injected", "right"), ("found", "right"), ("median delay, s", "right")):
            table.add_column(name, justify=justify)  # type: ignore[arg-type]
        for kind, of_kind in summary.kinds.items():
            delay = "" if of_kind.delay_to_alert_s_median is None else f"{of_kind.delay_to_alert_s_median:.0f}"
            table.add_row(kind.value, str(of_kind.injected), str(of_kind.found), delay)
        self._console.print(table)
        readings = sum(dispositions.values())
        what = ", ".join(f"{count:,} {name}" for name, count in dispositions.items() if count)
        per_50_h = 50 * summary.false_alerts / max(summary.stream_hours, 1e-9)
        delay = "-" if summary.delay_to_alert_s_median is None else f"{summary.delay_to_alert_s_median:.0f} s"
        self._console.print(f"faults       {summary.faults_found} of {summary.faults_injected} found, median delay {delay} of event time")
        self._console.print(f"false alerts {summary.false_alerts} in {summary.stream_hours:,.0f} stream-hours ({per_50_h:.2f} per 50)")
        self._console.print(
            f"readings     {readings:,} ({what}) in {played_s:.0f} s: {readings / played_s:,.0f} per second, at the simulator's pace"
        )
        if summary.missed:
            self._console.print(f"missed       {'; '.join(f'{fault.stream} {_named(fault)}' for fault in summary.missed)}")


def _named(fault: Fault) -> str:
    everything = len(fault.channels) > 2
    return fault.kind.value.replace("_", " ") + ("" if everything else f", {' and '.join(fault.channels)}")


def _lasting(fault: Fault) -> str:
    lasting_s = (fault.end_us - fault.start_us) / 1e6
    return f"{lasting_s:.0f} s" if lasting_s < 120 else f"{lasting_s / 60:.0f} min"
