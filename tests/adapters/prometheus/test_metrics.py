"""Metrics and health: what a scrape shows after known batches, and that docs/metrics.md lists exactly that."""

from __future__ import annotations

import gzip
import http.client
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from detector.adapters.http_server import HttpServer
from detector.adapters.prometheus.collectors import ERRORS, ServiceInfo
from detector.adapters.prometheus.metrics import Telemetry
from detector.codec.readings import Decoded, Reject
from detector.core.alerts import Alert
from detector.core.batch_result import BatchResult
from detector.core.readings import Disposition, Partition, ReadingBatch, StreamNames
from detector.errors import ConfigError
from detector.ports import LATENCY, AlertmanagerStats, WorkerState, WorkerStats

SECONDS = {"poll": 0.001, "decode": 0.002, "detect": 0.003, "encode": 0.0001, "commit": 0.004}
DOC = Path(__file__).parents[3] / "docs" / "metrics.md"
HOUR_US = 3_600_000_000
S, W, INVALID, L = Disposition.SCORED, Disposition.WARMUP, Disposition.INVALID, Disposition.LATE


def decoded(ids: list[int], times_us: list[int], rejects: tuple[Reject, ...] = (), ignored: int = 0) -> Decoded:
    n = len(ids)
    batch = ReadingBatch(
        stream_id=np.array(ids, np.int32),
        event_time_us=np.array(times_us, np.int64),
        value=np.arange(2 * n, dtype=np.float32).reshape(n, 2),
        partition=np.zeros(n, np.int32),
        offset=np.arange(n, dtype=np.int64),
        item=np.zeros(n, np.int32),
        partitions=(Partition("sensors", 0),),
    )
    return Decoded(batch, np.arange(n, dtype=np.int64), rejects, ignored)


def result_of(dispositions: list[Disposition], alerts: tuple[Alert, ...] = ()) -> BatchResult:
    n = len(dispositions)
    disposition = np.array(dispositions, np.uint8)
    score = np.where(np.isin(disposition, (S, W)), np.arange(n), np.nan).astype(np.float32)
    expected, is_open = np.full((n, 2), 0.5, np.float32), {4: "id"} if n > 4 else {}
    return BatchResult(
        disposition,
        score,
        score.astype(np.float64),
        expected,
        is_open,
        alerts,
        threshold=10 - score,
        reach=np.full((n, 2), 0.25, np.float32),
    )


def alert(status: str, kind: str, reason: str) -> Alert:
    return Alert("id", status, kind, reason, "warning", "pump", 0, 0, 1.0, 0.1, (), Partition("sensors", 0), 0, 0)  # type: ignore[arg-type]


class Scene:
    def __init__(self) -> None:
        self.names = StreamNames()
        self.pump, self.fan = self.names[b"pump"], self.names[b"fan"]
        self.stats = WorkerStats(state=WorkerState.RUNNING, alive_until_s=time.monotonic() + 60)
        self.stats.dead_letters = {"MalformedJson": 3}
        self.stats.lag = {Partition("sensors", 0): 12}
        self.stats.channels_present = (1.0, 0.25)
        self.now_s = 1_000.0
        about = ServiceInfo(
            "1.2.3", "site1", "plant", "abcdef", ("temperature", "rpm"), 24.0 * HOUR_US, 500, 10.0, watch=("pump", "absent")
        )
        self.alertmanager = AlertmanagerStats("http://alertmanager:9093", sent=3, failures=2, dropped=1, queued=4)
        self.telemetry = Telemetry(about, self.stats, self.names, lambda: self.now_s, [self.alertmanager])

    def value(self, name: str, **labels: str) -> float | None:
        value = self.telemetry.registry.get_sample_value(name, labels)
        return None if value is None else float(value)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_readings_by_disposition(scene: Scene) -> None:
    seen = decoded([0, 1, 0, 1], [1, 2, 3, 4], (Reject(0, "MalformedJson", "", 2),), ignored=9)
    scene.telemetry.observe(seen, result_of([S, W, L, INVALID]), SECONDS)
    counts = {d.name.lower(): scene.value("detector_readings_total", disposition=d.name.lower()) for d in Disposition}
    assert counts == {"scored": 1, "warmup": 1, "late": 1, "duplicate": 0, "invalid": 3, "partial": 0, "empty": 0}
    assert scene.value("detector_readings_ignored_total") == 9
    assert scene.value("detector_batch_readings_sum") == 4


