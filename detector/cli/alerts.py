"""`detector alerts`: the alerts on their topic, for people and programs."""

from __future__ import annotations

import re
import time
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer

from detector.cli.options import ConfigFile, Group, Servers, overrides
from detector.errors import ConfigError

if TYPE_CHECKING:
    from detector.adapters.kafka.topic_io import TopicReader
    from detector.codec.alerts import AlertEvent
    from detector.codec.messages import Messages

AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
WAIT_S = 0.2


def alerts(
    config: ConfigFile = None,
    group: Group = None,
    bootstrap_servers: Servers = None,
    topic: Annotated[str | None, typer.Option(help="Topic of alerts; without it the configuration's, or GROUP.alerts.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Also show those that come later, until Ctrl-C.")] = False,
    since: Annotated[
        str | None,
        typer.Option(help="Only what was written to the topic since then: 30s, 15m, 1h or 2d ago, or a time in ISO 8601. Without it all."),
    ] = None,
    stream: Annotated[str | None, typer.Option(help="Only of streams whose names are like this: 'plant1/*'.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One alert per line as it stands on the topic, for jq and other programs.")
    ] = False,
) -> None:
    """Show the alerts on their topic: opened, got worse, closed. The time of a line is the reading's own, UTC.

    --since goes by Kafka's time of the message: when the alert was written. What is not committed is not shown.

    Example: [bold]detector alerts --config detector.yaml --follow[/bold]

    Example: [bold]detector alerts --group plant1 --since 1h --json | jq .stream[/bold]
    """
    from detector.adapters.kafka.topic_io import TopicReader
    from detector.cli import logs
    from detector.config import load_config

    settings = load_config(config, overrides={**overrides(None, group, bootstrap_servers), **({"output/alerts": topic} if topic else {})})
    logs.configure(settings.log.level, settings.log.format, settings.secrets)
    from_us = None if since is None else _since_us(since)
    shown = _Shown(settings.alerts_topic, stream, as_json=as_json)
    with TopicReader(settings.kafka_properties(), settings.alerts_topic, from_us=from_us, on_log=logs.log_client_line) as reader:
        try:
            shown.past(reader)
            if follow:
                typer.echo(f"{settings.alerts_topic}: waiting for alerts, Ctrl-C ends", err=True)
                while True:
                    shown.show(reader.poll(timeout_s=WAIT_S))
        except KeyboardInterrupt:
            if not follow:
                raise
        shown.summarise()


def _since_us(text: str) -> int:
    """A time, or a duration before now -> microseconds since the epoch."""
    from detector.codec.event_time import event_time_us
    from detector.codec.reading_format import Unreadable

    if match := AGO.fullmatch(text.strip()):
        return int((time.time() - float(match[1]) * SECONDS[match[2]]) * 1e6)
    try:
        return event_time_us(text.strip(), "iso8601")
    except Unreadable:
        raise ConfigError(
            f"--since {text} is neither a time nor how long ago",
            fix="write 30s, 15m, 1h or 2d, or a time in ISO 8601, such as 2026-11-01T10:00:00Z",
        ) from None


class _Shown:
    """Shows alerts, and counts those shown and the messages that are no alerts.

    pattern   of the streams' names, as fnmatch has it; None: all
    """

    def __init__(self, topic: str, pattern: str | None, *, as_json: bool) -> None:
        from rich.console import Console

        self._topic, self._pattern, self._as_json = topic, pattern, as_json
        self._console = Console(highlight=False, soft_wrap=True)
        self._statuses = {"opened": 0, "updated": 0, "closed": 0}
        self._open: set[str] = set()
        self._foreign = 0

    def past(self, reader: TopicReader) -> None:
        """Show the alerts that are on the topic, of all partitions together in the order in which they were written."""
        found: list[tuple[int, str]] = []
        for messages in reader.until_end():
            found += self._lines(messages)
        for _, text in sorted(found, key=lambda each: each[0]):
            self._print(text)

    def show(self, messages: Messages) -> None:
        """Show new alerts."""
        for _, text in self._lines(messages):
            self._print(text)

    def summarise(self) -> None:
        """Print the last line, the counts; with --json to standard error."""
        opened, updated, closed = self._statuses.values()
        summary = f"{self._topic}: {opened} opened, {updated} worse, {closed} closed; {len(self._open)} of them open at the end"
        if self._foreign:
            summary += f"; {self._foreign} messages are no alerts and are left out"
        typer.echo(summary, err=self._as_json)

    def _print(self, text: str) -> None:
        if self._as_json:
            typer.echo(text)
        else:
            self._console.print(text)

    def _lines(self, messages: Messages) -> list[tuple[int, str]]:
        """The log time and the line of each alert that matches the pattern."""
        from pydantic import ValidationError

        from detector.cli.alert_lines import alert_line
        from detector.codec.alerts import decode_alert
        from detector.codec.confluent_wire_format import unframed

        lines = []
        for value, log_time_us in zip(messages.value, messages.log_time_us.tolist(), strict=True):
            try:
                alert = decode_alert(value or b"")
            except ValidationError:
                self._foreign += 1
                continue
            if self._pattern is None or fnmatchcase(alert.stream, self._pattern):
                self._count(alert)
                clock = f"{alert.event_time:%Y-%m-%d %H:%M:%S}"
                lines.append((log_time_us, unframed(value or b"").decode() if self._as_json else alert_line(clock, alert)))
        return lines

    def _count(self, alert: AlertEvent) -> None:
        self._statuses[alert.status] += 1
        if alert.status == "closed":
            self._open.discard(alert.id)
        else:
            self._open.add(alert.id)
