"""The command line: what each command does, and that every mistake is one message, a fix, and an exit code."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest

import detector.cli
from detector.adapters.bundle import load_bundle
from detector.adapters.recordings.file_log import FileLog, recorded_format
from detector.adapters.recordings.reader import read_recording
from detector.cli import main
from detector.codec.readings import JsonReadings
from detector.core.detector import Detector
from detector.core.readings import Disposition
from detector.core.rules import Settings

COMMANDS = ["run", "train", "check", "alerts", "replay", "simulate", "schema", "topics create", "topics check"]
NOBODY = "127.0.0.1:1"  # a port on which nobody listens


@pytest.fixture(autouse=True)
def _away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in an empty folder, with no settings in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("DETECTOR_")]:
        monkeypatch.delenv(name)


def failed(capsys: pytest.CaptureFixture[str], command: str, code: int) -> str:
    """Run a command that must fail; what it says on standard error."""
    assert main(command.split()) == code
    told = capsys.readouterr().err
    assert "Traceback" not in told
    return told


# -- the command line itself -----------------------------------------------------------------------------------------------


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"detector {detector.__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command.split(), "--help"]) == 0
    assert f"Example: detector {command}" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["frobnicate", "run --frob", "replay", "simulate --machines 0", "schema everything", "topics frob"])
def test_wrong_use_is_2(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "Usage: detector" in failed(capsys, command, 2)


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    program = "import sys; from detector.cli import main; main(['--help']); print([m for m in ('torch', 'numba', 'confluent_kafka', 'pyarrow', 'numpy') if m in sys.modules])"
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    assert time.monotonic() - began < 5  # 0.2 s on an idle machine


def test_python_dash_m() -> None:
    done = subprocess.run([sys.executable, "-m", "detector", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"detector {detector.__version__}\n")


def test_a_bug_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("detector.config.load_config", broken)
    told = failed(capsys, "run", 1)
    assert told.splitlines()[0] == "error: ZeroDivisionError: division by zero; this is a bug"
    monkeypatch.setenv("DETECTOR_DEBUG", "1")
    assert main(["run"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_debug_shows_where(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DETECTOR_DEBUG", "")  # so that the option's own setting is undone after the test
    assert main(["--debug", "run", "--config", "absent.yaml"]) == 2
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert "error: there is no configuration file absent.yaml" in told


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("detector.config.load_config", interrupted)
    failed(capsys, "run", 130)


# -- mistakes --------------------------------------------------------------------------------------------------------------


def test_nothing_to_read(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("run", "check"):
        told = failed(capsys, command, 2)
        assert "error: no topic to read" in told
        assert "fix: " in told


def test_bad_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "detector.yaml").write_text("modle: plant\nhttp: {port: many}\n", encoding="utf-8")
    told = failed(capsys, "run --config detector.yaml", 2)
    assert "detector.yaml: " in told
    assert "modle: unknown key; did you mean 'model'?" in told
    assert "http.port: Input should be a valid integer" in told
    assert len(told.splitlines()) == 2


def test_no_such_model(capsys: pytest.CaptureFixture[str]) -> None:
    told = failed(capsys, "run --topic sensors --model nothing-of-that-name", 1)
    assert "nothing-of-that-name" in told
    assert "fix: " in told


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (["a", "b"], "the model has 4 channels (temperature, pressure, vibration, current), input.channels names 2 (a, b)"),
        (["pressure", "temperature", "vibration", "current"], "in another order"),
    ],
)
def test_a_model_of_other_channels(
    channels: list[str], expected: str, small_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "detector.yaml").write_text(json.dumps({"input": {"topics": ["t"], "channels": channels}}), encoding="utf-8")
    told = failed(capsys, f"check --config detector.yaml --model {small_bundle}", 1)
    assert expected in told
    assert "fix: " in told


@pytest.mark.parametrize(
    "input", ["{topics: [t]}", "{topics: [t], array_path: v}", "{topics: [t], long_format: {channel: tag, value: value}}"]
)
@pytest.mark.parametrize("command", ["run", "check", "schema reading"])
def test_the_universal_model_must_be_told_the_channels(
    command: str, input: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "detector.yaml").write_text(f"input: {input}", encoding="utf-8")
    told = failed(capsys, f"{command} --config detector.yaml", 2)
    assert "error: the model 'universal' judges any channels, and nothing says which are yours" in told
    assert "fix: name them: 'input: {channels: [temperature, rpm]}'" in told


@pytest.mark.parametrize(
    "input", ["{topics: [t]}", "{topics: [t], array_path: v}", "{topics: [t], long_format: {channel: tag, value: value}}"]
)
def test_the_universal_model_with_channels(input: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "detector.yaml").write_text(f"input: {input}", encoding="utf-8")
    assert main(["check", "--config", "detector.yaml", "--channels", "a,b.c,d", "--no-broker"]) == 0
    assert re.search(r"^model +good: universal \w{12}, channels a, b.c, d$", capsys.readouterr().out, re.MULTILINE)


def test_an_unknown_kafka_property(small_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "detector.yaml").write_text(f"kafka: {{bootstrap.servers: '{NOBODY}', sasl.pasword: hunter2}}", encoding="utf-8")
    told = failed(capsys, f"run --config detector.yaml --topic t --model {small_bundle}", 2)
    assert "sasl.pasword" in told
    assert "hunter2" not in told


def test_no_broker(small_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from detector.adapters.kafka.admin import ask_cluster

    for module in ("topics", "range_reader"):
        monkeypatch.setattr(
            f"detector.adapters.kafka.{module}.ask_cluster", lambda properties, timeout_s, on_log: ask_cluster(properties, 0.3, on_log)
        )
    with_model = (f"run --topic t --model {small_bundle}", f"check --topic t --model {small_bundle}")
    for command in (*with_model, "topics check", "topics create", "alerts --follow"):
        told = failed(capsys, f"{command} --bootstrap-servers {NOBODY}", 1)
        assert f"error: no Kafka broker answered at {NOBODY}" in told
        assert "fix: check that the brokers run" in told


def test_no_recording(small_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no file absent.parquet" in failed(capsys, f"replay absent.parquet --out v.parquet --model {small_bundle}", 1)
    assert not list(tmp_path.iterdir())


def test_a_recording_of_other_channels(small_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.csv").write_text("time,a,b\n2026-01-01T00:00:00Z,1,2\n", encoding="utf-8")
    told = failed(capsys, f"replay other.csv --out v.parquet --model {small_bundle}", 1)
    assert "temperature" in told
    assert "--channels" in told
    told = failed(capsys, f"replay other.csv --out v.parquet --model {small_bundle} --channels a,b", 1)
    assert "the model has 4 channels (temperature, pressure, vibration, current), --channels names 2" in told


def test_a_file_that_cannot_be_written(plant_recording: Path, small_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "cannot write" in failed(capsys, f"replay {plant_recording} --out absent/v.parquet --model {small_bundle}", 1)
    assert "cannot write" in failed(capsys, "simulate --out absent/x.parquet --hours 1", 1)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("simulate", "give one of --topic and --out"),
        ("simulate --topic t --out x.csv", "give one of --topic and --out"),
        ("simulate --out x.xlsx", "ends in .parquet, .csv, .jsonl"),
        ("simulate --out x.csv --speed fast", "give a positive number, or 'full'"),
        ("simulate --out x.csv --from y.csv", "give --topic with --from"),
        ("simulate --out x.csv --hours 1 --faults 50", "faults do not fit"),
        ("simulate --out x.csv --faults 1 --kinds spike,wobble", "no kind of fault is named 'wobble'"),
        ("simulate --out x.csv --faults 1 --kinds ,", "give 'all' or some of spike, level_shift"),
    ],
)
def test_simulate_refuses(command: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert expected in failed(capsys, command, 2)


# -- what the commands do --------------------------------------------------------------------------------------------------


def test_schemas(small_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("schema config", "schema alert", f"schema reading --model {small_bundle}"):
        assert main(command.split()) == 0
        schema = json.loads(capsys.readouterr().out)
        jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({"temperature": 1.5, "pressure": None}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"temperature": [1]}, schema)


def test_check_without_a_broker(small_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"check --topic t --model {small_bundle} --no-broker".split()) == 0
    told = capsys.readouterr().out
    assert re.search(r"^configuration +good", told, re.MULTILINE)
    assert re.search(r"^model +good: small \w{12}, channels temperature, pressure", told, re.MULTILINE)


def test_simulated_recordings_are_the_same_in_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.parquet", "b.parquet", "c.csv", "d.jsonl"):
        assert main(f"simulate --out {name} --machines 3 --hours 20 --faults 4 --seed 9 --labels {name}.labels".split()) == 0
    assert Path("a.parquet").read_bytes() == Path("b.parquet").read_bytes()
    faults = [json.loads(line) for line in Path("a.parquet.labels").read_text().splitlines()]
    assert len(faults) == 4
    assert {"kind", "stream", "start_us", "end_us", "channels"} <= faults[0].keys()
    a, c, d = (read_recording(Path(name)) for name in ("a.parquet", "c.csv", "d.jsonl"))
    for other in (c, d):
        assert (a.streams, a.channels) == (other.streams, other.channels)
        assert np.array_equal(a.value, other.value, equal_nan=True)
        assert np.abs(a.event_time_us - other.event_time_us).max() < 1_000  # JSON lines have milliseconds
    lines = Path("d.jsonl").read_text().splitlines()
    assert len(lines) == len(a)
    first = json.loads(lines[0])
    assert first["stream"] == a.streams[a.stream[0]]
    assert first["temperature"] == a.value[0, 0]


def test_simulated_faults_are_of_the_kinds_asked_for() -> None:
    base = "simulate --out x.csv --machines 4 --hours 60 --faults 14 --seed 9 --labels"
    named = {"usual": "", "some": " --kinds phase_stuck,cycle_reversed", "all": " --kinds all"}
    kinds = {}
    for name, options in named.items():
        assert main(f"{base} {name}.jsonl{options}".split()) == 0
        kinds[name] = {json.loads(line)["kind"] for line in Path(f"{name}.jsonl").read_text().splitlines()}
    assert kinds["some"] == {"phase_stuck", "cycle_reversed"}
    assert kinds["all"] == kinds["usual"] | {"phase_skipped", "phase_stuck", "cycle_reversed"}
    assert len(kinds["usual"]) == 10


def test_replay_writes_one_row_per_reading(plant_recording: Path, small_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"replay {plant_recording} --model {small_bundle} --out v.parquet --alerts out/alerts.jsonl".split()) == 0
    assert "readings of 8 streams" in capsys.readouterr().out
    rows, told = pq.read_table("v.parquet"), pq.read_table(plant_recording)
    assert rows.column_names == ["stream", "event_time_us", "score", "tail_probability", "disposition", "alert"]
    assert rows["stream"].to_pylist() == told["stream"].to_pylist()
    assert rows["event_time_us"].to_numpy().tolist() == told["time"].to_numpy().astype("datetime64[us]").astype(np.int64).tolist()
    assert set(rows["disposition"].to_pylist()) == {"WARMUP", "SCORED"}
    opened = [alert for line in Path("out/alerts.jsonl").read_text().splitlines() if (alert := json.loads(line))["status"] == "opened"]
    ids = {alert for alert in rows["alert"].to_pylist() if alert is not None}
    assert ids <= {alert["id"] for alert in opened}
    assert {alert["id"] for alert in opened if alert["kind"] == "score"} <= ids


def test_replay_without_a_model_judges_all_numeric_columns(plant_recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"replay {plant_recording} --out v.parquet --alerts alerts.jsonl".split()) == 0
    assert "readings of 8 streams" in capsys.readouterr().out
    assert set(pq.read_table("v.parquet")["disposition"].to_pylist()) == {"WARMUP", "SCORED"}
    alerts = [json.loads(line) for line in Path("alerts.jsonl").read_text().splitlines()]
    assert {alert["model"]["name"] for alert in alerts} == {"universal"}
    model = load_bundle("universal", ("temperature", "pressure", "vibration", "current"))
    assert {alert["model"]["fingerprint"] for alert in alerts} == {model.fingerprint}  # which covers the channels' names
    assert main(f"replay {plant_recording} --out w.parquet --channels current,rpm".split()) == 1
    assert "has no column 'rpm'" in capsys.readouterr().err


def test_replay_judges_ties_as_the_service_with_the_same_configuration_does(small_bundle: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Ten rows of one stream and second, as a recording of whole seconds has them; the first row of all comes once more, at the end: the file is sorted."""
    rows = [f"2026-01-01T00:{k // 600:02}:{k // 10 % 60:02},{k % 7},{k % 5},{k % 3},1" for k in range(1_200)]
    header = "time,temperature,pressure,vibration,current"
    Path("r.csv").write_text("\n".join([header, *rows, rows[0]]), encoding="utf-8")
    command = f"replay r.csv --model {small_bundle} --out v.parquet"
    for event_time, duplicates in (("{}", 0), ("{field: time}", 1_081), ("{field: time, ties: offset}", 0), ("{ties: drop}", 1_081)):
        Path("detector.yaml").write_text(f"input: {{event_time: {event_time}}}", encoding="utf-8")
        assert main([*command.split(), "--config", "detector.yaml"]) == 0
        told = capfd.readouterr()
        assert pq.read_table("v.parquet")["disposition"].to_pylist().count("DUPLICATE") == duplicates
        assert "sorted     by time: the file is unordered" in told.out
        last = "1,201 readings of 1 stream, 0 alerts -> v.parquet"
        if duplicates:
            last += "; warning: 1,081 of 1,201 readings were not judged: 1,081 of a stream and time that had a reading"
        assert told.out.splitlines()[-1] == last
        assert ("input.event_time.ties: offset" in told.err) is bool(duplicates)