def test_how_often_channels_come(scene: Scene) -> None:
    assert scene.value("detector_channel_present_ratio", channel="temperature") == 1
    assert scene.value("detector_channel_present_ratio", channel="rpm") == 0.25
    scene.stats.channels_present = ()
    assert scene.value("detector_channel_present_ratio", channel="rpm") is None


def test_alerts_by_kind_and_reason(scene: Scene) -> None:
    events = (alert("opened", "score", "evidence"), alert("closed", "score", "cleared"), alert("opened", "timeout", "timeout"))
    scene.telemetry.observe(decoded([0], [1]), result_of([S], events), SECONDS)
    assert scene.value("detector_alerts_opened_total", kind="score", reason="evidence") == 1
    assert scene.value("detector_alerts_opened_total", kind="timeout", reason="timeout") == 1
    assert scene.value("detector_alerts_closed_total", kind="score", reason="cleared") == 1
    for kind, ends in (("stuck", "unstuck"), ("missing", "resumed")):
        for reason in (ends, "reset", "evicted"):
            assert scene.value("detector_alerts_closed_total", kind=kind, reason=reason) == 0  # there from the start
        scene.telemetry.observe(decoded([0], [2]), result_of([S], (alert("opened", kind, kind),)), SECONDS)
        assert scene.value("detector_alerts_opened_total", kind=kind, reason=kind) == 1


def test_time_per_stage(scene: Scene) -> None:
    scene.telemetry.observe(decoded([0], [1]), result_of([S]), SECONDS)
    scene.telemetry.observe(decoded([0], [2]), result_of([S]), SECONDS)
    for stage, spent_s in SECONDS.items():
        assert scene.value("detector_stage_duration_seconds_sum", stage=stage) == pytest.approx(2 * spent_s)
        assert scene.value("detector_stage_duration_seconds_count", stage=stage) == 2


def test_how_telling_alertmanager_goes(scene: Scene) -> None:
    names = ("alerts_sent_total", "request_failures_total", "alerts_dropped_total", "queue_length")
    assert [scene.value(f"detector_alertmanager_{name}", url="http://alertmanager:9093") for name in names] == [3, 2, 1, 4]
    scene.alertmanager.queued = 0
    assert scene.value("detector_alertmanager_queue_length", url="http://alertmanager:9093") == 0


def test_the_latency_is_no_room(scene: Scene) -> None:
    scene.telemetry.observe(decoded([0], [1]), result_of([S]), {**SECONDS, LATENCY: 0.25})
    assert scene.value("detector_batch_commit_latency_seconds_sum") == 0.25
    assert scene.value("detector_batch_commit_latency_seconds_bucket", le="0.1") == 0
    assert scene.value("detector_stage_duration_seconds_count", stage=LATENCY) is None


def test_the_delay_grows_while_nothing_comes(scene: Scene) -> None:
    delay = scene.value("detector_event_time_delay_seconds")
    assert delay is not None
    assert np.isnan(delay)
    scene.telemetry.observe(decoded([0, 1, 0], [990_000_000, 997_000_000, 999_000_000]), result_of([S, S, INVALID]), SECONDS)
    assert scene.value("detector_event_time_delay_seconds") == pytest.approx(3)
    scene.now_s += 10
    assert scene.value("detector_event_time_delay_seconds") == pytest.approx(13)


def test_judged_stream_time(scene: Scene) -> None:
    second = 1_000_000
    told = [([0, 1, 0], [0, 5, 10], [W, S, W]), ([0, 1, 0, 1], [20, 6, 30, 2], [S, S, S, L]), ([1, 0], [16, 30], [S, S])]
    for ids, times, dispositions in told:
        scene.telemetry.observe(decoded(ids, [t * second for t in times]), result_of(dispositions), SECONDS)
    # pump: warm until 10, judged until 30; fan: first seen at 5, judged until 16.
    assert scene.value("detector_scored_event_time_seconds_total") == pytest.approx(20 + 11)
    for i in range(100):
        scene.names[f"new{i}".encode()]
    scene.telemetry.observe(decoded([101, 1, 101], [0, 17 * second, second]), result_of([S, S, S]), SECONDS)
    assert scene.value("detector_scored_event_time_seconds_total") == pytest.approx(31 + 1 + 0)


