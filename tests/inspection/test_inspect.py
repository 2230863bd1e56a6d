"""`detector inspect FILE`: what it says, and that the configuration it proposes judges what it says can be judged."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detector.cli import main

FOLDER = Path(__file__).parent.parent.parent


@pytest.fixture(autouse=True)
def _away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def clock(minute: int) -> str:
    return f"2026-03-{2 + minute // 1440:02d}T{minute // 60 % 24:02d}:{minute % 60:02d}:00Z"


def table(head: str, row: Callable[[int], str], count: int = 120) -> str:
    return "\n".join([head, *(row(number) for number in range(count))]) + "\n"


def lines(row: Callable[[int], Any], count: int = 120) -> str:
    return "".join(json.dumps(row(number)) + "\n" for number in range(count))


draw = random.Random(5)
NOISE = [round(draw.gauss(20, 1), 3) for _ in range(400)]

# name of the file, content, streams, channels, and readings that are judged
FORMS: dict[str, tuple[str, str, int, list[str], int]] = {
    "comma": ("a.csv", table("time,a,b", lambda k: f"{clock(k)},{NOISE[k]},{k % 7}"), 1, ["a", "b"], 120),
    "semicolon and decimal comma": (
        "a.csv",
        table("Zeit;Temp", lambda k: f"{clock(k)};{str(NOISE[k]).replace('.', ',')}"),
        1,
        ["Temp"],
        120,
    ),
    "two streams": (
        "a.csv",
        table("time,machineID,a", lambda k: f"{clock(k // 2)},{k % 2 + 1},{NOISE[k]}"),
        2,
        ["a"],
        120,
    ),
    "date and clock apart": (
        "a.csv",
        table("Date,Time,a", lambda k: f"{13 + k // 60:02d}/03/2026,{k // 60 % 24:02d}:{k % 60:02d}:00,{NOISE[k]}", 60),
        1,
        ["a"],
        60,
    ),
    "newest first": ("a.csv", table("time,a", lambda k: f"{clock(500 - k)},{NOISE[k]}"), 1, ["a"], 120),
    "sentinel": ("a.csv", table("time,a,b", lambda k: f"{clock(k)},{-200 if k % 9 == 0 else NOISE[k]},{k % 7}"), 1, ["a", "b"], 120),
    "milliseconds": ("a.tsv", table("ts\ta", lambda k: f"{1_772_409_600_000 + k * 60_000}\t{NOISE[k]}"), 1, ["a"], 120),
    "plain JSON": ("a.jsonl", lines(lambda k: {"ts": clock(k), "machine": "m1", "a": NOISE[k], "ok": True}), 1, ["a", "ok"], 120),
    "JSON with a sentinel": (
        "a.jsonl",
        lines(lambda k: {"ts": clock(k), "machine": "m1", "a": -200 if k % 9 == 0 else NOISE[k], "b": k % 7}),
        1,
        ["a", "b"],
        120,
    ),
    "nested JSON": (
        "a.jsonl",
        lines(lambda k: {"asset": {"id": f"m{k % 3}"}, "at": clock(k // 3), "values": {"a": NOISE[k], "b": k % 5}}),
        3,
        ["values.a", "values.b"],
        120,
    ),
    "JSON in long format": (
        "a.jsonl",
        lines(lambda k: {"device": "d1", "time": clock(k // 2), "metric": ("hum", "temp")[k % 2], "value": NOISE[k]}),
        1,
        ["hum", "temp"],
        60,
    ),
    "a gateway's arrays": (
        "a.jsonl",
        lines(
            lambda k: {
                "gateway": "g",
                "readings": [{"device": name, "ts": 1_772_409_600 + 60 * k, "a": NOISE[k], "b": k % 5} for name in ("x", "y")],
            },
            60,
        ),
        2,
        ["a", "b"],
        120,
    ),
    "messages of one time with different channels": (
        "a.jsonl",
        lines(
            lambda k: {
                "name": ("cpu", "sensors")[k % 2],
                "tags": {"host": f"h{k // 2 % 2}"},
                "fields": {("usage", "temp")[k % 2]: NOISE[k]},
                "timestamp": 1_772_409_600 + 60 * (k // 4),
            }
        ),
        2,
        ["fields.usage", "fields.temp"],
        60,
    ),
    "SenML": (
        "a.jsonl",
        lines(
            lambda k: [
                {"bn": f"urn:dev:mac:{k % 2}:", "bt": 1_772_409_600 + 60 * (k // 2), "n": "temp", "u": "Cel", "v": NOISE[k]},
                {"n": "door", "vb": k % 3 == 0},
                {"n": "note", "vs": "ok"},
            ]
        ),
        2,
        ["temp", "door"],
        120,
    ),
    "an array of numbers": (
        "a.jsonl",
        lines(lambda k: {"device": "d", "ts": 1_772_409_600 + 60 * k, "v": [NOISE[k], k % 5, 1.5]}),
        1,
        ["v[0]", "v[1]", "v[2]"],
        120,
    ),
    "text as times of days first": (
        "a.jsonl",
        lines(lambda k: {"Zeit": f"{13 + k // 100:02d}.03.2026 {k // 60 % 24:02d}:{k % 60:02d}", "a": NOISE[k]}, 90),
        1,
        ["a"],
        90,
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_proposed_configuration_judges_all(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, content, streams, channels, readings = FORMS[form]
    Path(name).write_text(content, encoding="utf-8")
    assert main(["inspect", name, "--json", "--write", "detector.yaml"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["facts"]["streams"], said["facts"]["readings"]) == (streams, readings)
    assert [channel["name"] for channel in said["read"]["channels"]] == channels
    assert said["configuration"] == Path("detector.yaml").read_text(encoding="utf-8")
    assert main(["replay", name, "--config", "detector.yaml", "--out", "v.parquet", "--json", "--strict"]) == 0
    judged = json.loads(capsys.readouterr().out)
    assert (judged["streams"], judged["channels"]) == (streams, channels)
    assert judged["readings"]["scored"] + judged["readings"]["warmup"] == readings
    assert judged["not_judged"] == 0
    assert judged["blind"] == []
    assert (judged["from"], judged["to"]) == (said["facts"]["first"], said["facts"]["last"])


@pytest.mark.parametrize(
    "form",
    ["plain JSON", "JSON with a sentinel", "nested JSON", "a gateway's arrays", "JSON in long format", "an array of numbers", "SenML"],
)
def test_messages_get_a_configuration_that_run_uses_too(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, content, *_ = FORMS[form]
    Path(name).write_text(content, encoding="utf-8")
    assert main(["inspect", name]) == 0
    assert "\ninput:\n" in capsys.readouterr().out


def test_what_a_person_reads(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"{clock(k)},{-200 if k % 10 == 0 else NOISE[k]},{k},NW,5" for k in range(100)] + ["noon,1,2,N,5", f"{clock(300)},20,101,N,5"]
    Path("plant.csv").write_text("time,temp (°C),starts,wind,fixed\n" + "\n".join(rows) + "\n", encoding="utf-8")
    assert main(["inspect", "plant.csv"]) == 0
    said = capsys.readouterr().out
    for part in (
        "format     text separated by comma, UTF-8",
        "time       time: dates, year first",
        "2026-03-02T00:00:00Z to 2026-03-02T05:00:00Z",
        "a reading every 1 min of each stream; 1 gap, the longest 3.35 h",
        "temp (°C): number",
        "missing in 10: 10 '-200'",
        "starts: counter, 0 to 101",
        "fixed: constant, 5",
        "missing?   -200 looks like a missing value: it stands in temp (°C) 10 times",
        "left       wind: text: NW, N",
        "judged     101 of 102 readings",
        "not judged 1: no readable time",
        "missing_values: [-200]",
    ):
        assert part in said, said


def test_readings_without_a_value_are_not_counted_as_judged(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_text(table("time,a", lambda k: f"{clock(k)},{'' if k % 9 == 0 else NOISE[k]}"), encoding="utf-8")
    assert main(["inspect", "a.csv"]) == 0
    said = capsys.readouterr().out
    assert "judged     106 of 120 readings" in said
    assert "not judged 14: empty: without any of the channels" in said


def test_a_configuration_that_is_there_is_not_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.csv").write_text(FORMS["comma"][1], encoding="utf-8")
    Path("detector.yaml").write_text("group: mine\n", encoding="utf-8")
    assert main(["inspect", "a.csv", "--write", "detector.yaml"]) == 2
    assert "detector.yaml is there already" in capsys.readouterr().err
    assert Path("detector.yaml").read_text(encoding="utf-8") == "group: mine\n"


def test_messages_that_a_configuration_reads_are_described_as_it_reads_them(capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.jsonl").write_text(FORMS["nested JSON"][1], encoding="utf-8")
    Path("mine.yaml").write_text("input: {stream: asset.id, event_time: {field: at}, channels: [values.b]}\n", encoding="utf-8")
    assert main(["inspect", "a.jsonl", "--config", "mine.yaml"]) == 0
    said = capsys.readouterr().out
    assert "JSON messages, read as `input:` says" in said
    assert "Proposed" not in said
    assert main(["inspect", "a.jsonl", "--config", "mine.yaml", "--write", "detector.yaml"]) == 2
    assert "says already how messages are read" in capsys.readouterr().err


def test_a_clock_that_was_set_back_is_suspected(capsys: pytest.CaptureFixture[str]) -> None:
    local = [f"2026-10-25 0{2 if minute < 120 else 3}:{minute % 60:02d}" for minute in range(180)]  # 02:00 to 02:59 comes twice
    Path("a.csv").write_text("time,a\n" + "".join(f"{time},{NOISE[k]}\n" for k, time in enumerate(local)), encoding="utf-8")
    assert main(["inspect", "a.csv"]) == 0
    assert "times go back by an hour in 1 places: if a clock was set back then, name its zone with --zone" in capsys.readouterr().out
    assert main(["inspect", "a.csv", "--zone", "Europe/Berlin", "--write", "detector.yaml"]) == 0
    said = capsys.readouterr().out
    assert "in order" in said
    assert "2026-10-25T00:00:00Z to 2026-10-25T02:59:00Z" in said
    assert "zone: Europe/Berlin" in Path("detector.yaml").read_text(encoding="utf-8")


def test_nothing_to_inspect_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect"]) == 2
    assert "say what to inspect: a recording or a topic" in capsys.readouterr().err
