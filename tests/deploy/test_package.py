"""What `make wheel` builds, and that it runs where nothing is installed but what a plain `pip install` brings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import uuid
import venv
import zipfile
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from itertools import takewhile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import detector
from detector.adapters.bundle import shipped

ROOT = Path(__file__).resolve().parent.parent.parent
NAME = f"detector-{detector.__version__}"


def run(*command: str | Path, cwd: Path) -> str:
    """What the command printed; it must succeed. No setting of this machine reaches it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("DETECTOR_", "PYTHON"))}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it, as `make wheel` makes them."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def plain(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands' folder of an environment with the wheel and what it requires without extras, and nothing else.

    What it requires is linked from this environment: to install torch anew would take minutes.
    """
    home = tmp_path_factory.mktemp("plain")
    venv.create(home, with_pip=False)
    (site,) = home.glob("lib/python*/site-packages")
    for name in required(wheel_requirements(wheel)):
        found = distribution(name)
        for top in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}:
            link = site / top
            if not link.exists():
                link.symlink_to(Path(str(found.locate_file(top))))
    run(sys.executable, "-m", "pip", "--python", home, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=home)
    return home / "bin"


def wheel_requirements(wheel: Path) -> list[str]:
    """The lines `Requires-Dist` of a wheel's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        metadata = archive.read(f"{NAME}.dist-info/METADATA").decode()
    return [line.removeprefix("Requires-Dist: ") for line in metadata.splitlines() if line.startswith("Requires-Dist: ")]


def required(requirements: Iterable[str], extras: Iterable[str] = ()) -> set[str]:
    """Names of all distributions that these requirements bring, as far as they are for this machine."""
    found: set[str] = set()
    due = [(line, frozenset(extras)) for line in requirements]
    seen = set(due)
    while due:
        line, wanted = due.pop()
        requirement = Requirement(line)
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in (wanted or {""})):
            continue
        try:
            further = distribution(requirement.name).requires or []
        except PackageNotFoundError:
            continue  # CUDA's libraries, where torch is a build for CPUs
        found.add(canonicalize_name(requirement.name))
        new = {(each, frozenset(requirement.extras)) for each in further} - seen
        seen |= new
        due += new
    return found


def test_the_wheel_holds_the_program_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        stored = {name: archive.read(name) for name in names}
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "detector").rglob("*.py")} | {"detector/py.typed"}
    models = {f"detector/{path.relative_to(ROOT)}" for name in shipped() for path in (ROOT / "models" / name).iterdir() if path.is_file()}
    assert {"detector/models/universal/manifest.json", "detector/models/plant/tensors.safetensors"} <= models
    about = {f"{NAME}.dist-info/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")}
    assert names == sources | models | about
    assert stored["detector/__init__.py"] == (ROOT / "detector" / "__init__.py").read_bytes()
    metadata = stored[f"{NAME}.dist-info/METADATA"].decode()
    for line in (f"Version: {detector.__version__}", "License-Expression: Apache-2.0", "Requires-Python: >=3.11"):
        assert f"\n{line}\n" in metadata


def test_the_sdist_holds_what_is_read_and_built(dist: Path) -> None:
    with tarfile.open(dist / f"{NAME}.tar.gz") as archive:
        names = {name.removeprefix(f"{NAME}/") for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "constraints.txt",
        "deploy/detector.yaml",
        "docs/operations.md",
    } <= names
    assert not [name for name in names if name.startswith(("tests", ".venv", ".cache", "dist")) or "__pycache__" in name]


def test_sdist_and_checkout_build_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, ROOT, cwd=tmp_path)
    assert (tmp_path / wheel.name).read_bytes() == wheel.read_bytes()


def test_what_extras_bring_is_not_required(wheel: Path, plain: Path) -> None:
    """Otherwise `plain` proves nothing."""
    lean = required(wheel_requirements(wheel))
    assert {"numpy", "numba", "confluent-kafka", "typer"} <= lean
    assert not {"torch", "matplotlib", "scikit-learn", "statsmodels", "pytest"} & lean
    code = "import importlib.util as u, sys; print([name for name in sys.argv[1:] if u.find_spec(name)])"
    assert run(plain / "python", "-c", code, "torch", "matplotlib", "sklearn", "statsmodels", "pytest", cwd=plain) == "[]\n"


def test_a_plain_install_runs(plain: Path, plant_recording: Path, tmp_path: Path) -> None:
    """Outside of any checkout, with the bundles that ship: what the service imports and does, but for Kafka."""
    command = plain / "detector"
    assert run(command, "--version", cwd=tmp_path) == f"detector {detector.__version__}\n"
    assert "Usage" in run(command, "run", "--help", cwd=tmp_path)
    assert "input" in json.loads(run(command, "schema", "config", cwd=tmp_path))["properties"]
    told = run(command, "check", "--no-broker", "--topic", "sensors", "--channels", "temperature,rpm", cwd=tmp_path)
    assert "model          good: universal" in told
    told = run(command, "replay", plant_recording, "--out", "verdicts.parquet", "--alerts", "alerts.jsonl", cwd=tmp_path)
    assert " of 8 streams" in told
    first = json.loads((tmp_path / "alerts.jsonl").read_text().splitlines()[0])
    assert first["detector"] == {"version": detector.__version__}
    assert first["model"]["name"] == "universal"


@pytest.mark.broker
def test_a_plain_install_serves(plain: Path, kafka: str, tmp_path: Path) -> None:
    options = ["--group", f"plain-{uuid.uuid4().hex[:8]}", "--topic", f"plain-{uuid.uuid4().hex[:8]}", "--bootstrap-servers", kafka]
    run(plain / "detector", "topics", "create", "--with-input", *options, cwd=tmp_path)
    command = [str(plain / "detector"), "run", "--channels", "temperature,rpm", *options]
    environment = {"DETECTOR_HTTP__PORT": "0", "DETECTOR_HTTP__HOST": "127.0.0.1", "PATH": os.environ["PATH"]}
    service = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert service.stdout is not None
        told = "".join(takewhile(lambda line: "worker running" not in line, service.stdout))
        service.terminate()
        told += service.communicate(timeout=30)[0]
    finally:
        service.kill()
    assert service.returncode == 0, told
    assert f"detector {detector.__version__}" in told
