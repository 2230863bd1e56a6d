"""Where machine code is kept: in a folder that follows the sources and can be written."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from detector.core import compiled

CORE = Path(compiled.__file__).parent
PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from detector.core import compiled
@compiled.entry
def twice(x):
    return 2 * x
assert twice(21) == 42
assert compiled.is_kept(twice) == (compiled.cache_folder is not None)
print(compiled.cache_folder)
"""


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A tree of the core's sources as far as this needs them."""
    root = tmp_path / "tree"
    (root / "detector" / "core").mkdir(parents=True)
    for package in (root / "detector", root / "detector" / "core"):
        (package / "__init__.py").touch()
    (root / "detector" / "core" / "compiled.py").write_bytes((CORE / "compiled.py").read_bytes())
    (root / "detector" / "core" / "other.py").write_text("ONE = 1\n")
    return root


def kept_in(root: Path, **environment: str) -> str:
    """Compile and run a function in another process; where its machine code was kept."""
    program = root / "program.py"
    if not program.exists():
        program.write_text(PROGRAM.format(root=str(root)))
    own = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "PYTHONPATH", "TMPDIR")}
    done = subprocess.run([sys.executable, str(program)], env=own | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def files_in(folder: str) -> set[str]:
    return {path.name for path in Path(folder).rglob("*") if path.is_file()}


def test_it_follows_the_sources(copied: Path, tmp_path: Path) -> None:
    """A change of any file of the core, also of one that the compiled one only calls, is another folder; none is the same, and used again."""
    place = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    first = kept_in(copied, **place)
    assert Path(first).parent == tmp_path / "cache"
    assert {name.rsplit(".", 1)[1] for name in files_in(first)} == {"nbi", "nbc"}
    before = {path: path.stat().st_mtime_ns for path in Path(first).rglob("*.nbc")}
    assert kept_in(copied, **place) == first
    assert {path: path.stat().st_mtime_ns for path in Path(first).rglob("*.nbc")} == before
    (copied / "detector" / "core" / "other.py").write_text("ONE = 2\n")
    assert kept_in(copied, **place) != first


def test_the_first_place_that_can_be_written_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment names; else the user's cache folder; else the one for temporary files. A file where a folder should be cannot be
    written to, whoever runs this."""
    blocked, home, cache, temporary = (tmp_path / name for name in ("a file", "home", "cache", "tmp"))
    blocked.touch()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setenv("HOME", str(home))

    def place(numba_cache_dir: Path | None = None, xdg_cache_home: Path | None = None) -> Path | None:
        for name, value in (("NUMBA_CACHE_DIR", numba_cache_dir), ("XDG_CACHE_HOME", xdg_cache_home)):
            if value:
                monkeypatch.setenv(name, str(value))
            else:
                monkeypatch.delenv(name, raising=False)
        found = compiled._first_writable()
        return found and found.parent

    assert place(cache / "own") == cache / "own"
    assert place() == home / ".cache" / "detector"
    assert place(blocked) == home / ".cache" / "detector"
    assert place(blocked, cache) == cache / "detector"
    assert place(blocked, blocked) == temporary / "detector"
    monkeypatch.setattr(tempfile, "tempdir", str(blocked))
    assert place(blocked, blocked) is None


def test_where_nothing_can_be_written_it_still_runs(copied: Path, tmp_path: Path) -> None:
    """As on a read-only system: the folders are there, and nothing can be made in them."""
    blocked = tmp_path / "a file"
    blocked.touch()
    (copied / "program.py").write_text(
        "import tempfile\ntempfile.tempdir = " + repr(str(blocked)) + "\n" + PROGRAM.format(root=str(copied))
    )
    assert kept_in(copied, NUMBA_CACHE_DIR=str(blocked), XDG_CACHE_HOME=str(blocked)) == "None"
    assert not [name for name in files_in(str(copied)) if name.endswith((".nbi", ".nbc"))]


def test_a_start_compiles_nothing() -> None:
    """What a model needs before its first reading is plain Python: a compiled function called by Python would be compiled at every start."""
    program = """
from numba.core import event
with event.install_recorder("numba:compile") as recorded:
    from detector.adapters.bundle import load_bundle
    from detector.core.detector import Detector
    from detector.core.rules import Settings
    for model, channels in (("plant", None), ("universal", ["a", "b"])):
        Detector(load_bundle(model, channels), Settings())
assert not recorded.buffer, [each.data["dispatcher"] for _, each in recorded.buffer]
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=CORE.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
