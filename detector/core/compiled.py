"""numba's decorator as the core uses it, and where the machine code is kept.

numba keeps machine code in a folder and looks at the date of one source file to see whether it is still right. It does not see that a
function which is called from another file has changed. So the folder is named after a hash of all sources of the core. The first of these
that can be written is used:

    $NUMBA_CACHE_DIR, the user's cache folder ($XDG_CACHE_HOME or ~/.cache), the folder for temporary files

Where none can be written, every start compiles anew; `cache_folder` is None then, and the service says so.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import config


def _sources_hash() -> str:
    """A short name for the sources of the core and the version of numba: what the machine code follows from, besides the processor."""
    digest = hashlib.sha256(numba.__version__.encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def _first_writable() -> Path | None:
    chosen, user = os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")
    try:
        in_home = Path(user) if user else Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        in_home = None
    places = [Path(chosen) if chosen else None, in_home / "detector" if in_home else None, Path(tempfile.gettempdir()) / "detector"]
    name = _sources_hash()
    for place in places:
        if place is not None:
            folder = place / name
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with tempfile.TemporaryFile(dir=folder):
                    return folder
            except OSError:
                continue
    return None


cache_folder: Path | None = _first_writable()
"""Where machine code is kept between starts; None: nowhere, so that every start takes as long as the first."""


def is_kept(function: Any) -> bool:
    """Whether the folder has machine code of an `entry`, for some processor."""
    return cache_folder is not None and any(cache_folder.rglob(f"*.{function.py_func.__name__}-*.nbi"))


FASTMATH = {"contract"}
"""Products and sums that follow each other may be fused (FMA), in the same way for every row; nothing else is reordered."""


def entry(function: Callable[..., Any]) -> Any:
    """Compile a function that Python calls, when it is first called; its machine code is kept.

    Division by zero gives infinity or NaN, as in NumPy.
    """
    before, config.CACHE_DIR = config.CACHE_DIR, str(cache_folder or "")
    try:
        return numba.njit(function, fastmath=FASTMATH, error_model="numpy", cache=cache_folder is not None)
    finally:
        config.CACHE_DIR = before


def compiled(function: Callable[..., Any]) -> Any:
    """Compile a function that other compiled functions call. It allocates nothing."""
    return numba.njit(function, fastmath=FASTMATH, error_model="numpy", _nrt=False)


def allocating(function: Callable[..., Any]) -> Any:
    """The same for one that makes arrays."""
    return numba.njit(function, fastmath=FASTMATH, error_model="numpy")


def inlined(function: Callable[..., Any]) -> Any:
    """The same for a small one, which becomes part of those that call it."""
    return numba.njit(function, fastmath=FASTMATH, error_model="numpy", forceinline=True, _nrt=False)


def written_out(function: Callable[..., Any]) -> Any:
    """The same for one that gives part of an array: it is put in the place of its call before anything is compiled."""
    return numba.njit(function, inline="always")
