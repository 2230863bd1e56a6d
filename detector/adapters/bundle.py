"""Bundles on disk: a folder with a manifest, the tensors, and a picture of the training. No pickle anywhere.

    NAME/manifest.json         what it is: version, kind, sizes, channels ("any": universal), prior, how it was trained, fingerprint
    NAME/tensors.safetensors   weights, scaling, calibration
    NAME/training.png          for people

The fingerprint is a SHA-256 over everything that judging depends on; a bundle that does not match its own is refused. A universal
bundle is loaded for channels: the fingerprint of the model covers their names too, since state and alerts depend on them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from numpy.typing import NDArray

import detector
from detector.core.model import Model, Universal
from detector.core.predictor import Predictor
from detector.core.scaling import Scaling
from detector.core.scoring import BandScorer
from detector.core.threshold import Prior
from detector.errors import BundleError, ConfigError

VERSION = 1
ANY = "any"
JUDGED_BY = ("version", "kind", "channels", "inputs", "hidden", "layers", "horizons", "lags", "prior")
MANIFEST, TENSORS, PICTURE = "manifest.json", "tensors.safetensors", "training.png"


@dataclass(frozen=True)
class Bundle:
    """A model, and what people want to know of its making.

    training   plain values: data, options, errors beside the baselines', the verdict in words
    picture    PNG, or nothing
    """

    model: Model | Universal
    training: Mapping[str, Any] = field(default_factory=dict)
    picture: bytes = b""


def shipped_folder() -> Path:
    """Where the bundles that ship lie: inside the installed package, or beside it in a checkout."""
    package = Path(detector.__file__).parent
    inside = package / "models"
    return inside if inside.is_dir() else package.parent / "models"


def shipped() -> list[str]:
    """Names of the bundles that ship."""
    return sorted(manifest.parent.name for manifest in shipped_folder().glob(f"*/{MANIFEST}"))


def load_bundle(path_or_name: str | Path, channels: Sequence[str] | None = None) -> Model:
    """Read a bundle by its folder, or by the name of one that ships.

    channels  names for a universal bundle's; any other has its own

    raises BundleError  missing, damaged, or of a version that this program does not know
    raises ConfigError  the bundle is universal, and nothing names the channels
    """
    return for_channels(read_bundle(path_or_name).model, channels)


def for_channels(model: Model | Universal, channels: Sequence[str] | None) -> Model:
    """A model ready to judge: a universal one gets its channels, any other has them. raises ConfigError  as `load_bundle`"""
    if isinstance(model, Model):
        return model
    if not channels:
        raise ConfigError(
            f"the model '{model.name}' judges any channels, and nothing says which are yours",
            fix="name them: 'input: {channels: [temperature, rpm]}' in the configuration, or --channels where a command has it; "
            "or choose a model that was trained on your channels",
        )
    names = tuple(channels)
    return model.model(_digest({"bundle": model.fingerprint, "channels": names}, b""), names)


def read_bundle(path_or_name: str | Path) -> Bundle:
    """The same with what people want to know of its making; a universal model as it is on disk."""
    folder = _find(path_or_name)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        stored = (folder / TENSORS).read_bytes()
        picture = (folder / PICTURE).read_bytes() if (folder / PICTURE).exists() else b""
    except (OSError, ValueError) as error:
        raise BundleError(f"the bundle {folder} cannot be read: {error}", fix="train it again, or restore it from a backup") from None
    if manifest.get("version") != VERSION:
        raise BundleError(
            f"the bundle {folder} has version {manifest.get('version')}; this program knows version {VERSION}",
            fix="train it again with this program, or install the one that wrote it",
        )
    if manifest.get("fingerprint") != _fingerprint(manifest, stored):
        raise BundleError(f"the bundle {folder} is damaged: it does not match its fingerprint", fix="copy or train it again")
    return Bundle(_assemble(folder.name, manifest, safetensors.numpy.load(stored)), manifest.get("training", {}), picture)


def save_bundle(folder: Path, bundle: Bundle) -> Model | Universal:
    """Write a bundle; returns its model under the name and fingerprint that it has from now on."""
    model = bundle.model
    network = model.network if isinstance(model, Universal) else model.predictor
    tensors = {f"weight.{name}": value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    if isinstance(model, Model):
        assert isinstance(model.scaling, Scaling), "a universal model is saved as it was before its channels were known"
        tensors |= {"scaling.location": model.scaling.location, "scaling.scale": model.scaling.scale}
    tensors |= {f"scorer.{name}": value for name, value in model.scorer.arrays().items()}
    stored = safetensors.numpy.save({name: np.ascontiguousarray(value) for name, value in sorted(tensors.items())})
    manifest: dict[str, Any] = {
        "version": VERSION,
        "kind": network.kind,
        "channels": list(model.channels) if isinstance(model, Model) else ANY,
        "inputs": network.channels,
        "hidden": network.hidden,
        "layers": network.layers,
        "horizons": list(network.horizons),
        "lags": list(network.lags),
        "prior": asdict(model.prior),
        "training": dict(bundle.training),
    }
    manifest["fingerprint"] = _fingerprint(manifest, stored)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TENSORS).write_bytes(stored)
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
        if bundle.picture:
            (folder / PICTURE).write_bytes(bundle.picture)
    except OSError as error:
        raise BundleError(f"the bundle cannot be written to {folder}: {error}") from None
    return _assemble(folder.name, manifest, tensors)


def _find(path_or_name: str | Path) -> Path:
    for folder in (Path(path_or_name), shipped_folder() / path_or_name):
        if (folder / MANIFEST).is_file():
            return folder
    raise BundleError(
        f"there is no model bundle '{path_or_name}'",
        fix=f"name a folder that `detector train` wrote, or one that ships: {', '.join(shipped()) or 'none'}",
    )


def _fingerprint(manifest: Mapping[str, Any], stored: bytes) -> str:
    return _digest({name: manifest[name] for name in JUDGED_BY if name in manifest}, stored)


def _digest(judged_by: Mapping[str, Any], stored: bytes) -> str:
    digest = hashlib.sha256(json.dumps(judged_by, sort_keys=True).encode())
    digest.update(stored)
    return digest.hexdigest()[:32]


def _assemble(name: str, manifest: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Model | Universal:
    def part(prefix: str) -> dict[str, NDArray[Any]]:
        return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

    try:
        fingerprint, channels = manifest["fingerprint"], manifest["channels"]
        is_universal = channels == ANY
        network = Predictor(
            channels=manifest["inputs"],
            hidden=manifest["hidden"],
            layers=manifest["layers"],
            kind=manifest["kind"],
            horizons=tuple(manifest["horizons"]),
            lags=tuple(manifest["lags"]),
        )
        network.load_state_dict({key: torch.from_numpy(value.copy()) for key, value in part("weight.").items()})
        scorer, prior = BandScorer(**part("scorer.")), Prior(**manifest["prior"])
        if is_universal:
            return Universal(name, fingerprint, network.eval(), scorer, prior)
        return Model(
            name,
            fingerprint,
            tuple(channels),
            network.eval(),
            Scaling(tensors["scaling.location"], tensors["scaling.scale"]),
            scorer,
            prior,
        )
    except (KeyError, TypeError, RuntimeError) as error:
        raise BundleError(f"the bundle '{name}' lacks something: {error}", fix="train it again") from None
