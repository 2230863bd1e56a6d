"""What the project needs to run, one requirement a line: `python requirements.py pyproject.toml "train,bench"`.

For the image: its dependencies are a layer of their own, which a change of the code leaves as it is.
"""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: Path, extras: str) -> list[str]:
    """The dependencies of the project and of these extras (`a,b`); KeyError names an extra that is none."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    names = [name.strip() for name in extras.split(",") if name.strip()]
    return [*project["dependencies"], *(need for name in names for need in project["optional-dependencies"][name])]


if __name__ == "__main__":
    sys.stdout.write("\n".join(requirements(Path(sys.argv[1]), sys.argv[2])) + "\n")
