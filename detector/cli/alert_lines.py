"""Alerts as lines of text: for the demo and for `detector alerts`."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.markup import escape

from detector.codec.alerts import AlertEvent

STATUS = {"opened": "[bold red]ALERT[/bold red]  ", "updated": "[bold red]worse[/bold red]  ", "closed": "[green]closed[/green] "}


def line(clock: str, what: str, stream: str, text: str) -> str:
    """One line in rich's markup. `what` and `text` may contain markup; the stream's name is escaped."""
    return f"[dim]{clock}[/dim]  {what} {plain(f'{stream:<14}')} {text}"


def alert_line(clock: str, alert: AlertEvent, note: str = "") -> str:
    """The line of an event of an alert. note: in markup, added to opened and updated alerts."""
    if alert.status == "closed":
        lasted = (time_us(alert.event_time) - time_us(alert.opened_at)) / 60e6
        text = f"{alert.reason} after {lasted:.0f} min"
    else:
        text = plain(_reason(alert)) + (f"  {note}" if note else "")
    return line(clock, STATUS[alert.status], alert.stream, text)


def plain(text: str) -> str:
    """Foreign text for rich, with markup escaped and without characters that a terminal would take for a command."""
    return escape("".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text))


def time_us(moment: datetime) -> int:
    """Microseconds since the epoch."""
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def _reason(alert: AlertEvent) -> str:
    if alert.kind == "timeout":
        return "no readings come"
    if not alert.channels:
        return f"score {_short(alert.score)}"
    first = alert.channels[0]
    names = " and ".join(channel.name for channel in alert.channels)
    if alert.kind == "stuck":
        return f"{names} stuck at {_short(first.observed)}"
    if alert.kind == "missing":
        return f"{names} missing"
    if first.observed is None:
        return f"{first.name} is missing"
    return f"{first.name} {_short(first.observed)}, expected {_short(first.low)} to {_short(first.high)}"


def _short(number: float | None) -> str:
    return "unknown" if number is None else f"{number:.4g}"
