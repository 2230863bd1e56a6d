"""`detector` with its imports done: waits for its arguments on one line of standard input, as JSON, then runs.

    python -m tests.chaos.warm_worker [KIND]

KIND breaks it on purpose (`tests.chaos.broken`). Ends when its standard input does: it does not outlive who started it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
from threading import Thread

# What `detector run` imports: the seconds that a replacement should not take.
import rich.table  # noqa: F401

import detector.adapters.bundle
import detector.adapters.http
import detector.adapters.kafka_log
import detector.adapters.telemetry
import detector.cli.wiring
import detector.service.signals  # noqa: F401
from detector.cli import main


def _leave_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        from tests.chaos.broken import break_on_purpose

        break_on_purpose(sys.argv[1])
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    faulthandler.register(signal.SIGUSR1)  # says where every thread is
    Thread(target=_leave_with_parent, daemon=True).start()
    sys.exit(main(json.loads(line)))