def test_check_says_what_event_time_is(small_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for event_time, line in (
        ("{}", "Kafka's own; readings of one stream and one time are judged in the order of offsets"),
        ("{field: at, unit: ms}", "field at, ms; readings of one stream and one time are ignored as duplicates"),
        ("{field: at, ties: offset}", "field at, auto; readings of one stream and one time are judged in the order of offsets"),
    ):
        Path("detector.yaml").write_text(f"input: {{topics: sensors, event_time: {event_time}}}", encoding="utf-8")
        assert main(f"check --config detector.yaml --model {small_bundle} --no-broker".split()) == 0
        assert f"event time     good: {line}" in capsys.readouterr().out.splitlines()


def test_replay_gives_what_the_core_gives(plant_recording: Path, small_bundle: Path) -> None:
    assert main(f"replay {plant_recording} --model {small_bundle} --out v.parquet".split()) == 0
    recording, core = read_recording(plant_recording), Detector(load_bundle(small_bundle), Settings())
    log = FileLog.of_recording(recording, plant_recording.name)
    decoder = JsonReadings(recorded_format(recording.channels), core.names)
    log.resume({partition: at.offset for partition, at in log.restore(log.poll(1, 0).assigned).items()})
    result = core.detect(decoder.decode(log.poll(1_000_000, 0).messages).batch)
    rows = pq.read_table("v.parquet")
    assert np.array_equal(rows["score"].to_numpy(), result.score, equal_nan=True)
    assert np.array_equal(rows["tail_probability"].to_numpy(), result.tail_probability, equal_nan=True)
    assert rows["disposition"].to_pylist() == [Disposition(d).name for d in result.disposition]
    assert rows["alert"].to_pylist() == [result.alert.get(position) for position in range(len(result))]


def test_replay_names_texts_for_numbers_and_readings_without_any_channel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[dict[str, Any]] = [
        {"id": "a", "time": 1790000000 + k, "temp": 20.5 + k % 3, "hum": "unavailable" if k % 20 == 0 else 5} for k in range(100)
    ]
    rows += [{"id": "a", "time": 1790000100, "temp": None, "hum": ""}]
    (tmp_path / "r.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    (tmp_path / "detector.yaml").write_text("input: {stream: id, event_time: {field: time}, channels: [temp, hum]}", encoding="utf-8")
    assert main(["replay", "r.jsonl", "--config", "detector.yaml", "--out", "v.parquet", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["texts"] == {"hum": {"unavailable": 5, "": 1}}
    assert (said["judged"], said["readings"]["empty"], said["not_judged"]) == (100, 1, 1)


def test_replay_of_json_lines_with_bad_ones(small_bundle: Path, tmp_path: Path) -> None:
    lines = [
        '{"id": "a", "time": 1790000000, "temperature": 1, "pressure": 2, "vibration": 3, "current": 4}',
        "not JSON",
        '{"id": "a", "time": 1789999990, "temperature": 1}',
        '{"id": "a", "time": "noon", "temperature": 1}',
        '{"id": "b", "time": 1790000010, "temperature": 1}',
    ]
    (tmp_path / "r.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "detector.yaml").write_text("input: {stream: id, event_time: {field: time}}", encoding="utf-8")
    assert main(["replay", "r.jsonl", "--config", "detector.yaml", "--out", "u.parquet"]) == 0  # all fields of numbers are channels
    assert main(["replay", "r.jsonl", "--config", "detector.yaml", "--out", "u.parquet", "--channels", "temperature,pressure"]) == 0
    assert main(["replay", "r.jsonl", "--config", "detector.yaml", "--out", "u.parquet", "--strict"]) == 1
    command = f"replay r.jsonl --model {small_bundle} --config detector.yaml --out v.parquet --dead-letters dead.jsonl"
    assert main(command.split()) == 0
    rows = pq.read_table("v.parquet")
    assert rows["disposition"].to_pylist() == ["WARMUP", "INVALID", "WARMUP", "INVALID", "WARMUP"]  # in the order of their times
    assert rows["stream"].to_pylist() == ["a", None, "a", None, "b"]
    assert rows["score"].null_count == 2
    dead = [json.loads(line) for line in Path("dead.jsonl").read_text().splitlines()]
    assert [letter["value"] for letter in dead] == [lines[3], "not JSON"]
    assert "time: expected" in dead[0]["headers"]["__connect.errors.exception.message"]
