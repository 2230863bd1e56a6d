"""The image's Dockerfile: what can be proven of it without a registry and an engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.docker.requirements import requirements
from detector import __version__
from detector.adapters.http_server import HttpServer
from detector.config import Config
from tests.conftest import need_part
from tests.deploy.commands import parsed

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = ROOT / "pyproject.toml"
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
TEXT = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text())


def instruction(name: str) -> str:
    """The last one of this name, on one line."""
    return str(re.findall(rf"^{name} (.*)$", TEXT, re.MULTILINE)[-1])


def test_buildkit_has_nothing_against_it(tmp_path: Path) -> None:
    check = need_part("dockerfile-check")
    found = subprocess.run([check, DOCKERFILE], capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE.read_text().replace("USER 65532:65532", "ENV USER $NOBODY\nCMD detector"))
    found = subprocess.run([check, tmp_path / "Dockerfile"], capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "JSONArgsRecommended" in found.stdout
    assert "UndefinedVar" in found.stdout


def test_bases_are_pinned_and_the_version_is_the_package_s() -> None:
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-\w+", re.findall(r"^ARG BASE=(\S+)", TEXT, re.MULTILINE)[0])
    assert re.findall(r"^ARG VERSION=(\S+)", TEXT, re.MULTILINE) == [__version__]
    assert "version" in tomllib.loads(PYPROJECT.read_text())["project"]["dynamic"]  # it is the code's own


def test_it_does_not_run_as_root() -> None:
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", instruction("USER"))


def test_what_it_runs_is_a_command() -> None:
    entrypoint, command = json.loads(instruction("ENTRYPOINT")), json.loads(instruction("CMD"))
    assert entrypoint == ["tini", "--", "detector"]
    assert parsed(command)[0] == "run"


def test_all_that_is_copied_is_there_and_not_ignored() -> None:
    let_in = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {source for line in re.findall(r"^COPY (?!--from)(.*) \S+$", TEXT, re.MULTILINE) for source in line.split()}
    assert copied == let_in
    for source in copied:
        assert (ROOT / source).exists(), source


def test_dependencies_are_those_of_the_package() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    assert requirements(PYPROJECT, "") == project["dependencies"]
    assert requirements(PYPROJECT, "train, bench")[-1] == project["optional-dependencies"]["bench"][-1]
    with pytest.raises(KeyError, match="nonsense"):
        requirements(PYPROJECT, "nonsense")


class Health:
    """What the health check asks for; it can be made unwell."""

    good = True

    def metrics(self, accept: str) -> tuple[bytes, str]:
        return b"", ""

    def healthy(self) -> tuple[bool, str]:
        return self.good, "said so"

    ready = healthy


@pytest.fixture
def health() -> Iterator[tuple[Health, HttpServer]]:
    pages = Health()
    server = HttpServer("127.0.0.1", 0, pages)
    yield pages, server
    server.close()


def test_the_health_check_asks_the_service(health: tuple[Health, HttpServer]) -> None:
    pages, server = health
    python, *arguments = json.loads(TEXT[TEXT.index("HEALTHCHECK") :].splitlines()[0].split("CMD ")[1])
    assert python == "python3"

    def asked() -> int:
        environment = {"DETECTOR_HTTP__PORT": str(server.port)}
        return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, check=False).returncode

    assert asked() == 0
    pages.good = False
    assert asked() == 1
    assert f"'{Config().http.port}'" in arguments[-1]
