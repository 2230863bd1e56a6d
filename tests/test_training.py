"""`detector train` as people run it: a first model soon, the trained one if it is better, and always one to use."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from detector.adapters.bundle import read_bundle
from detector.cli import main
from detector.errors import ConfigError
from detector.lab import gradient
from detector.lab import train as lab_train
from detector.lab.options import Options
from detector.lab.progress import Progress, Reporter
from detector.lab.sequences import split
from tests.lab.test_train import chaos

SMALL = ["--hidden", "16", "--epochs", "6", "--window", "64", "--no-picture"]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a trained memory knows better than a random one."""
    machines = chaos(12, 600)
    path = tmp_path_factory.mktemp("recording") / "chaos.parquet"
    value = np.concatenate([machine.value for machine in machines])
    names = np.repeat([machine.stream for machine in machines], 600)
    times = np.tile(1_767_225_600_000_000 + np.arange(600) * 1_000_000, len(machines))
    pa_parquet.write_table(pa.table({"time": times, "stream": names, "a": value[:, 0], "b": value[:, 1]}), path)
    return path


def trained(recording: Path, out: Path, *options: str) -> int:
    return main(["train", str(recording), "--out", str(out), *SMALL, *options])


def is_quick(out: Path) -> bool:
    """Whether the bundle there is the first model."""
    quick: bool = read_bundle(out).training["options"]["is_quick"]
    return quick


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def spoiled(fit: Callable[..., Any]) -> Callable[..., Any]:
    """A fit whose head is wrong."""

    def fit_and_spoil(*arguments: Any) -> Any:
        network, epochs = fit(*arguments)
        return replace(network, head_bias=network.head_bias + np.float32(0.5)), epochs

    return fit_and_spoil


def test_the_trained_model_takes_the_first_one_s_place_if_it_is_better(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained(recording, tmp_path / "mine") == 0
    told = capsys.readouterr()
    assert f"{tmp_path / 'mine'} holds the trained one" in told.out.replace("\n", "")
    assert "holds the first model until the trained one is better" in told.err
    assert not is_quick(tmp_path / "mine")
    assert trained(recording, tmp_path / "quick", "--quick") == 0
    assert is_quick(tmp_path / "quick")
    monkeypatch.setattr(gradient, "fit_memory", spoiled(gradient.fit_memory))
    assert trained(recording, tmp_path / "worse") == 0
    assert f"{tmp_path / 'worse'} holds the first model" in capsys.readouterr().out.replace("\n", "")
    assert read_bundle(tmp_path / "worse").model.fingerprint == read_bundle(tmp_path / "quick").model.fingerprint


def test_who_stops_it_has_a_model(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradient, "fit_memory", interrupted)
    out = tmp_path / "mine"
    assert trained(recording, out) == 130
    assert f"stopped: {out} holds the first model" in capsys.readouterr().err
    first = read_bundle(out).model.fingerprint
    assert is_quick(out)
    assert trained(recording, out, "--seed", "2") == 130  # what was there may have taken long
    assert f"stopped: {out} keeps the model that was there" in capsys.readouterr().err
    assert read_bundle(out).model.fingerprint == first


def test_it_speaks_before_it_imports() -> None:
    program = "import sys; from detector.cli import main; main(['train', 'absent.parquet']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[0] == "reading absent.parquet ..."
    assert done.stdout.splitlines()[-1] == "False"


def test_without_torch_it_says_what_to_install_before_it_reads(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_train, "find_spec", lambda name: None)
    assert trained(recording, tmp_path / "mine") == 2
    told = capsys.readouterr()
    assert "pip install 'detector[train]'" in told.err
    assert "--quick" in told.err
    assert not told.out
    with pytest.raises(ConfigError, match="needs torch"):
        lab_train.train(chaos(8, 400), ("a", "b"), Options("reconstruction", 8))
    assert trained(recording, tmp_path / "mine", "--quick") == 0


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        (Options(hidden=8, is_quick=True), ["random memory", "calibration"]),
        (Options(hidden=8, epochs_max=2, window_readings=64), ["epoch 1", "epoch 2", "readout", "calibration"]),
        (Options("reconstruction", 8, epochs_max=2, window_readings=64), ["epoch 1", "epoch 2", "calibration"]),
    ],
    ids=["quick", "trained", "reconstruction"],
)
def test_progress_goes_from_nothing_to_nearly_all_of_every_stage(options: Options, stages: Sequence[str]) -> None:
    told: list[Progress] = []
    lab_train.train(chaos(8, 400), ("a", "b"), options, Reporter(on_progress=told.append))
    assert list(dict.fromkeys(each.stage for each in told)) == stages
    for stage in stages:
        played = [each.played for each in told if each.stage == stage]
        total = next(each.total for each in told if each.stage == stage)
        assert played == sorted(played)
        assert played[0] == 0
        assert 0.75 * total < played[-1] <= total, "what the last horizons reach beyond, and where windows begin, is not played"
    parts = split(chaos(8, 400), options.seed)
    assert told[0].total >= sum(len(each) for part in (parts.train, parts.held_out) for each in part)
