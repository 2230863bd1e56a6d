"""`detector` in processes of their own that begin with its imports done: forked from a server that has imported them once.

Imports take longer than all else that most of these processes do. That one started by hand does the same is for
`tests/deploy/test_package.py` and `test_pod.py`.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Thread

IMPORTED = (
    "rich.table",
    *("detector.adapters." + name for name in ("alertmanager.sender", "bundle", "http_server", "kafka.log", "prometheus.metrics")),
    *("detector.cli", "detector.cli.run", "detector.cli.wiring", "detector.service.signals"),
)
"""What `detector run` imports."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(IMPORTED))


class Forked:
    """`detector` with these arguments. Has as much of `subprocess.Popen` as tests use.

    environment  variables that it has beside those of this process, of which DETECTOR_* do not reach it
    out, err     files that it appends to
    first        what it does before
    """

    def __init__(
        self, arguments: Sequence[str], environment: Mapping[str, str], out: Path, err: Path, first: Callable[[], None] | None = None
    ) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("DETECTOR_")}
        for path in (out, err):
            path.touch()  # there is something to read from now on
        self._process = _context.Process(target=_run, args=(arguments, inherited | dict(environment), out, err, first), daemon=True)
        self._process.start()

    def poll(self) -> int | None:
        """Its exit code; None while it runs, negative if a signal ended it."""
        return self._process.exitcode

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def wait(self, timeout: float | None = None) -> int:
        """raises subprocess.TimeoutExpired  it has not ended"""
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("detector", timeout or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        """To one that still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL, also to one that is stopped."""
        self._process.kill()


def _run(arguments: Sequence[str], environment: Mapping[str, str], out: Path, err: Path, first: Callable[[], None] | None) -> None:
    os.setsid()  # Ctrl-C is for the tests, which then end this one
    os.environ.clear()
    os.environ.update(environment)
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_APPEND), number)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115 - for as long as it lives
    faulthandler.register(signal.SIGUSR1)  # says where every thread is
    Thread(target=_leave_with_parent, daemon=True).start()
    if first is not None:
        first()
    from detector.cli import main

    sys.exit(main(list(arguments)))


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
