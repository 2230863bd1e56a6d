"""The walls of the house: imports point one way, and each part of the world has one door.

    core <- codec <- ports <- adapters, service, lab <- cli
                   tables <- adapters, lab, inspection <- cli

`errors` has no imports of its own and may be imported from anywhere but core; `backoff` has none either, and waits for adapters and service;
`config` imports only `errors`, and may be from anywhere
but core and codec;
`service`, `adapters` and `lab` do not import each other.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "detector").rglob("*.py"))

MAY_IMPORT = {
    "core": {"core"},
    "codec": {"core", "codec", "errors"},
    "ports": {"core", "codec", "errors"},
    "errors": set[str](),
    "backoff": set[str](),
    "config": {"errors", "config"},
    "tables": {"core", "codec", "errors", "config", "tables"},
    "inspection": {"core", "codec", "errors", "config", "tables", "inspection"},
    "adapters": {"core", "codec", "ports", "errors", "config", "backoff", "tables", "adapters"},
    "service": {"core", "codec", "ports", "errors", "config", "backoff", "service"},
    "lab": {"core", "codec", "ports", "errors", "config", "lab"},
}
PURE = {"core", "codec"}
IMPURE = {
    *("asyncio", "glob", "http", "io", "logging", "os", "pathlib", "random", "secrets", "shutil", "signal", "socket", "subprocess"),
    *("sys", "tempfile", "threading", "time", "urllib"),
    *("confluent_kafka", "prometheus_client", "pydantic_settings", "requests", "rich", "structlog", "typer", "yaml"),
}
MACHINE_CODE = ROOT / "detector" / "core" / "compiled.py"
"""Finds a folder in which numba may keep machine code: the one file of the core that looks at the machine."""
ONLY_IN = {"confluent_kafka": ("adapters/kafka/*.py",), "prometheus_client": ("adapters/prometheus/*.py",)}

COMPARED = ("lab/evaluate/*.py", "cli/evaluate.py", "cli/evaluate_home.py")
"""Who may load the evaluation: `run`, `replay` and `train` do not wait for it."""
ONLY_WHERE_ASKED_FOR = {
    "torch": ("lab/gradient.py", "lab/network.py", "lab/projection.py"),
    "matplotlib": ("lab/plotting.py", "lab/evaluate/plot.py"),
    **dict.fromkeys(("sklearn", "statsmodels", "threadpoolctl"), ("lab/evaluate/*.py",)),
    **dict.fromkeys(("scipy", "pandas"), ()),
}
"""Libraries of the extras `train` and `bench`, and what they bring."""


def imports(path: Path) -> Iterator[str]:
    """Dotted names of all that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(path: Path) -> str:
    return path.relative_to(ROOT / "detector").parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports(path: Path) -> None:
    allowed = MAY_IMPORT.get(room(path))
    for name in imports(path):
        package, *rest = name.split(".")
        if package == "detector" and allowed is not None:
            assert not rest or rest[0] in allowed | {"__version__"}, f"{room(path)} must not import {name}"
        if room(path) in PURE and path != MACHINE_CODE:
            assert package not in IMPURE or name == "io.BytesIO", f"{room(path)} is pure and must not import {name}"
            assert name != "pydantic" or room(path) != "core"
            assert not name.startswith("numpy.random"), f"{room(path)} has no hidden randomness: {name}"
        if package in ONLY_IN:
            inner = path.relative_to(ROOT / "detector")
            assert any(inner.match(pattern) for pattern in ONLY_IN[package]), f"{inner} must not import {name}"


@pytest.mark.parametrize("path", [path for path in FILES if room(path) in PURE], ids=lambda path: str(path.relative_to(ROOT)))
def test_pure_rooms_have_no_clock_and_no_files(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"open", "print", "input"}, f"line {node.lineno}: {called}()"
            assert not called.endswith((".now", ".utcnow", ".today")), f"line {node.lineno}: {called}() reads the clock"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_evaluation_and_its_libraries_are_loaded_by_nobody_else(path: Path) -> None:
    inner = path.relative_to(ROOT / "detector")
    for name in imports(path):
        package = name.split(".")[0]
        patterns = COMPARED if name.startswith("detector.lab.evaluate") else ONLY_WHERE_ASKED_FOR.get(package, ("*",))
        assert any(inner.match(pattern) for pattern in patterns), f"{inner} must not import {name}"
