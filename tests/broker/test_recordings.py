"""Real recordings through real Kafka, with the commands that a person would use.

The benchmark data lies outside of the repository; `conftest.benchmark_data` says where.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from numpy.typing import NDArray

from detector.adapters.bundle import load_bundle
from detector.adapters.kafka.log import KafkaLog
from detector.adapters.kafka.topic_io import TopicReader
from detector.adapters.recordings.verdict_file import VerdictFile
from detector.cli import main, wiring
from detector.codec.alerts import AlertEncoder
from detector.codec.readings import JsonReadings
from detector.config import load_config
from detector.core.detector import Detector
from detector.service.state_manager import StateManager
from detector.service.worker import Worker

pytestmark = pytest.mark.broker
HALF_A_WEEK = 5_040  # minutes
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Recorded:
    """A recording and what is known about it.

    training, recording   files for `detector train`, and for `detector replay` and `detector simulate --from`
    is_event              b1[T] readings that people labelled as anomalous, in the recording's order
    """

    training: Path
    recording: Path
    is_event: NDArray[np.bool_]


def skab(data: Path, folder: Path) -> Recorded:
    """Runs of a water rig, 8 channels; valve 1 is closed for a while. A run is a stream, its first 400 readings are normal."""
    runs = []
    for number in range(16):
        run = pyarrow.csv.read_csv(data / "SKAB" / "valve1" / f"{number}.csv", parse_options=pyarrow.csv.ParseOptions(delimiter=";"))
        runs.append(run.append_column("stream", pa.array([f"valve1/{number}"] * len(run))))
    labels = ["anomaly", "changepoint"]
    recorded = pa.concat_tables(runs).sort_by("datetime")
    training, recording = folder / "skab-training.csv", folder / "skab.parquet"
    pyarrow.csv.write_csv(pa.concat_tables([run.slice(0, 400) for run in runs]).drop_columns(labels), training)
    pyarrow.parquet.write_table(recorded.drop_columns(labels), recording)
    return Recorded(training, recording, recorded["anomaly"].to_numpy() == 1)


def smd(data: Path, folder: Path) -> Recorded:
    """A server, 38 channels, one reading per minute: two weeks to train on and half of one to judge."""
    training, recording = folder / "smd-training.parquet", folder / "smd.parquet"
    with np.load(data / "SMD" / "machine-1-6.npz") as arrays:
        start = np.datetime64("2020-01-01", "us")
        for path, value in ((training, arrays["train"]), (recording, arrays["test"][:HALF_A_WEEK])):
            time = start + np.arange(len(value)) * np.timedelta64(1, "m")
            names = {"time": time, "stream": ["machine-1-6"] * len(value)}
            pyarrow.parquet.write_table(pa.table(names | {f"c{k:02}": value[:, k] for k in range(value.shape[1])}), path)
            start = time[-1] + np.timedelta64(1, "m")
        return Recorded(training, recording, arrays["label"][:HALF_A_WEEK] == 1)


@dataclass(frozen=True)
class Told:
    """What one way of judging told: verdicts (the columns of `VerdictFile`) and alerts."""

    verdicts: pa.Table
    alerts: list[dict[str, Any]]


def served(config: Path, folder: Path, readings: int) -> Told:
    """Judge what is on the topic, wired as `detector run` wires it, with a verdict file looking on."""
    settings = load_config(config)
    bundle, properties = load_bundle(settings.model), settings.kafka_properties()
    detector = Detector(bundle, wiring.settings(settings))
    decoder = JsonReadings(wiring.reading_format(settings.input, bundle.channels), detector.names)
    encoder = AlertEncoder(bundle.name, bundle.fingerprint, f"/detector/{settings.group}")
    log = KafkaLog(
        settings.input.topics,
        settings.group,
        settings.alerts_topic,
        settings.dead_letters_topic,
        properties,
        state_topics=settings.state_topics,
    )
    with VerdictFile(folder / "served.parquet", detector.names) as verdicts:
        state_manager = StateManager(detector, settings.state.flush_interval_s)
        worker = Worker(log, decoder, detector, encoder, state_manager, settings=settings.service, observers=[verdicts])
        deadline = time.monotonic() + PATIENCE_S
        while worker.stats.messages < readings and time.monotonic() < deadline:
            worker.step()
        worker.drain()
        worker.close()
    stats = worker.stats
    assert (stats.messages, stats.readings, stats.unaccounted, dict(stats.dead_letters)) == (readings, readings, 0, {})
    with TopicReader(properties, settings.alerts_topic) as reader:
        alerts = [json.loads(value or b"null") for messages in reader.batches() for value in messages.value]
    return Told(pyarrow.parquet.read_table(folder / "served.parquet"), alerts)


def replayed(config: Path, folder: Path, recording: Path) -> Told:
    """Judge the recording with `detector replay`."""
    verdicts, alerts = folder / "replayed.parquet", folder / "replayed.jsonl"
    assert main(["replay", str(recording), "--out", str(verdicts), "--alerts", str(alerts), "--config", str(config)]) == 0
    return Told(pyarrow.parquet.read_table(verdicts), [json.loads(line) for line in alerts.read_text().splitlines()])


def per_stream(table: pa.Table) -> list[tuple[Any, ...]]:
    """Verdicts stream by stream, each in its own order; numbers as their bits; alerts as their number in the stream."""
    rows: dict[str, list[tuple[Any, ...]]] = {}
    named: dict[str, dict[str | None, int]] = {}
    score, tail = (table[name].to_numpy().view(f"i{size}").tolist() for name, size in (("score", 4), ("tail_probability", 8)))
    others = (table[name].to_pylist() for name in ("stream", "event_time_us", "disposition", "alert"))
    for stream, event_time_us, disposition, alert, *numbers in zip(*others, score, tail, strict=True):
        alerts = named.setdefault(stream, {None: 0})
        number = alerts.setdefault(alert, len(alerts))
        rows.setdefault(stream, []).append((stream, event_time_us, disposition, number, *numbers))
    return [row for stream in sorted(rows) for row in rows[stream]]


def essence(alert: dict[str, Any]) -> str:
    """What does not depend on where the reading came from: all but the id and the message."""
    return json.dumps({name: entry for name, entry in alert.items() if name not in ("id", "input")})


def overlaps(is_event: NDArray[np.bool_], verdicts: pa.Table) -> tuple[int, int, int, int]:
    """Labelled events, those during which an alert was open, alerts, those that were open during no event."""
    stream = np.array(verdicts["stream"].to_pylist())
    alert = np.array(verdicts["alert"].to_pylist(), object)
    events = found = 0
    inside: set[str] = set()
    for name in np.unique(stream):
        at = np.flatnonzero(stream == name)
        edges = np.flatnonzero(np.diff(is_event[at], prepend=False, append=False))
        for begin, end in edges.reshape(-1, 2):
            open_then = {each for each in alert[at[begin:end]] if each is not None}
            events, found, inside = events + 1, found + bool(open_then), inside | open_then
    alerts = {each for each in alert if each is not None}
    return events, found, len(alerts), len(alerts - inside)


@pytest.mark.parametrize(
    ("recorded", "fit", "alerts", "events", "found_min", "outside_max"),
    [
        # About as many alerts outside of events as the budget allows in 5 hours, and in half a week. A run that ends is no silence.
        pytest.param(skab, ["--epochs", "8"], {"budget": "2 per stream per hour", "timeout_intervals": 0}, 16, 10, 10, id="skab"),
        pytest.param(smd, ["--quick"], {"budget": "1 per stream per day"}, 6, 3, 5, id="smd"),
    ],
)
def test_the_service_judges_a_recording_as_a_replay_does(
    benchmark_data: Path,
    kafka: str,
    make_topic: Callable[..., str],
    tmp_path: Path,
    recorded: Callable[[Path, Path], Recorded],
    fit: list[str],
    alerts: dict[str, Any],
    events: int,
    found_min: int,
    outside_max: int,
) -> None:
    known, topic, config = recorded(benchmark_data, tmp_path), make_topic("recorded", partitions=3), tmp_path / "detector.yaml"
    model = str(tmp_path / "model")
    settings = {
        "group": f"recordings-{uuid.uuid4().hex[:8]}",
        "model": model,
        "input": {"topics": [topic], "event_time": {"field": "event_time_us", "past_s_max": 3e9}},
        "alerts": alerts,
        "kafka": {"bootstrap.servers": kafka},
    }
    config.write_text(json.dumps(settings))
    options = ["--config", str(config)]
    torch.set_num_threads(1)  # more wait for each other on a busy machine, for 20 s instead of 2, and their number changes the weights
    assert main(["train", str(known.training), "--out", model, *fit, "--no-picture"]) == 0
    assert main(["topics", "create", *options]) == 0
    assert main(["simulate", "--from", str(known.recording), "--topic", topic, "--speed", "full", *options]) == 0

    service, replay = served(config, tmp_path, len(known.is_event)), replayed(config, tmp_path, known.recording)

    assert per_stream(service.verdicts) == per_stream(replay.verdicts)
    assert sorted(map(essence, service.alerts)) == sorted(map(essence, replay.alerts))
    labelled, found, opened, outside = overlaps(known.is_event, replay.verdicts)
    print(f"alerts during {found} of {labelled} labelled events; {outside} of {opened} alerts during none")
    assert labelled == events
    assert found >= found_min
    assert outside <= outside_max
