from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from detector.errors import DataError
from detector.lab.evaluate.labelled_datasets import read_labelled


def arrays(path: Path, **named: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **named)  # type: ignore[arg-type]  # its stubs want another keyword


def test_arrays_with_and_without_a_training_part(tmp_path: Path) -> None:
    label = (np.arange(100) > 90).astype(np.int8)
    arrays(tmp_path / "SMD" / "m-10.npz", train=np.ones((50, 3)), test=np.zeros((100, 3)), label=label)
    arrays(tmp_path / "SMD" / "m-2.npz", train=np.ones((50, 3)), test=np.zeros((100, 3)), label=label)
    arrays(tmp_path / "chaos" / "1.npz", x=np.arange(100.0), label=label, ignored=label)
    arrays(tmp_path / "other" / "1.npz", x=np.arange(100.0))
    two, ten, chaos = read_labelled(tmp_path)
    assert [(each.collection, each.name) for each in (two, ten, chaos)] == [("SMD", "m-2"), ("SMD", "m-10"), ("chaos", "1")]
    assert (two.train.shape, two.test.shape) == ((50, 3), (100, 3))
    assert two.train.dtype == np.float32
    assert_array_equal(two.label, label.astype(bool))
    assert (chaos.train.shape, chaos.test.shape) == ((20, 1), (80, 1))
    assert chaos.ignored is not None
    assert_array_equal(chaos.ignored, chaos.label)
    assert [each.name for each in read_labelled(tmp_path / "chaos")] == ["1"]


def test_tennessee_eastman(tmp_path: Path) -> None:
    for name in ("d00", "d00_te", "d01", "d01_te"):
        arrays(tmp_path / "TEP" / f"{name}.npz", x=np.zeros((200, 4)))
    normal, faulty = read_labelled(tmp_path)
    assert (normal.name, normal.label.sum(), len(normal.train)) == ("d00", 0, 200)
    assert (faulty.name, int(np.argmax(faulty.label)), faulty.label.sum()) == ("d01", 160, 40)


def test_nab(tmp_path: Path) -> None:
    minutes = [f"2014-04-01 {minute // 60:02d}:{minute % 60:02d}:00" for minute in range(200)]
    for name in ("labels", "data/real", "published"):
        (tmp_path / "NAB" / name).mkdir(parents=True)
    (tmp_path / "NAB" / "data" / "real" / "a.csv").write_text(
        "timestamp,value\n" + "".join(f"{time},{k}\n" for k, time in enumerate(minutes))
    )
    windows = {"real/a.csv": [[minutes[100] + ".000000", minutes[109] + ".000000"]]}
    (tmp_path / "NAB" / "labels" / "combined_windows.json").write_text(json.dumps(windows))
    np.savez(tmp_path / "NAB" / "published" / "someone.npz", scores=np.zeros(3))
    for folder in (tmp_path, tmp_path / "NAB"):
        (found,) = read_labelled(folder)
        assert (found.name, len(found.train), len(found.test)) == ("real/a", 30, 170)
        assert np.flatnonzero(found.label).tolist() == list(range(70, 80))


def test_skab(tmp_path: Path) -> None:
    (tmp_path / "SKAB" / "valve1").mkdir(parents=True)
    head = "datetime;Current;Pressure;anomaly;changepoint\n"
    rows = [f"2020-03-09 10:{k // 60:02d}:{k % 60:02d};{k};1.5;{int(k > 450)}.0;0.0\n" for k in range(500)]
    (tmp_path / "SKAB" / "valve1" / "0.csv").write_text(head + "".join(rows))
    (tmp_path / "SKAB" / "valve1" / "README.csv").write_text("a;b\n1;2\n")
    (found,) = read_labelled(tmp_path)
    assert (found.name, found.train.shape, found.test.shape) == ("valve1-0", (400, 2), (100, 2))
    assert int(np.argmax(found.label)) == 51


def test_what_cannot_be_read_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        read_labelled(tmp_path / "none")
    with pytest.raises(DataError, match="holds no labelled recordings"):
        read_labelled(tmp_path)
    (tmp_path / "A").mkdir()
    (tmp_path / "A" / "1.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"1.npz: it cannot be read"):
        read_labelled(tmp_path)


def test_a_file_that_is_none_costs_itself_and_is_told(tmp_path: Path) -> None:
    arrays(tmp_path / "A" / "1.npz", x=np.arange(100.0), label=np.zeros(100))
    arrays(tmp_path / "A" / "2.npz", x=np.arange(100.0))
    (tmp_path / "A" / "3.npz").write_bytes(b"no archive")
    left: dict[str, str] = {}
    assert [each.name for each in read_labelled(tmp_path, lambda path, reason: left.update({path.name: reason}))] == ["1"]
    assert left.pop("2.npz") == "no array `label`"
    assert left.pop("3.npz").startswith("it cannot be read")
    assert not left