def test_the_budget_stands_beside_it(scene: Scene) -> None:
    assert scene.value("detector_alert_budget_period_seconds") == 24 * 3_600
    assert scene.value("detector_streams_max_per_partition") == 500
    assert scene.value("detector_state_flush_interval_seconds") == 10
    assert scene.value("detector_build_info", version="1.2.3", group="site1", model="plant", fingerprint="abcdef") == 1


def test_only_watched_streams_have_series(scene: Scene) -> None:
    scene.telemetry.observe(decoded([1, 0, 0, 1, 0], [1, 2, 3, 4, 5]), result_of([S, S, S, S, L]), SECONDS)
    assert scene.value("detector_stream_score", stream="pump") == 2
    assert scene.value("detector_stream_threshold", stream="pump") == 8
    assert scene.value("detector_stream_alert_open", stream="pump") == 0
    assert scene.value("detector_stream_observed", stream="pump", channel="rpm") == 5
    assert scene.value("detector_stream_expected", stream="pump", channel="temperature") == 0.5
    assert scene.value("detector_stream_expected_low", stream="pump", channel="temperature") == 0.25
    assert scene.value("detector_stream_expected_high", stream="pump", channel="rpm") == 0.75
    streams = {sample.labels.get("stream") for family in scene.telemetry.registry.collect() for sample in family.samples}
    assert streams == {None, "pump"}
    scene.telemetry.observe(decoded([1, 0, 0, 1, 0], [6, 7, 8, 9, 10]), result_of([S, S, S, S, S]), SECONDS)
    assert scene.value("detector_stream_alert_open", stream="pump") == 1


def test_a_watched_stream_that_another_worker_has_now_is_not_shown_here(scene: Scene) -> None:
    scene.telemetry.observe(decoded([0], [1]), result_of([S]), SECONDS)
    assert scene.value("detector_stream_score", stream="pump") == 0
    scene.names.release([scene.pump])
    assert scene.value("detector_stream_score", stream="pump") is None


def test_stats_are_read_at_each_scrape(scene: Scene) -> None:
    scene.stats.messages, scene.stats.streams, scene.stats.alerts_open = 7, 3, 2
    assert scene.value("detector_messages_polled_total") == 7
    assert scene.value("detector_streams") == 3
    assert scene.value("detector_alerts_open") == 2
    assert scene.value("detector_consumer_lag_messages", topic="sensors", partition="0") == 12
    assert scene.value("detector_dead_letters_total", error="MalformedJson") == 3
    for error in ERRORS:
        assert scene.value("detector_dead_letters_total", error=error) is not None  # there from the start: a rate must see the first one
    assert scene.value("detector_worker_state", state="running") == 1
    scene.stats.state = WorkerState.BACKING_OFF
    assert scene.value("detector_worker_state", state="running") == 0
    assert scene.value("detector_worker_state", state="backing_off") == 1


def test_what_it_takes_to_keep_state(scene: Scene) -> None:
    stats = scene.stats
    stats.messages_replayed, stats.messages_missed, stats.restored_s = 1, {"retention": 2}, 0.7
    stats.log_changes, stats.topics_missing = {"recreated": 3}, ("a", "b")
    stats.rows_unsaved, stats.unsaved_s, stats.rows_saved, stats.state_bytes = 3, 4.5, 5, 6
    assert scene.value("detector_messages_replayed_total") == 1
    assert scene.value("detector_messages_missed_total", reason="retention") == 2
    assert scene.value("detector_messages_missed_total", reason="auto_offset_reset") == 0
    assert scene.value("detector_log_changes_total", reason="recreated") == 3
    assert scene.value("detector_log_changes_total", reason="truncated") == 0
    assert scene.value("detector_input_topics_missing") == 2
    assert scene.value("detector_restore_duration_seconds") == 0.7
    assert scene.value("detector_state_rows_unsaved") == 3
    assert scene.value("detector_state_unsaved_age_seconds") == 4.5
    assert scene.value("detector_state_rows_saved_total") == 5
    assert scene.value("detector_state_written_bytes_total") == 6


