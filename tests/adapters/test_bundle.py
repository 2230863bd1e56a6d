"""Bundles on disk: what is written is read back, and what is damaged is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from detector.adapters import bundle as bundles
from detector.adapters.bundle import VERSION, Bundle, load_bundle, read_bundle, save_bundle
from detector.core.alarm import Prior
from detector.core.detector import Detector
from detector.core.model import Model
from detector.errors import BundleError, ConfigError
from tests.core.builders import log_of, network_of, normal_values, records_of, run, unfitted_model_of, universal_of


def small_model(seed: int = 0) -> Model:
    model = unfitted_model_of(network_of(3, hidden=8, layers=2, seed=seed))
    return replace(model, channels=("a", "b.c", "d e"), prior=Prior(1.5, 0.25))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    original = small_model()
    saved = save_bundle(tmp_path / "mine", Bundle(original, {"verdict": "good"}, b"png"))
    read = read_bundle(tmp_path / "mine")
    assert read.training == {"verdict": "good"}
    assert read.picture == b"png"
    model = read.model
    assert isinstance(saved, Model)
    assert isinstance(model, Model)
    assert (model.name, model.fingerprint, model.channels, model.prior) == ("mine", saved.fingerprint, original.channels, original.prior)
    log = log_of([("s", float(t), value) for t, value in enumerate(normal_values(60, 3))], 3)
    detectors = [Detector(each) for each in (original, saved, model)]
    for detector in detectors:
        run(detector, log)
    first, *others = map(records_of, detectors)
    assert first == others[0] == others[1]


def test_the_fingerprint_covers_what_judging_depends_on(tmp_path: Path) -> None:
    first = save_bundle(tmp_path / "a", Bundle(small_model(), {"note": 1}))
    assert save_bundle(tmp_path / "b", Bundle(small_model(), {"note": 2})).fingerprint == first.fingerprint
    assert save_bundle(tmp_path / "c", Bundle(small_model(seed=1))).fingerprint != first.fingerprint


def test_no_pickle(tmp_path: Path) -> None:
    save_bundle(tmp_path / "a", Bundle(small_model()))
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"manifest.json", "tensors.safetensors"}


@pytest.mark.parametrize("damage", ["tensors", "manifest", "version", "truncated", "not json"])
def test_damage_is_refused_with_a_remedy(tmp_path: Path, damage: str) -> None:
    save_bundle(tmp_path / "a", Bundle(small_model()))
    manifest, tensors = tmp_path / "a" / "manifest.json", tmp_path / "a" / "tensors.safetensors"
    if damage == "tensors":
        stored = bytearray(tensors.read_bytes())
        stored[-5] ^= 1
        tensors.write_bytes(bytes(stored))
    elif damage == "truncated":
        tensors.write_bytes(tensors.read_bytes()[:100])
    elif damage == "not json":
        manifest.write_text("{")
    else:
        said = json.loads(manifest.read_text())
        said["version" if damage == "version" else "hidden"] = 99
        manifest.write_text(json.dumps(said))
    with pytest.raises(BundleError) as refused:
        load_bundle(tmp_path / "a")
    assert refused.value.fix


def test_a_universal_bundle_is_loaded_for_channels(tmp_path: Path) -> None:
    saved = save_bundle(tmp_path / "any", Bundle(universal_of(8), {"note": 1}))
    manifest = json.loads((tmp_path / "any" / "manifest.json").read_text())
    assert (manifest["version"], manifest["channels"]) == (VERSION, "any")
    model = load_bundle(tmp_path / "any", ["a", "b", "c"])
    assert (model.name, model.channels, model.score.channels, model.prior) == ("any", ("a", "b", "c"), 3, saved.prior)
    assert model.is_universal
    assert model.layout().shapes["hidden"] == (1, 8)
    assert model.layout().shapes["scale"] == (11, 3)


def test_the_fingerprint_of_a_universal_model_covers_its_channels(tmp_path: Path) -> None:
    saved = save_bundle(tmp_path / "any", Bundle(universal_of(8)))
    names = [("a",), ("a", "b"), ("b", "a"), ("ab",)]
    found = [load_bundle(tmp_path / "any", channels).fingerprint for channels in names]
    assert len({saved.fingerprint, *found}) == 5
    assert load_bundle(tmp_path / "any", ["a", "b"]).fingerprint == found[1]


@pytest.mark.parametrize("channels", [None, ()])
def test_a_universal_bundle_without_channels_says_what_to_write(channels: tuple[str, ...] | None, tmp_path: Path) -> None:
    save_bundle(tmp_path / "any", Bundle(universal_of(8)))
    with pytest.raises(ConfigError, match="the model 'any' judges any channels, and nothing says which are yours") as refused:
        load_bundle(tmp_path / "any", channels)
    assert "input: {channels: [temperature, rpm]}" in refused.value.fix


def test_a_bundle_of_channels_keeps_its_own(tmp_path: Path) -> None:
    save_bundle(tmp_path / "mine", Bundle(small_model()))
    assert load_bundle(tmp_path / "mine", ["x"]).channels == ("a", "b.c", "d e")


def test_a_missing_bundle_names_those_that_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "shipped_folder", lambda: tmp_path)
    save_bundle(tmp_path / "plant", Bundle(small_model()))
    assert load_bundle("plant").name == "plant"
    with pytest.raises(BundleError, match="no model bundle 'plnt'") as refused:
        load_bundle("plnt")
    assert "plant" in refused.value.fix
