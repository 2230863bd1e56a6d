"""Real programs that tests run beside Kafka: fetched or built once, into `.cache/parts`.

    python -m tests.parts.parts            all of them (`make parts`)
    python -m tests.parts.parts promtool   these only

A program that is on the PATH is taken as it is. Otherwise Debian's packages are unpacked, not installed (nothing is started and
no root is needed), and Go's programs are built from the go.mod beside this file, which pins every module that goes into them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / ".cache" / "parts"
LINES_SHOWN = 12


class PartMissing(Exception):
    """A program is not there and cannot be had; the message says why and what to do."""


class Source(Protocol):
    """Where a program comes from."""

    def fetch(self, name: str) -> Path:
        """The program's file, made if need be.

        raises PartMissing  with what the package manager or the compiler said
        """


@dataclass(frozen=True, slots=True)
class Debian:
    """A program of a Debian package that depends on nothing but the C library.

    data   where it looks for files of its package, an absolute path; the unpacked program looks for them below the folder that it
           runs in, which has to be that of the package: `part(...).parents[2]`
    """

    package: str
    program: str
    data: str = ""

    def fetch(self, name: str) -> Path:
        folder = CACHE / self.package
        if not folder.exists():
            for tool in ("apt-get", "dpkg-deb"):
                if shutil.which(tool) is None:
                    raise PartMissing(f"{tool} not found, which would fetch Debian's {self.package}: put {name} on the PATH")
            self._download(folder)
        return self._movable(folder / self.program) if self.data else folder / self.program

    def _movable(self, program: Path) -> Path:
        """A copy whose path to its data is a relative one, of the same length."""
        copy, path = program.with_suffix(".movable"), self.data.encode()
        if not copy.exists():
            new = program.with_suffix(".new")
            shutil.copy2(program, new)
            new.write_bytes(program.read_bytes().replace(path, path[1:].replace(b"/", b"//", 1)))
            new.rename(copy)
        return copy

    def _download(self, folder: Path) -> None:
        new = CACHE / f"{self.package}.new"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        download = ["apt-get", "-q", "download", self.package]
        lists = CACHE / "apt"  # lists of one's own: the machine's may be old or empty, and need root to be renewed
        (lists / "lists" / "partial").mkdir(parents=True, exist_ok=True)
        (lists / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        own = ["-o", f"Dir::State::lists={lists}/lists", "-o", f"Dir::Cache={lists}/cache"]
        if subprocess.run(download, cwd=new, capture_output=True, check=False).returncode != 0:
            _done(["apt-get", "-q", *own, "update"], new)
            _done([download[0], *own, *download[1:]], new)
        (package,) = new.glob("*.deb")
        _done(["dpkg-deb", "--extract", str(package), str(new)], new)
        package.unlink()
        new.rename(folder)


@dataclass(frozen=True, slots=True)
class Go:
    """A program of a Go module; `folder`, beside this file, holds a go.mod that pins it, and perhaps a program of our own around it."""

    folder: str
    package: str

    def fetch(self, name: str) -> Path:
        home = HERE / self.folder
        version = hashlib.sha256(b"".join(source.read_bytes() for source in sorted(home.iterdir()))).hexdigest()[:12]
        program = CACHE / f"{name}-{version}"
        if not program.exists():
            if shutil.which("go") is None:
                raise PartMissing(f"go not found, which would build {name}: install Go 1.24 or newer, or put {name} on the PATH")
            print(f"Building {name}; the first time takes minutes ...", file=sys.stderr, flush=True)
            new = program.with_suffix(".new")
            _done(["go", "build", "-o", str(new), self.package], home)
            new.rename(program)
        return program


PARTS: Mapping[str, Source] = {
    "prometheus": Debian("prometheus", "usr/bin/prometheus"),
    "promtool": Debian("prometheus", "usr/bin/promtool"),
    "compose-config": Go("compose", "."),
    "custom-resources-check": Go("custom_resources", "."),
    "dockerfile-check": Go("dockerfile", "."),
    "prometheus-alertmanager": Debian(
        "prometheus-alertmanager", "usr/bin/prometheus-alertmanager", data="/usr/share/prometheus/alertmanager"
    ),
    "amtool": Debian("prometheus-alertmanager", "usr/bin/amtool"),
    "helm": Go("helm", "helm.sh/helm/v3/cmd/helm"),
    "schema-registry": Go("schema_registry", "github.com/axonops/axonops-schema-registry/cmd/schema-registry"),
}


def part(name: str) -> Path:
    """The program of that name, fetched or built on first use.

    raises PartMissing  it cannot be had here
    """
    if found := shutil.which(name):
        return Path(found)
    with _alone():
        return PARTS[name].fetch(name)


@contextmanager
def _alone() -> Iterator[None]:
    """One process fetches at a time: the others find what it made."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _done(command: list[str], folder: Path) -> None:
    """Run to the end; what went wrong is for the person."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "GOWORK": "off"})
    if done.returncode != 0:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-LINES_SHOWN:])
        raise PartMissing(f"{' '.join(command[:3])} failed:\n{said}")


def main(names: list[str]) -> int:
    """Fetch these parts, or all; a line each."""
    missing = 0
    for name in names or PARTS:
        try:
            print(f"{name}: {part(name)}")
        except PartMissing as error:
            missing += 1
            print(f"{name}: {error}", file=sys.stderr)
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