def test_an_empty_batch_is_no_trouble(scene: Scene) -> None:
    scene.telemetry.observe(decoded([], []), result_of([]), SECONDS)
    assert scene.value("detector_batch_readings_count") == 1


@pytest.fixture
def server(scene: Scene) -> Iterator[HttpServer]:
    server = HttpServer("127.0.0.1", 0, scene.telemetry)
    yield server
    server.close()
    server.close()


def get(server: HttpServer, path: str, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, answer.headers, body


def test_metrics_in_prometheus_text(server: HttpServer) -> None:
    status, headers, body = get(server, "/metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    names = {family.name for family in parse(body.decode())}
    assert {"detector_readings", "detector_build_info", "process_cpu_seconds"} <= names
    assert not [name for name in names if name.endswith("_created")]


def test_metrics_in_openmetrics(server: HttpServer) -> None:
    _, headers, body = get(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert "detector_readings" in {family.name for family in parse_openmetrics(body.decode())}  # type: ignore[no-untyped-call] # not annotated there


def test_metrics_compressed(server: HttpServer) -> None:
    _, headers, body = get(server, "/metrics", Accept_Encoding="gzip")
    assert headers["Content-Encoding"] == "gzip"
    assert b"detector_readings_total" in gzip.decompress(body)


def test_health(server: HttpServer, scene: Scene) -> None:
    assert get(server, "/-/healthy")[0] == 200
    assert get(server, "/-/ready")[0] == 200
    for state in set(WorkerState) - {WorkerState.RUNNING}:
        scene.stats.state = state
        status, _, body = get(server, "/-/ready")
        assert (status, body.decode().strip()) == (503, state.value)
        assert get(server, "/-/healthy")[0] == 200
    scene.stats.state = WorkerState.RUNNING
    assert scene.value("detector_worker_healthy") == 1
    scene.stats.alive_until_s = time.monotonic() - 5
    assert scene.value("detector_worker_healthy") == 0
    status, _, body = get(server, "/-/healthy")
    assert status == 503
    assert b"should have moved 5 s ago" in body


def test_other_paths(server: HttpServer) -> None:
    assert get(server, "/")[0] == 200
    assert get(server, "/nothing")[0] == 404
    assert get(server, "/-/ready?verbose=1")[0] == 200
    status, headers, body = get(server, "/-/healthy", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "8", b"")
    assert get(server, "/metrics", "POST")[0] == 405


def test_a_port_that_is_taken_is_a_message(server: HttpServer, scene: Scene) -> None:
    with pytest.raises(ConfigError, match=f"cannot listen on http.host 127.0.0.1, http.port {server.port}") as caught:
        HttpServer("127.0.0.1", server.port, scene.telemetry)
    assert "http.port" in caught.value.fix


def test_a_host_that_is_none_is_a_message(scene: Scene) -> None:
    with pytest.raises(ConfigError, match=r"http\.host no\.such\.host\.invalid"):
        HttpServer("no.such.host.invalid", 0, scene.telemetry)


def test_the_documentation_lists_exactly_what_there_is(scene: Scene) -> None:
    """Name, type and labels of every metric, as in the table of docs/metrics.md."""
    scene.telemetry.observe(
        decoded([0], [1]), result_of([S], (alert("opened", "score", "evidence"), alert("closed", "score", "cleared"))), SECONDS
    )
    there = set()
    for family in scene.telemetry.registry.collect():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        name = family.name + ("_total" if family.type == "counter" else "")
        there.add((name, family.type, tuple(sorted(labels))))
    row = re.compile(r"^\| `(\w+)` \| (\w+) \|([^|]*)\| [^|]+ \|$", re.MULTILINE)
    told = {
        (name, kind, tuple(sorted(re.findall(r"`(\w+)`", labels)))) for name, kind, labels in row.findall(DOC.read_text(encoding="utf-8"))
    }
    assert told == there
