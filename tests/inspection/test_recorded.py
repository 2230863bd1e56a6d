"""`detector inspect` on public recordings in several forms: the configuration that it proposes judges all, with the right streams and channels.

The recordings lie outside of the repository; `conftest.benchmark_data` says where.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detector.cli import main


def skab_as_json(data: Path, folder: Path) -> Path:
    """Nested messages, a stream per run."""
    path = folder / "skab.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for run in (1, 2):
            for row in csv.DictReader((data / "SKAB" / "valve1" / f"{run}.csv").open(encoding="utf-8"), delimiter=";"):
                values = {name: float(text) for name, text in row.items() if name not in ("datetime", "anomaly", "changepoint")}
                time = row["datetime"].replace(" ", "T") + "Z"
                file.write(json.dumps({"machine": {"id": f"valve1/{run}"}, "measured_at": time, "values": values}) + "\n")
    return path


def smd_as_parquet(data: Path, folder: Path) -> Path:
    """A server's 38 channels, with timestamps."""
    name = sorted((data / "SMD").glob("*.npz"))[0]
    test = np.load(name)["test"][:3_000].astype(np.float32)
    times = pa.array(1_772_409_600_000 + 60_000 * np.arange(len(test)), pa.timestamp("ms", tz="UTC"))
    path = folder / "smd.parquet"
    columns = {"ts": times, "host": pa.array([name.stem] * len(test))} | {f"m{k}": pa.array(test[:, k]) for k in range(test.shape[1])}
    pq.write_table(pa.table(columns), path)
    return path


def tep_as_long_format(data: Path, folder: Path) -> Path:
    """A value per row, semicolons, decimal commas, times in milliseconds."""
    x = np.load(data / "TEP" / "d00.npz")["x"][:200, :5]
    path = folder / "tep.csv"
    lines = ["Timestamp;Variable;Value"]
    lines += [f"{1_772_409_600_000 + 180_000 * t};XMEAS{k};{f'{x[t, k]:.5f}'.replace('.', ',')}" for t in range(len(x)) for k in range(5)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@dataclass(frozen=True)
class Recorded:
    """Where a recording is, or what makes it; and what is right. empty: readings without any channel"""

    place: str | Callable[[Path, Path], Path]
    streams: int
    channels: int
    readings: int
    options: tuple[str, ...] = ()
    empty: int = 0


RECORDINGS = {
    "air quality": Recorded("home/AirQualityUCI.csv", 1, 13, 9_357, empty=31),
    "Beijing": Recorded("home/PRSA_data.csv", 1, 7, 43_824),
    "household": Recorded("home/household_power_2_days.csv", 1, 7, 2_880),
    "occupancy": Recorded("home/occupancy_datatraining.txt", 1, 6, 8_143),
    "engines": Recorded(
        "home/train_FD001.txt", 100, 24, 20_631, ("--stream", "column1", "--time", "column2", "--time-format", "elapsed_h")
    ),
    "a water rig": Recorded("SKAB/valve1/1.csv", 1, 8, 1_145),
    "road traffic": Recorded("NAB/data/realTraffic/speed_7578.csv", 1, 1, 1_127),
    "a machine": Recorded("NAB/data/realKnownCause/machine_temperature_system_failure.csv", 1, 1, 22_695),
    "the rig as nested JSON": Recorded(skab_as_json, 2, 8, 2_220),
    "a server as Parquet": Recorded(smd_as_parquet, 1, 38, 3_000),
    "a plant in long format": Recorded(tep_as_long_format, 1, 5, 200),
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_proposed_configuration_judges_a_recording_of_people(
    name: str, benchmark_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    want = RECORDINGS[name]
    path = benchmark_data / want.place if isinstance(want.place, str) else want.place(benchmark_data, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", str(path), *want.options, "--json", "--write", "detector.yaml"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["facts"]["streams"], len(said["read"]["channels"]), said["facts"]["readings"]) == (
        want.streams,
        want.channels,
        want.readings,
    )
    assert main(["replay", str(path), "--config", "detector.yaml", "--out", "v.parquet", "--json"]) == 0
    judged = json.loads(capsys.readouterr().out)
    assert (judged["streams"], len(judged["channels"])) == (want.streams, want.channels)
    assert (judged["judged"], judged["not_judged"]) == (want.readings - want.empty, want.empty)
    assert judged["blind"] == []
