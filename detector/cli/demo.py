"""`detector demo`: a broker, a simulated plant and the real service, side by side, without any set-up."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from detector.errors import ConfigError, DetectorError

if TYPE_CHECKING:
    from detector.cli.demo_screen import Screen
    from detector.cli.demo_service import Service
    from detector.cli.demo_stage import Stage
    from detector.lab.match import Summary

TOTAL_S_MAX = 112.0
"""The demo ends within two minutes, set-up and all: what starting took is taken from the playing time."""
CLOSING_S_MAX = 12.0
WAIT_S = 0.05


def demo(
    seed: Annotated[int, typer.Option(min=0, max=999, help="Another seed is another plant with other faults.")] = 1,
    machines: Annotated[int, typer.Option(min=2, max=500, help="Machines of the plant; each is a stream.")] = 24,
    hours: Annotated[float, typer.Option(min=12, max=240, help="Event time to play.")] = 24.0,
    faults: Annotated[int, typer.Option(min=1, max=1000, help="Faults to inject, all kinds equally often.")] = 40,
    seconds: Annotated[float, typer.Option(min=5, max=80, help="Time to play it in.")] = 70.0,
    model: Annotated[str, typer.Option(help="The bundle: `plant` was trained on plants of other seeds, `universal` on none.")] = "plant",
    budget: Annotated[str, typer.Option(help="False alerts that are acceptable.")] = "2 per stream per day",
    forever: Annotated[bool, typer.Option("--forever", help="Go on until Ctrl-C, with new faults every simulated day.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the summary for machines to this file.")] = None,
    bootstrap_servers: Annotated[
        str | None,
        typer.Option(help="A real Kafka to run on, instead of the embedded mock broker; four topics named detector-demo-... stay there."),
    ] = None,
) -> None:
    """See it work: faults are injected into a simulated plant, the real service finds them over the real protocol.

    Example: [bold]detector demo --seed 7 --json summary.json[/bold]

    Example: [bold]detector demo --forever --bootstrap-servers localhost:9092[/bold]
    """
    began_s = time.monotonic()
    from detector.adapters.kafka.topic_io import TopicReader, TopicWriter
    from detector.cli.demo_screen import Screen
    from detector.cli.demo_service import Service, broker
    from detector.cli.demo_stage import Stage
    from detector.lab.replay_clock import ReplayClock

    stage = Stage(seed, machines, hours, faults, without_end=forever)
    screen = Screen(stage)
    with ExitStack() as stack:
        topics = broker(stack, bootstrap_servers)
        service = stack.enter_context(Service(topics, model, budget))
        screen.begin(topics, service.introduction(), service.metrics_url)
        properties = {"bootstrap.servers": topics.servers}
        alerts = stack.enter_context(TopicReader(properties, topics.alerts))
        writer = stack.enter_context(TopicWriter(properties, topics.readings))
        play_s = seconds if forever else min(seconds, TOTAL_S_MAX - CLOSING_S_MAX - (time.monotonic() - began_s))
        if play_s < 1:
            raise ConfigError(
                "starting took too long on this machine to play anything within two minutes", fix="try again: the second start is faster"
            )
        started_s = time.monotonic()
        try:
            _play(stage, screen, service, alerts, writer, ReplayClock(hours * 3600 / play_s, time.monotonic))
            left_s = TOTAL_S_MAX - CLOSING_S_MAX / 2 - (time.monotonic() - began_s)
            judged = service.wait_until_judged(stage.sent, left_s)
            if judged < stage.sent:
                raise DetectorError(
                    f"the service judged {judged:,} of {stage.sent:,} readings in all that time: this machine is too busy; a first start "
                    "compiles its inner loops as well",
                    fix="try again when the machine is less busy: the next start is faster",
                )
        except KeyboardInterrupt:
            screen.say("stopping ...")
        played_s = time.monotonic() - started_s
        dispositions = service.dispositions()
        service.stop()
        while len(messages := alerts.poll(timeout_s=0.5)):
            screen.alerts(messages)
        summary = stage.summary(screen.openings)
        screen.end(summary, dispositions, played_s)
    if json_file is not None:
        _write(json_file, summary, dispositions, played_s, seed)


def _play(stage: Stage, screen: Screen, service: Service, alerts: Any, writer: Any, replay_clock: Any) -> None:
    """Send what is due, show what comes back."""
    for batch in stage.batches():
        begin = 0
        while begin < len(batch.event_time_us):
            end = begin + replay_clock.due(batch.event_time_us[begin:])
            for key, value in stage.carried(batch, begin, end):
                writer.write(key, value)
            writer.serve()
            if end > begin:
                screen.faults_until(int(batch.event_time_us[end - 1]))
            screen.alerts(alerts.poll(timeout_s=WAIT_S))
            service.must_be_alive()
            begin = end
    for key, value in stage.left():
        writer.write(key, value)
    writer.flush()


def _write(path: Path, summary: Summary, dispositions: dict[str, int], played_s: float, seed: int) -> None:
    """The summary for machines."""
    said = {
        "faults_injected": summary.faults_injected,
        "faults_found": summary.faults_found,
        "false_alerts": summary.false_alerts,
        "stream_hours": round(summary.stream_hours, 3),
        "delay_to_alert_s_median": summary.delay_to_alert_s_median,
        "readings_per_s": round(sum(dispositions.values()) / played_s, 1),
        "seed": seed,
        "dispositions": dispositions,
        "kinds": {kind.value: asdict(of_kind) for kind, of_kind in summary.kinds.items()},
    }
    path.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
